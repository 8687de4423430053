"""What a proxy does with its settings at start: it refuses what is wrong, in one line, and warns of what may change."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.proxy_process import REPOSITORY, ProxyProcess, StubProcess
from litellm_erp.errors import ServingError
from tests.harness import GROUP, SPARE, Json, ask, proxy_config, served, write_config
from tests.pools import CHEAPEST, add_group, ask_all, erp_settings, group_settings, prompts, wait_until

pytestmark = pytest.mark.proxy

PROMPT = prompts(1)[0][1]
UNKNOWN = ("last", "first", "exclude")
STRATEGIES = (
    "simple-shuffle",
    "usage-based-routing",
    "usage-based-routing-v2",
    "cost-based-routing",
    "latency-based-routing",
    "least-busy",
)


def corrupt(bundle: Path, folder: Path) -> Path:
    copy = Path(shutil.copytree(bundle, folder / "corrupt"))
    probe = next((copy / "probes").iterdir())
    probe.write_bytes(probe.read_bytes()[:-1])
    return copy


# One mistake in the settings and one in a bundle: test_settings and test_bundle have all the others.
BAD: dict[str, tuple[Callable[[Path, Path], Json], str]] = {
    "unknown-key": (lambda b, f: erp_settings(b, polcy={}), "erp_settings.groups.erp-auto: unknown key 'polcy'"),
    "corrupt-bundle": (lambda b, f: erp_settings(corrupt(b, f)), "truncated"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings_stop_the_proxy_with_one_clear_line(name, stub, planted_bundle, tmp_path):
    make, expected = BAD[name]
    config = proxy_config(stub, erp_settings=make(planted_bundle, tmp_path))
    path = write_config(tmp_path / "config.yaml", config)
    with pytest.raises(ServingError, match="ended with status"):
        ProxyProcess(path, log_path=tmp_path / "proxy.log").start()
    log = (tmp_path / "proxy.log").read_text()
    (line,) = [line for line in log.splitlines() if expected in line]
    assert str(tmp_path) in line
    assert "Traceback" not in log
    assert len(log.splitlines()) < 60


def odd_config(stub: StubProcess, bundle: Path) -> Json:
    """Groups that are not as they should be, each in one way, and one that is."""
    groups: Json = {f"erp-{place}": group_settings(bundle, unknown=place) for place in UNKNOWN}
    for name in ("erp-nowhere", "erp-narrow", "erp-strangers", "erp-free"):
        groups[name] = group_settings(bundle, lambda_=0.1)
    groups |= {f"erp-{strategy}": group_settings(bundle) for strategy in STRATEGIES}
    config = proxy_config(stub, erp_settings=erp_settings(bundle, groups))
    for place in UNKNOWN:
        add_group(config, stub, f"erp-{place}", ["small", SPARE])
    add_group(config, stub, "erp-narrow", ["small", "mid"])
    add_group(config, stub, "erp-strangers", [SPARE])
    for strategy in STRATEGIES:
        add_group(config, stub, f"erp-{strategy}", strategy=strategy)
    add_group(config, stub, "erp-free", params={"input_cost_per_token": 0, "output_cost_per_token": 0})
    return config


@pytest.fixture(scope="module")
def odd(start_module_proxy, stub_process, planted_bundle) -> ProxyProcess:
    return start_module_proxy(odd_config(stub_process, planted_bundle))


@pytest.mark.parametrize(
    "warning",
    [
        "group 'erp-nowhere': is in no routing group",
        "group 'erp-narrow': pool models without a deployment: big",
        "group 'erp-strangers': no deployment belongs to a pool model",
        "group 'erp-last': deployments without a probe in the bundle: spare; they rank last",
        "group 'erp-exclude': deployments without a probe in the bundle: spare; they are left out",
        "group 'erp-free': every price is zero or unknown",
    ],
)
def test_what_keeps_a_group_from_being_routed_is_a_warning_at_start(odd, stub, warning):
    wait_until(lambda: warning in odd.log_text())


def test_a_group_that_is_as_it_should_be_is_not_mentioned(odd, stub):
    wait_until(lambda: "group 'erp-free'" in odd.log_text())
    assert f"group '{GROUP}'" not in odd.log_text()


@pytest.mark.parametrize(("place", "expected"), [("last", "small"), ("first", SPARE), ("exclude", "small")])
def test_a_deployment_without_a_probe_ranks_where_the_settings_say(odd, stub, place, expected):
    answers = ask_all(odd, [{"prompt": PROMPT, "model": f"erp-{place}"}] * 8)
    assert set(served(answers)) == {expected}
    assert {answer.erp["model"] for answer in answers} == {expected}


@pytest.mark.parametrize(("place", "expected"), [("last", SPARE), ("first", "small")])
def test_a_deployment_without_a_probe_takes_part_in_retries(odd, stub, place, expected):
    stub.set_mode("small" if place == "last" else SPARE, "fail:1")
    assert served([ask(odd, PROMPT, model=f"erp-{place}")]) == [expected]


def test_an_excluded_deployment_is_not_even_a_retry(odd, stub):
    stub.set_mode("small", "fail:2")
    assert served([ask(odd, PROMPT, model="erp-exclude")]) == ["small"]
    assert {record["model"] for record in stub.requests()} == {"small"}


@pytest.mark.parametrize("model", ["erp-narrow", "erp-strangers", "erp-free", GROUP])
def test_an_odd_group_still_serves(odd, stub, model):
    assert ask(odd, PROMPT, model=model).status == 200


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_group_is_routed_whatever_its_own_strategy(odd, stub, strategy):
    best, text = prompts(3)[2]
    answers = ask_all(odd, [{"prompt": text, "model": f"erp-{strategy}"}] * 8)
    assert set(served(answers)) == {best}


@pytest.fixture(scope="module")
def two_workers(stub_process, planted_bundle, tmp_path_factory) -> Iterator[ProxyProcess]:
    """Two workers, a config beside the package, and settings from ``ERP_SETTINGS``."""
    folder = tmp_path_factory.mktemp("root")
    # LiteLLM looks for a callback's module beside the config first, as it does for a config in the repository.
    (folder / "litellm_erp").symlink_to(REPOSITORY / "litellm_erp", target_is_directory=True)
    config = proxy_config(stub_process, erp_settings=erp_settings(planted_bundle))
    bundle = Path(shutil.copytree(planted_bundle, folder / "elsewhere" / "bundle"))
    late = {"erp-late": group_settings(Path(bundle.name))}
    settings = erp_settings(Path(bundle.name), late, lambda_=CHEAPEST)
    override = write_config(folder / "elsewhere" / "erp.yaml", {"erp_settings": settings})
    path = write_config(folder / "config.yaml", config)
    env = {"ERP_SETTINGS": str(override)}
    with ProxyProcess(path, log_path=folder / "proxy.log", num_workers=2, env=env) as proxy:
        yield proxy


def test_every_worker_routes_by_the_settings_that_the_environment_names(two_workers, stub):
    answers = ask_all(two_workers, [{"prompt": text} for _, text in prompts(40)])
    assert set(served(answers)) == {"small"}
    assert {answer.erp["lambda"] for answer in answers} == {"100"}


def test_every_worker_warns_once_and_waits_for_a_group_that_is_not_there_yet(two_workers, stub):
    wait_until(lambda: two_workers.log_text().count("group 'erp-late': is in no routing group") == 2)


def test_a_strategy_that_asks_no_callbacks_is_a_warning_not_a_failure(stub, start_proxy, planted_bundle):
    strategy = {"routing_strategy": "usage-based-routing"}
    proxy = start_proxy(proxy_config(stub, erp_settings=erp_settings(planted_bundle), router_settings=strategy))
    answer = ask(proxy, PROMPT)
    assert (answer.status, answer.erp) == (200, {})
    warning = f"group '{GROUP}': router_settings.routing_strategy is 'usage-based-routing', which never asks callbacks"
    wait_until(lambda: warning in proxy.log_text())
