"""What two workers of a real proxy tell of routing: on /metrics, to LiteLLM's loggers, and on spans."""

import json
import math
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from demo.proxy_process import REPOSITORY, ProxyProcess, ServerProcess
from litellm_erp.metrics.definitions import DEFINITIONS, PLACES, REASONS, STAGES_EVERY
from tests.harness import (
    GOOGLE_ROUTES,
    GROUP,
    MODELS,
    SPARE,
    TEXT_ROUTES,
    Json,
    ask,
    proxy_config,
    write_config,
    write_keys,
)
from tests.pools import CHEAPEST, add_group, ask_all, erp_settings, group_settings, prompts, wait_until

pytestmark = pytest.mark.proxy

TEAMS: Json = {
    "support": {"lambda": CHEAPEST},
    "rich": {"budget_usd": 50, "per": "day"},
    "broke": {"budget_usd": 0, "per": "day", "on_exhausted": "reject"},
}
KEYS = ("research", "support", "rich", "broke")
ROUTES = [*TEXT_ROUTES, *GOOGLE_ROUTES]
SECRET = "xylophone"
OWN = {"Authorization": "Bearer sk-research"}
DEPLOY = REPOSITORY / "deploy"
RULES = (DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8")
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every worker's logger writes."""
    return tmp_path_factory.mktemp("notes") / "notes.jsonl"


@pytest.fixture(scope="module")
def swapped(planted_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of ``erp-quiet``, which may be changed."""
    return Path(shutil.copytree(planted_bundle, tmp_path_factory.mktemp("swapped") / "bundle"))


@pytest.fixture(scope="module")
def proxy(start_module_proxy, stub_process, planted_bundle, swapped, notes, tmp_path_factory) -> ProxyProcess:
    quiet = group_settings(swapped, headers="reason", explore={"share": 0.5, "extra_cost": 1000.0})
    log = {"path": str(tmp_path_factory.mktemp("log") / "decisions")}
    config = proxy_config(
        stub_process,
        erp_settings=erp_settings(planted_bundle, {"erp-quiet": quiet}, teams=TEAMS) | {"decision_log": log},
        callbacks=["prometheus", "otel", "litellm_erp.proxy.erp_router", "tests.noting.noting"],
        litellm_settings={"require_auth_for_metrics_endpoint": False},
    )
    # It has a newcomer, which is tried.
    add_group(config, stub_process, "erp-quiet", (*MODELS, SPARE))
    keys = write_keys(tmp_path_factory.mktemp("keys") / "keys.json", {f"sk-{k}": {"team_id": k} for k in KEYS})
    workers = tmp_path_factory.mktemp("workers")
    env = {
        "PROMETHEUS_MULTIPROC_DIR": str(workers),
        "OTEL_EXPORTER": "console",
        "OTEL_BSP_SCHEDULE_DELAY": "500",
        "USE_OTEL_LITELLM_REQUEST_SPAN": "true",
        "ERP_TEST_NOTES": str(notes),
    }
    return start_module_proxy(config, env=keys | env, num_workers=2)


class PrometheusProcess(ServerProcess):
    """A Prometheus with a config of its own, and what it answers."""

    def __init__(self, config: Path, folder: Path) -> None:
        super().__init__((), ready_path="/-/ready", log_path=folder / "prometheus.log", start_deadline_s=60.0)
        listen = f"--web.listen-address=127.0.0.1:{self.port}"
        self._command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", listen]

    def get(self, path: str, **params: str) -> Any:
        answer = httpx.get(f"{self.base_url}{path}", params=params, trust_env=False, timeout=30.0)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def emptiness_of(self, query: str) -> str:
        """Why a query shows nothing now; "" where it shows something."""
        found = self.get("/api/v1/query", query=query)["result"]
        if not found:
            return "no series"
        return "" if any(math.isfinite(float(series["value"][1])) for series in found) else "no number"


def shown(expr: str) -> str:
    """A panel's query as Grafana sends it, all groups and teams selected."""
    for name, value in {"$group": ".*", "$team": ".*", "$__rate_interval": "20s", "$__range": "5m"}.items():
        expr = expr.replace(name, value)
    assert "$" not in expr
    return expr


@pytest.fixture(scope="module")
def prometheus(proxy: ProxyProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusProcess]:
    """A real one with the rules of deploy/, which asks the proxy each second."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / "rules.yml")]
    job = config["scrape_configs"][0]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{proxy.port}"]}]
    with PrometheusProcess(write_config(folder / "prometheus.yml", config), folder) as process:
        yield process


@pytest.fixture(scope="module")
def asked(proxy: ProxyProcess) -> list[Any]:
    """Answers to some traffic of every team but the one without money."""
    requests = [
        {"prompt": f"{text} {SECRET} {i}", "key": f"sk-{KEYS[i % 3]}"} for i, (_, text) in enumerate(prompts(36))
    ]
    answers = ask_all(proxy, requests)
    assert [a.status for a in answers] == [200] * len(answers)
    assert ask(proxy, "hello", key="sk-broke").status == 429
    for answer in ask_all(proxy, [{"prompt": text, "model": "erp-quiet"} for _, text in prompts(24)]):
        # Of the two workers one knows the request.
        said = {"request_id": answer.headers["x-litellm-call-id"], "reward": 0.0}
        httpx.post(f"{proxy.base_url}/erp/feedback", json=said, headers=OWN, trust_env=False).raise_for_status()
    wait_until(lambda: sum(sample(proxy, "erp_answers_total").values()) >= len(answers), 30)
    return answers


def exposed(proxy: ProxyProcess) -> str:
    return httpx.get(f"{proxy.base_url}/metrics/", trust_env=False, timeout=30.0).text


def sample(proxy: ProxyProcess, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """A metric's samples by their labels."""
    found: dict[tuple[tuple[str, str], ...], float] = defaultdict(float)
    for line in exposed(proxy).splitlines():
        if match := re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line):
            labels = tuple(sorted(re.findall(r'(\w+)="([^"]*)"', match[1] or "")))
            found[labels] += float(match[2])
    return found


def total(proxy: ProxyProcess, name: str, **labels: str) -> float:
    """Sum of the samples with these labels."""
    return sum(v for found, v in sample(proxy, name).items() if labels.items() <= dict(found).items())


def noted(notes: Path) -> list[Json]:
    """What loggers were given of each answer, whole lines only."""
    return [
        json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"
    ]


def labels_of(proxy: ProxyProcess) -> dict[str, set[str]]:
    """Values of each label of ours."""
    found: dict[str, set[str]] = defaultdict(set)
    for line in exposed(proxy).splitlines():
        if line.startswith("erp_"):
            for name, value in re.findall(r'(\w+)="([^"]*)"', line):
                found[name].add(value)
    return found


def test_both_workers_picks_and_answers_add_up_by_team(proxy, asked):
    for name in ("erp_decisions_total", "erp_answers_total"):
        assert [total(proxy, name, group=GROUP, team=team) for team in KEYS[:3]] == [12, 12, 12]
    assert total(proxy, "erp_decisions_total", team="support", model="small") == 12
    assert total(proxy, "erp_budget_refusals_total", team="broke") == 1
    assert sample(proxy, "erp_bundle_loaded")
    assert set(sample(proxy, "erp_bundle_loaded").values()) == {2.0}


def test_every_stage_is_timed(proxy, asked):
    hook = total(proxy, "erp_decision_seconds_sum", group=GROUP)
    stages = [total(proxy, "erp_stage_seconds_sum", group=GROUP, stage=s) for s in ("embed", "predict", "rank")]
    assert all(0 < stage < hook for stage in stages)
    assert sum(stages) < hook
    assert total(proxy, "erp_stage_seconds_count", group=GROUP, stage="rank") >= len(asked) / STAGES_EVERY


def test_costs_are_what_the_answers_cost_and_the_best_single_models_beside_them(proxy, asked):
    cost, expected = (total(proxy, f"erp_{name}_usd_total", group=GROUP) for name in ("cost", "expected_cost"))
    best = total(proxy, "erp_best_single_cost_usd_total", group=GROUP)
    assert expected / 2 < cost < expected * 2
    assert total(proxy, "erp_compared_cost_usd_total", group=GROUP) == pytest.approx(cost)
    assert best > 3 * cost
    bounds = [total(proxy, "erp_bundle_saving_ratio", group=GROUP, bound=b) for b in ("low", "mean", "high")]
    assert bounds == sorted(bounds)
    assert 0 < bounds[0] < bounds[2] < 1


def test_every_metric_is_there_after_some_traffic(proxy, asked):
    more = iter(prompts(2_000, first=20_000))

    def found() -> set[str]:
        # What is explored is a matter of chance, and gauges are set now and then.
        ask_all(proxy, [{"prompt": text, "model": "erp-quiet"} for _, (_, text) in zip(range(8), more, strict=False)])
        lines = exposed(proxy).splitlines()
        return {line.split()[2].removesuffix("_total") for line in lines if line.startswith("# TYPE erp_")}

    wait_until(lambda: found() == {d.name for d in DEFINITIONS}, 30)


def test_a_teams_lambda_and_budget_are_shown(proxy, asked):
    assert total(proxy, "erp_lambda", group=GROUP, team="support") == CHEAPEST
    assert total(proxy, "erp_budget_usd", group=GROUP, team="rich") == 50
    wait_until(lambda: 49 < total(proxy, "erp_budget_remaining_usd", group=GROUP, team="rich") < 50, 30)


def test_a_client_can_make_up_no_label(proxy, asked):
    before = labels_of(proxy)
    odd = {"erp": {"group": "evil", "model": "evil"}}
    for field in ("metadata", "litellm_metadata"):
        sent = {"spend_logs_metadata": odd, "user_api_key_team_id": "evil", "litellm_erp": odd["erp"]}
        assert ask(proxy, "evil", user="evil", **{field: sent}).status == 200
    assert ask(proxy, "evil", model="evil").status != 200
    found = labels_of(proxy)
    assert "evil" not in {value for values in found.values() for value in values}
    assert found["group"] == before["group"] == {GROUP, "erp-quiet"}
    assert found["team"] == {*KEYS, ""}
    assert found["model"] <= {*MODELS, SPARE}
    assert found["reason"] <= {*REASONS, "other"}
    assert found["where"] <= {*PLACES, "other"}
    assert SECRET not in "".join(line for line in exposed(proxy).splitlines() if line.startswith("erp_"))


@pytest.mark.parametrize("route", ROUTES)
def test_loggers_are_told_the_decision_on_every_route(proxy, asked, notes, route):
    before = len(noted(notes))
    answer = ask(proxy, f"What of {route}?", route=route[0], stream=route[1])
    wait_until(lambda: len(noted(notes)) > before, 20)
    told = noted(notes)[before]["erp"]
    assert told["group"] == GROUP
    assert told["model"] == answer.model == answer.erp["model"]
    assert f"{told['expected_reward']:.6g}" == answer.erp["expected-reward"]
    assert set(told) == {"group", "reason", "model", "bundle", "lambda", "expected_reward", "expected_cost_usd"}


def test_spans_have_the_decision_as_attributes(proxy, asked):
    wait_until(lambda: '"erp.model": "small"' in proxy.log_text(), 20)
    log = proxy.log_text()
    assert f'"erp.group": "{GROUP}"' in log
    assert '"erp.reason": "routed"' in log
    assert not [line for line in log.splitlines() if '"erp.' in line and SECRET in line]


def test_every_query_of_the_dashboard_finds_something(proxy, asked, prometheus):
    queries = {(p["title"], t["expr"]): "nothing yet" for p in PANELS for t in p["targets"]}
    more = iter(prompts(10_000, first=100))
    # Of one prompt in 16 it is told how unfamiliar it is, and a mean is of at least 20.
    ask_all(proxy, [{"prompt": text, "key": f"sk-{KEYS[0]}"} for _, (_, text) in zip(range(400), more, strict=False)])

    def answered() -> bool:
        # Rates need traffic between two scrapes.
        some = [{"prompt": text, "key": f"sk-{key}"} for key, (_, text) in zip(KEYS * 6, more, strict=False)]
        ask_all(proxy, [*some, *({"prompt": each["prompt"], "model": "erp-quiet"} for each in some[:4])])
        for name, expr in [key for key, empty in queries.items() if empty]:
            queries[name, expr] = prometheus.emptiness_of(shown(expr))
        return not any(queries.values())

    try:
        wait_until(answered, 90)
    except AssertionError:
        pytest.fail(str({key: empty for key, empty in queries.items() if empty}))
    assert len(PANELS) >= 20


def test_every_rule_is_worked_out(proxy, asked, prometheus):
    rules = [rule for group in prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"]]
    assert len(rules) == RULES.count("- record:") + RULES.count("- alert:")
    assert [rule for rule in rules if rule["health"] == "err"] == []
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    assert [name for name in recorded if prometheus.emptiness_of(name)] == []


def test_a_refused_bundle_is_shown_until_a_good_one_comes(proxy, asked, swapped, prometheus):
    def ask_both() -> None:
        ask_all(proxy, [{"prompt": f"again {i}", "model": "erp-quiet"} for i in range(8)])

    def refused(value: float) -> bool:
        ask_both()
        return total(proxy, "erp_bundle_refused", group="erp-quiet") == value

    def alerts() -> set[str]:
        return {alert["labels"]["alertname"] for alert in prometheus.get("/api/v1/alerts")["alerts"]}

    manifest = swapped / "manifest.json"
    good = manifest.read_text(encoding="utf-8")
    manifest.write_text(good[:-20], encoding="utf-8")
    wait_until(lambda: refused(1.0), 30)
    assert total(proxy, "erp_bundle_reloads_total", group="erp-quiet", outcome="refused") >= 1
    wait_until(lambda: "ErpBundleRefused" in alerts(), 30)
    manifest.write_text(good, encoding="utf-8")
    wait_until(lambda: refused(0.0), 30)
    wait_until(lambda: "ErpBundleRefused" not in alerts(), 30)
    # Two workers without a store beside them, and answers that were said to be worth nothing.
    assert alerts() == {"ErpBudgetsLocal", "ErpModelDrifted"}
