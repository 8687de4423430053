"""Fixtures that start real processes (tests/harness.py says what is asked of them), and a book of budgets."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

# Read when numpy and torch are imported, here and in every process that a test starts: on two cores, threads of several
# processes wait for one another, and a fit was seen to take three times as long as on one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import pytest

from demo.proxy_process import ProxyProcess, StubProcess
from demo.redis_process import RedisProcess
from litellm_erp.budgets.book import SpendBook
from litellm_erp.budgets.counters import Counters
from tests.harness import GROUP, MODELS, SPARE, Json, proxy_config, write_config, write_keys
from tests.money import Clock
from tests.pools import fit_bundle, fit_rivals, group_settings

# Read when LiteLLM is imported, by tests that import it themselves: no download.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

# The same examples every time: a run that fails is a change that broke something, and stays broken until it is mended.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.load_profile("same")

StartProxy = Callable[..., ProxyProcess]


# A shell that runs the tests in the background has them ignore interrupts, and with them every process that a test
# starts in order to interrupt it.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Before Python 3.12 a collection during ContextVar.set may run a finaliser that sets one too, and the process dies
# (python/cpython#148891): rarely, and only while upstream calls fail, whose HTTP sessions LiteLLM leaves to the
# collector.
RARE_COLLECTIONS = {} if sys.version_info >= (3, 12) else {"PYTHON_GC_THRESHOLD": "1000000,50,50"}


@pytest.fixture
def clock() -> Clock:
    """The clocks of ``book``."""
    return Clock()


@pytest.fixture
def book(clock: Clock) -> SpendBook:
    """Budgets of one process that shares them with nobody."""
    return SpendBook(Counters("here"), lambda: clock.wall_s, lambda: clock.steady_s)


@pytest.fixture(scope="session")
def planted_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle from ``erp-train import`` and ``fit`` in which each model is best at one kind of prompt; read only."""
    return fit_bundle(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="session")
def shuffled_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``planted_bundle``, with nothing to learn: ``big`` is the best single model; read only."""
    return fit_bundle(tmp_path_factory.mktemp("shuffled"), shuffled=True)


@pytest.fixture(scope="session")
def rival_bundles(planted_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles of the other policies, by policy, fitted on what ``planted_bundle`` was; read only."""
    return fit_rivals(planted_bundle.parent / "run", tmp_path_factory.mktemp("rivals"))


@pytest.fixture(scope="session")
def stub_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubProcess]:
    """One stub upstream for the whole session; tests take ``stub``, which resets it."""
    log = tmp_path_factory.mktemp("stub") / "stub.log"
    with StubProcess((*MODELS, SPARE), log_path=log) as process:
        yield process


@pytest.fixture
def stub(stub_process: StubProcess) -> Iterator[StubProcess]:
    """The session's stub, with every model well and no record, as it is again for whoever uses it next."""
    stub_process.reset()
    yield stub_process
    stub_process.reset()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    """A Redis of a module's own, empty when it begins."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: scripts/setup_debian.sh")
    with RedisProcess() as process:
        yield process


@pytest.fixture
def start_proxy(tmp_path: Path) -> Iterator[StartProxy]:
    """``start_proxy(config, env=…, num_workers=…)``; the proxies of a test end with it."""
    with ExitStack() as stack:
        yield _starter(stack, tmp_path)


@pytest.fixture(scope="module")
def start_module_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartProxy]:
    """As ``start_proxy``, for the module-scoped fixtures in which tests share a proxy."""
    with ExitStack() as stack:
        yield _starter(stack, tmp_path_factory.mktemp("proxy"))


@pytest.fixture(scope="module")
def start_team_proxy(
    start_module_proxy: StartProxy,
    stub_process: StubProcess,
    planted_bundle: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> StartProxy:
    """``start_team_proxy(teams, settings=…, env=…, litellm_settings=…)``: each team has a key, ``sk-<team>``."""
    folder = tmp_path_factory.mktemp("keys")

    def start(teams: Json, *, settings: Json | None = None, env: Json | None = None, **options: Any) -> ProxyProcess:
        document = {"groups": {GROUP: group_settings(planted_bundle, teams=teams)}} | (settings or {})
        keys = write_keys(folder / "keys.json", {f"sk-{name}": {"team_id": name} for name in teams})
        config = proxy_config(stub_process, erp_settings=document, **options)
        return start_module_proxy(config, env=keys | (env or {}))

    return start


def _starter(stack: ExitStack, folder: Path) -> StartProxy:
    started = 0

    def start(config: Json, **options: Any) -> ProxyProcess:
        nonlocal started
        started += 1
        own = folder / f"proxy-{started}"
        own.mkdir()
        path = write_config(own / "config.yaml", config)
        env = RARE_COLLECTIONS | dict(options.pop("env", None) or {})
        return stack.enter_context(ProxyProcess(path, log_path=own / "proxy.log", env=env, **options))

    return start
