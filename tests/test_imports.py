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
from scripts.structure import Graph, complaints, imports_of, measure, modules_of

HEAVY = {"torch", "transformers", "sklearn", "vllm", "ray", "sentence_transformers", "pyarrow", "erp_trainer"}
IMPURE = {"asyncio", "httpx", "os", "pathlib"}
SERVING = sorted((REPOSITORY / "litellm_erp").rglob("*.py"))


# What LiteLLM calls things in requests, their metadata and its reports; what it calls them in a config is everybody's.
LITELLMS_KEYS = (
    "standard_logging_object",
    "user_api_key",
    "requester_metadata",
    "litellm_metadata",
    "_hidden_params",
    "litellm_logging_obj",
    "litellm_call_info",
    "model_call_details",
    "previous_models",
    "response_cost",
    "cache_hit",
    "proxy_server_request",
    '"model_group"',
)


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
    assert "litellm" not in found or "proxy" in path.parts


@pytest.mark.parametrize("path", SERVING, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_only_the_proxy_knows_what_litellm_calls_things(path):
    text = path.read_text(encoding="utf-8")
    assert "proxy" in path.parts or [key for key in LITELLMS_KEYS if key in text] == []


def test_no_module_that_says_pure_reaches_files_the_clock_of_a_loop_or_the_network():
    modules = modules_of(REPOSITORY / "litellm_erp") | modules_of(REPOSITORY / "trainer" / "erp_trainer")
    graph = {name: imports_of(name, path, modules) for name, path in modules.items()}
    pure = [name for name, path in modules.items() if path.read_text(encoding="utf-8").startswith('"""PURE')]
    assert len(pure) > 50
    assert {name: sorted(found) for name in pure if (found := reached(name, graph, modules) & IMPURE)} == {}


def reached(name: str, graph: Graph, modules: dict[str, Path]) -> set[str]:
    """Packages that a module imports, itself or through our own modules."""
    found: set[str] = set()
    seen, left = set(), [name]
    while left:
        one = left.pop()
        if one not in seen:
            seen.add(one)
            found |= packages(modules[one])
            left += graph[one]
    return found


def written(folder: Path, **modules: str) -> Path:
    folder.mkdir()
    for name, text in modules.items():
        path = folder / f"{name.replace('__', '/', 1)}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{text}\n\n\ndef {path.stem}(): ...\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("modules", "complaint"),
    [
        ({"a": "import p.b", "b": "from p import a"}, "circles: ['p.a', 'p.b']"),
        ({"a": "def f():\n    from p.b import x", "b": "from . import a"}, "circles: ['p.a', 'p.b']"),
        ({"a": "if TYPE_CHECKING:\n    import p.b as q", "b": "from .a import x"}, "circles: ['p.a', 'p.b']"),
        ({"one__a": "from .. import two", "two____init__": "from p.one.a import *"}, "circles: ['p.one.a', 'p.two']"),
        (
            {"one__a": "import p.two.b", "two__b": "import p.six.c", "six__c": "import p.one.d", "one__d": ""},
            "circles of rooms: ['p.one', 'p.six', 'p.two']",
        ),
        (
            {"one__a": "import p.top", "top": "import p.two.b", "two__b": "import p.one.d", "one__d": ""},
            "circles of rooms: ['p.one', 'p.top', 'p.two']",
        ),
        ({"one__a": "import p.two.b", "two__b": "", "two__c": "import p.one.d", "one__d": ""}, "back imports: p.one.a"),
        ({f"m{i}": f"import p.m{i + 1}" for i in range(12)} | {"m12": ""}, "longest chain: 13 modules"),
        ({f"m{i}": "" for i in range(13)}, "most modules in a room: 13"),
    ],
)
def test_the_structure_check_complains_of(tmp_path, modules, complaint):
    found = complaints(measure([written(tmp_path / "p", **modules)]))
    assert any(line.startswith(complaint) for line in found), found


def test_the_chain_at_load_leaves_out_what_runs_later(tmp_path):
    later = "if TYPE_CHECKING:\n    import p.c\n\ndef f():\n    import p.d\n\nclass A:\n    import p.b"
    found = measure([written(tmp_path / "p", a=later, b="", c="import p.a", d="import p.c")])
    assert found["longest chain at load"] == ["p.d", "p.c", "p.a", "p.b"]
    assert found["circles"] == [["p.a", "p.c", "p.d"]]
    assert found["longest chain"] == ["p.a", "p.b"]


def test_our_own_structure_is_sound():
    assert complaints(measure([REPOSITORY / "litellm_erp", REPOSITORY / "trainer" / "erp_trainer"])) == []
