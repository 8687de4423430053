"""Feedback that goes bad, through a real proxy: who is served by what then, and what is told of it."""

import re

import httpx
import pytest

from demo.proxy_process import ProxyProcess
from tests.harness import ERP_CALLBACK, GROUP, Answer, Json, ask, proxy_config, write_keys
from tests.pools import add_group, group_settings, prompts, wait_until

pytestmark = pytest.mark.proxy
TEAMS = ("one", "two", "three", "told")
BEST, PROMPT = prompts(2)[1]


@pytest.fixture(scope="module")
def proxy(start_module_proxy, stub_process, planted_bundle, tmp_path_factory) -> ProxyProcess:
    groups = {GROUP: group_settings(planted_bundle), "erp-alarm": group_settings(planted_bundle, drift="alarm")}
    config = proxy_config(
        stub_process,
        erp_settings={"groups": groups, "decision_log": {"path": str(tmp_path_factory.mktemp("log") / "decisions")}},
        callbacks=["prometheus", ERP_CALLBACK],
        litellm_settings={"require_auth_for_metrics_endpoint": False},
    )
    add_group(config, stub_process, "erp-alarm")
    keys = {f"sk-{team}": {"team_id": team} for team in TEAMS}
    return start_module_proxy(config, env=write_keys(tmp_path_factory.mktemp("keys") / "keys.json", keys))


def asked(proxy: ProxyProcess, team: str, **more: Json) -> Answer:
    return ask(proxy, PROMPT, key=f"sk-{team}", **more)


def say(proxy: ProxyProcess, team: str, answer: Answer, reward: float) -> None:
    said = httpx.post(
        f"{proxy.base_url}/erp/feedback",
        json={"request_id": answer.headers["x-litellm-call-id"], "reward": reward},
        headers={"Authorization": f"Bearer sk-{team}"},
        trust_env=False,
        timeout=60.0,
    )
    assert said.json() == {"recorded": True, "verified": True}


def metric(proxy: ProxyProcess, name: str, **labels: str) -> float | None:
    text = httpx.get(f"{proxy.base_url}/metrics/", trust_env=False, timeout=60.0).text
    for found, value in re.findall(rf"^{name}{{(.*)}} (\S+)$", text, re.MULTILINE):
        if all(f'{key}="{of}"' in found for key, of in labels.items()):
            return float(value)
    return None


def complain(proxy: ProxyProcess, team: str, until: Json, most: int = 40, **more: Json) -> Answer:
    """Say that answers are worth nothing until something else is told of them than at first."""
    for _ in range(most):
        answer = asked(proxy, team, **more)
        if {key: answer.erp[key] for key in until} == until:
            return answer
        say(proxy, team, answer, 0.0)
    raise AssertionError(f"{most} complaints changed nothing: {answer.erp}")


def test_a_model_whose_answers_are_worth_less_is_passed_over_for_the_team_then_for_all(proxy, stub):
    for team in TEAMS[:3]:
        answer = asked(proxy, team)
        assert (answer.model, answer.erp["reason"]) == (BEST, "routed")
    answer = complain(proxy, "one", {"reason": "drifted"})
    assert answer.model != BEST
    assert asked(proxy, "two").model == BEST
    # Nobody alone takes it from others, however long.
    for _ in range(10):
        say(proxy, "one", asked(proxy, "one"), 0.0)
    assert asked(proxy, "two").erp["reason"] == asked(proxy, "three").erp["reason"] == "routed"
    complain(proxy, "two", {"reason": "drifted"})
    # Two say so, each on its own: it holds for who has said nothing.
    answer = asked(proxy, "three")
    assert answer.erp["reason"] == "drifted"
    assert answer.model != BEST
    wait_until(lambda: metric(proxy, "erp_model_quarantined", group=GROUP, team="", model=BEST) == 1.0, 30.0)
    assert metric(proxy, "erp_model_quarantined", group=GROUP, team="one", model=BEST) == 1.0
    assert (metric(proxy, "erp_drift_score", group=GROUP, team="", model=BEST) or 0.0) >= 1.0
    assert metric(proxy, "erp_decisions_total", group=GROUP, team="three", reason="drifted") == 1.0
    log = proxy.log_path.read_text(encoding="utf-8")
    assert log.count(f"model '{BEST}' has drifted for all") == 1
    assert PROMPT not in log


def test_where_it_is_only_told_routing_stays(proxy, stub):
    for _ in range(40):
        answer = asked(proxy, "told", model="erp-alarm")
        assert (answer.model, answer.erp["reason"]) == (BEST, "routed")
        say(proxy, "told", answer, 0.0)
    labels = {"group": "erp-alarm", "team": "told", "model": BEST}
    wait_until(lambda: (metric(proxy, "erp_drift_score", **labels) or 0.0) >= 1.0, 30.0)
    assert metric(proxy, "erp_model_quarantined", **labels) == 0.0
    assert (metric(proxy, "erp_prompt_novelty_count", **labels) or 0.0) >= 1.0
