"""The rules and the dashboard of deploy/: checked by promtool, and alerts at the limits that they state."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from demo.proxy_process import REPOSITORY
from litellm_erp.metrics.definitions import DEFINITIONS

DEPLOY = REPOSITORY / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
NAMES = {
    d.name + suffix
    for d in DEFINITIONS
    for suffix in {
        "counter": ("_total",),
        "gauge": ("",),
        "histogram": ("_bucket", "_sum", "_count"),
        "summary": ("_sum", "_count"),
    }[d.kind]
}


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    assert program, "promtool is not installed: scripts/setup_debian.sh prometheus"
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize(("what", "file"), [("rules", RULES), ("config", DEPLOY / "prometheus" / "prometheus.yml")])
def test_promtool_finds_nothing_wrong(what: str, file: Path) -> None:
    done = promtool("check", what, file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_and_dashboard_ask_for_metrics_that_there_are() -> None:
    texts = [RULES.read_text(encoding="utf-8"), (DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8")]
    recorded = set(re.findall(r"record: (\S+)", texts[0]))
    asked = set(re.findall(r"\berp[_:][\w:]+", "\n".join(texts)))
    assert asked - NAMES - recorded == set()


def test_the_dashboard_is_of_the_data_source_that_is_provisioned() -> None:
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text(encoding="utf-8"))
    document = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    panels = [panel for panel in document["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["datasources"][0]["uid"]}
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])
    assert all(panel["targets"] for panel in panels)


def fallbacks(share: int) -> dict[str, str]:
    """Series of 1,000 picks a minute, of which so many are fallbacks."""
    return {
        'erp_decisions_total{group="g",team="a",model="m",reason="routed"}': f"0+{1000 - share}x150",
        'erp_decisions_total{group="g",team="a",model="m",reason="fallback:error"}': f"0+{share}x150",
    }


def budget(left: float, shared: int = 1) -> dict[str, str]:
    return {
        'erp_budget_usd{group="g",team="a"}': "100+0x150",
        'erp_budget_remaining_usd{group="g",team="a"}': f"{left}+0x150",
        "erp_budgets_shared": f"{shared}+0x150",
    }


def prompts(novelty: float, per_minute: int = 1) -> dict[str, str]:
    """Prompts so far from training, of which so many are looked at."""
    labels = '{group="g",team="a",model="m"}'
    return {
        f"erp_prompt_novelty_sum{labels}": f"0+{novelty * per_minute}x150",
        f"erp_prompt_novelty_count{labels}": f"0+{per_minute}x150",
    }


@pytest.mark.parametrize(
    ("series", "firing"),
    [
        (fallbacks(9), []),
        (fallbacks(12), ["ErpFallbacks"]),
        ({'erp_decisions_total{group="g",team="a",model="m",reason="routed"}': "0+9x150"}, []),
        ({'erp_bundle_refused{group="g"}': "0+0x150"}, []),
        ({'erp_bundle_refused{group="g"}': "1+0x150"}, ["ErpBundleRefused"]),
        (budget(11), []),
        (budget(9), ["ErpBudgetNearlySpent"]),
        (budget(50, shared=0), ["ErpBudgetsLocal"]),
        ({"erp_budgets_shared": "0+0x150"}, []),
        ({'erp_self_test{group="g"}': "0+0x150"}, ["ErpNotFollowed"]),
        ({'erp_served_total{group="g",outcome="not-followed"}': "0+1x150"}, ["ErpNotFollowed"]),
        ({'erp_failures_total{where="pick_by_prompt"}': "0+1x150"}, ["ErpErrors"]),
        ({'erp_failures_total{where="pick_by_prompt"}': "5+0x150"}, []),
        ({'erp_drift_score{group="g",team="",model="m"}': "0.9+0x150"}, []),
        ({'erp_drift_score{group="g",team="",model="m"}': "1+0x150"}, ["ErpModelDrifted"]),
        (prompts(1.4), []),
        (prompts(1.6), ["ErpPromptsUnfamiliar"]),
        (prompts(9.0, per_minute=0), []),
        ({"erp_decision_log_dropped_total": "0+1x150"}, ["ErpDecisionLogDropped"]),
        ({"erp_decision_log_dropped_total": "5+0x150"}, []),
    ],
)
def test_alerts_fire_at_their_limits(tmp_path: Path, series: dict[str, str], firing: list[str]) -> None:
    names = re.findall(r"alert: (\S+)", RULES.read_text(encoding="utf-8"))
    counted = "count by (alertname) (ALERTS{alertstate='firing'})"
    expected = [{"labels": f"{{alertname='{name}'}}", "value": 1} for name in firing]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": counted, "eval_time": "145m", "exp_samples": expected}],
    }
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": [test]}), encoding="utf-8")
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(firing) <= set(names)
