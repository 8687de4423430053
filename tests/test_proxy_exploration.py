"""Exploring through a real proxy: its share, its reason, its probabilities in the log, and who is left out of it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.proxy_process import ProxyProcess, StubProcess
from litellm_erp.decision_log.record import Record, parse_line
from tests.conftest import StartProxy
from tests.harness import GROUP, MODELS, SPARE, ask, proxy_config, write_keys
from tests.pools import ask_all, failures, group_settings, prompts, wait_until

pytestmark = pytest.mark.proxy

TEAMS = {"shade": {"mode": "shadow", "baseline": "mid"}, "poor": {"budget_usd": 1e-9, "per": "day"}}
KEYS = {f"sk-{team}": {"team_id": team} for team in ("research", *TEAMS)} | {
    "sk-listed": {"team_id": "research", "models": [GROUP, "small", SPARE]}
}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "erp_decisions"


@pytest.fixture(scope="module")
def proxy(
    start_module_proxy: StartProxy,
    stub_process: StubProcess,
    planted_bundle: Path,
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> ProxyProcess:
    """Half of the requests explore, at any cost; the bundle has no probe of the spare model."""
    explore = {"share": 0.5, "extra_cost": 1000.0}
    settings = {
        "groups": {GROUP: group_settings(planted_bundle, teams=TEAMS, explore=explore)},
        "decision_log": {"path": str(folder)},
    }
    config = proxy_config(stub_process, erp_settings=settings, members=(*MODELS, SPARE))
    return start_module_proxy(config, env=write_keys(tmp_path_factory.mktemp("keys") / "keys.json", KEYS))


def records(folder: Path) -> Iterator[Record]:
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            if isinstance(entry := parse_line(line), Record):
                yield entry


def test_a_share_explores_as_probably_as_the_log_says_and_a_newcomer_with_it(proxy, folder):
    requests = [{"prompt": text} for _, text in prompts(150)]
    answers = ask_all(proxy, requests)
    assert failures(answers) == []
    ids = {answer.headers["x-litellm-call-id"]: answer for answer in answers}
    wait_until(lambda: len({r.request_id for r in records(folder)} & set(ids)) == len(ids), 20.0)
    found = [record for record in records(folder) if record.request_id in ids]
    assert all(record.served == record.chosen == ids[record.request_id].model for record in found)
    assert all(record.reason == ids[record.request_id].erp["reason"] for record in found)
    assert all(record.propensity is not None and SPARE in record.propensity for record in found)
    served = Counter(record.served for record in found)
    for model in (*MODELS, SPARE):
        expected = [(record.propensity or {}).get(model, 0.0) for record in found]
        # Five standard deviations of a sum of independent draws.
        spread = sum(p * (1 - p) for p in expected) ** 0.5
        assert served[model] == pytest.approx(sum(expected), abs=5 * spread + 1)
    explored = [record for record in found if record.reason == "explored"]
    assert served[SPARE] > 0
    assert {record.reason for record in found if record.served == SPARE} == {"explored"}
    assert len(explored) < len(found) / 2 + 5 * len(found) ** 0.5 / 2
    assert all(max(r.propensity, key=r.propensity.get) != r.chosen for r in explored if r.propensity)


@pytest.mark.parametrize(
    ("more", "reasons"),
    [
        ({"key": "sk-shade"}, {"shadow"}),
        ({"key": "sk-poor"}, {"exhausted"}),
        ({"tools": [TOOL]}, {"routed", "safe-default"}),
        ({"n": 2}, {"routed", "safe-default"}),
    ],
    ids=["shadow", "a budget that is spent", "tools", "several answers"],
)
def test_nothing_is_explored_where_something_else_decides(proxy, folder, more, reasons):
    ask(proxy, key=more.get("key", "sk-research"))
    answers = ask_all(proxy, [{"prompt": text} | more for _, text in prompts(25, first=500)])
    assert failures(answers) == []
    assert {answer.erp["reason"] for answer in answers} <= reasons
    assert SPARE not in {answer.model for answer in answers}


def test_a_tool_loop_is_gone_on_with_by_its_model(proxy):
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    for i, (_, text) in enumerate(prompts(12, first=700)):
        turns = [{"role": "user", "content": f"{i} {text}"}]
        first = ask(proxy, messages=turns, tools=[TOOL])
        turns += [{"role": "assistant", "content": None, "tool_calls": [call]}]
        turns += [{"role": "tool", "tool_call_id": "c1", "content": "found it"}]
        # Clients may leave the tools out where they go on.
        second = ask(proxy, messages=turns)
        assert (first.status, second.status) == (200, 200)
        assert second.model == first.model
        assert second.erp["reason"] != "explored"


def test_an_allow_list_holds_for_what_is_tried(proxy):
    answers = ask_all(proxy, [{"prompt": text, "key": "sk-listed"} for _, text in prompts(40, first=900)])
    assert failures(answers) == []
    assert "explored" in {answer.erp["reason"] for answer in answers}
    assert {answer.model for answer in answers} == {"small", SPARE}
