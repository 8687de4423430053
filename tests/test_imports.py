"""What importing the plugin loads, and which way imports point."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.proxy_process import REPOSITORY

HEAVY = {"torch", "transformers", "sklearn", "vllm", "ray", "sentence_transformers", "pyarrow", "erp_trainer"}
SERVING = sorted((REPOSITORY / "litellm_erp").rglob("*.py"))


def modules_after(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after a statement."""
    program = f"import json, sys; {statement}; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, at whatever depth."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def test_the_plugin_loads_nothing_heavy_on_top_of_litellm():
    assert HEAVY & (modules_after("import litellm_erp.proxy") - modules_after("import litellm")) == set()


def test_importing_the_package_does_not_import_litellm():
    assert "litellm" not in modules_after("import litellm_erp, litellm_erp.bundle.load, litellm_erp.serving.group")


@pytest.mark.parametrize("path", SERVING, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_the_serving_half_never_imports_the_trainer_and_only_the_proxy_imports_litellm(path):
    found = packages(path)
    assert "erp_trainer" not in found
    assert "litellm" not in found or path.parent.name == "proxy"


def test_the_pure_modules_import_nothing_that_serves():
    below = {"errors", "decision", "probe", "cost", "budget"}
    above = {f"litellm_erp.{name}" for name in ("bundle", "embedding", "settings", "proxy", "routing", "telemetry")}
    for name in below:
        reached = {".".join(module.split(".")[:2]) for module in imported(REPOSITORY / "litellm_erp" / f"{name}.py")}
        assert reached & above == set(), name
