"""Tests with real engines: ``python -m pytest -m vllm tests/live``; without ``-m vllm`` they are not even collected.

``ERP_VLLM_PYTHON`` names an interpreter that has vLLM, ``ERP_SMALL_MODELS`` a folder of models. What is not named is
made: .venv-vllm by scripts/setup_vllm.sh (3.5 GB, a few minutes), build/models by scripts/small_models.py.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.proxy_process import REPOSITORY
from demo.vllm_process import VLLMProcess


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "vllm: starts a real vLLM")
    config.addinivalue_line("markers", "ray: starts a Ray cluster with a real vLLM")


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return None if config.option.markexpr in ("vllm", "ray") else True


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """An interpreter that has vLLM."""
    named = os.environ.get("ERP_VLLM_PYTHON")
    if named:
        return Path(named)
    subprocess.run([REPOSITORY / "scripts" / "setup_vllm.sh"], check=True)
    return REPOSITORY / ".venv-vllm" / "bin" / "vllm-python"


@pytest.fixture(scope="session")
def smollm2(vllm_python: Path) -> Path:
    """The folder of SmolLM2-135M-Instruct."""
    folder = Path(os.environ.get("ERP_SMALL_MODELS", REPOSITORY / "build" / "models"))
    subprocess.run([vllm_python, REPOSITORY / "scripts" / "small_models.py", "--out", folder, "smollm2"], check=True)
    return folder / "SmolLM2-135M-Instruct"


@pytest.fixture(scope="session")
def vllm_server(vllm_python: Path, smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLMProcess]:
    """One server of SmolLM2 for the whole session."""
    with VLLMProcess(vllm_python, smollm2, "smollm2", log_path=tmp_path_factory.mktemp("vllm") / "vllm.log") as server:
        yield server
