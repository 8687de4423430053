"""Modes through a real proxy: shadow changes nothing, a share is stable and near its size, and all of it is written."""

import json
import re
import resource
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.proxy_process import ProxyProcess, StubProcess
from litellm_erp.decision_log.record import Feedback, Record, parse_line
from tests.conftest import StartProxy
from tests.harness import (
    ERP_CALLBACK,
    GROUP,
    MODELS,
    PATHS,
    Answer,
    Json,
    ask,
    proxy_config,
    served,
    team_of,
    write_keys,
)
from tests.pools import ask_all, failures, group_settings, prompts, wait_until

pytestmark = pytest.mark.proxy

SEEDING = "tests.seeded_picks.seeding"
TEAMS: Json = {
    "research": {"lambda": 0},
    "shade": {"mode": "shadow"},
    "based": {"mode": "shadow", "baseline": "mid"},
    "share": {"lambda": 0, "mode": {"percent": 30, "salt": "pepper"}},
    "broke": {"budget_usd": 1e-9, "per": "day", "on_exhausted": "reject", "mode": "shadow"},
    "poor": {"budget_usd": 1e-9, "per": "day", "mode": {"percent": 0}},
    "mixed": {"budget_usd_per_1k_requests": 0.2},
}
# Who may use what beside their team: an allow list holds in every mode.
KEYS: Json = {f"sk-{team}": {"team_id": team} for team in TEAMS} | {
    "sk-listed": {"team_id": "shade", "models": [GROUP, "small"]},
    "sk-leaving": {"team_id": "leaving", "team_metadata": {"erp": {"mode": "shadow"}}},
    "sk-fleeing": {"team_id": "research", "team_metadata": {"erp": {"mode": "shadow"}}},
}


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
    settings = {
        "groups": {GROUP: group_settings(planted_bundle, teams=TEAMS)},
        "decision_log": {"path": str(folder)},
    }
    config = proxy_config(
        stub_process,
        erp_settings=settings,
        callbacks=["prometheus", ERP_CALLBACK, SEEDING],
        litellm_settings={"require_auth_for_metrics_endpoint": False},
    )
    return start_module_proxy(config, env=write_keys(tmp_path_factory.mktemp("keys") / "keys.json", KEYS))


@pytest.fixture(scope="module")
def unplugged(
    start_module_proxy: StartProxy, stub_process: StubProcess, tmp_path_factory: pytest.TempPathFactory
) -> ProxyProcess:
    keys = write_keys(tmp_path_factory.mktemp("keys") / "keys.json", KEYS)
    return start_module_proxy(proxy_config(stub_process, callbacks=[SEEDING]), env=keys)


def lines(folder: Path) -> Iterator[Record | Feedback]:
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            if (entry := parse_line(line)) is not None:
                yield entry


def record_of(folder: Path, answer: Answer, request_id: str | None = None) -> Record:
    found: list[Record] = []
    id_ = request_id or answer.headers["x-litellm-call-id"]

    def is_there() -> bool:
        found[:] = [e for e in lines(folder) if isinstance(e, Record) and e.request_id == id_]
        return bool(found)

    wait_until(is_there, 20.0)
    (record,) = found
    return record


def feed(proxy: ProxyProcess, body: Any, key: str = "sk-shade") -> httpx.Response:
    return httpx.post(
        f"{proxy.base_url}/erp/feedback",
        content=body if isinstance(body, str) else json.dumps(body),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        trust_env=False,
        timeout=60.0,
    )


def test_shadow_serves_what_litellm_would_without_us_and_writes_down_what_it_would_have_served(
    proxy: ProxyProcess, unplugged: ProxyProcess, folder: Path
) -> None:
    wanted = prompts(60)
    requests = [{"prompt": text, "key": "sk-shade", "user": f"seed-{i}"} for i, (_, text) in enumerate(wanted)]
    # One after the other: a seed holds for the next pick of a process.
    with_us = ask_all(proxy, requests, at_once=1)
    without = ask_all(unplugged, requests, at_once=1)
    assert [a.deployment for a in with_us] == [a.deployment for a in without]
    assert len(set(served(with_us))) == 3
    assert {a.erp["reason"] for a in with_us} == {"shadow"}
    for (best, _), answer in list(zip(wanted, with_us, strict=True))[:6]:
        record = record_of(folder, answer)
        assert (record.mode, record.arm, record.chosen, record.served) == ("shadow", "baseline", best, answer.model)
        assert record.propensity == pytest.approx(dict.fromkeys(("small", "mid", "big"), 1 / 3))
        assert record.account == "team:shade"
        assert record.followed
        assert not record.failed
        assert record.cost_usd is not None
        assert record.cost_usd > 0
        assert record.latency_s is not None
        assert set(record.candidates) == {"small", "mid", "big"}
        assert all((c.std_error or 0) > 0 and (c.expected_cost_usd or 0) > 0 for c in record.candidates.values())
        assert record.prompt is None


def test_a_baseline_model_serves_the_shadow(proxy: ProxyProcess, folder: Path) -> None:
    answers = ask_all(proxy, [{"prompt": text, "key": "sk-based"} for _, text in prompts(6)])
    assert set(served(answers)) == {"mid"}
    assert {a.erp["model"] for a in answers} == {"mid"}
    assert record_of(folder, answers[0]).propensity == {"mid": 1.0}


def test_a_share_is_stable_by_user_and_near_its_size(proxy: ProxyProcess, folder: Path) -> None:
    text = prompts(1)[0][1]
    once = ask_all(proxy, [{"prompt": text, "key": "sk-share", "user": f"u{i}"} for i in range(150)])
    again = ask_all(proxy, [{"prompt": text, "key": "sk-share", "user": f"u{i}"} for i in range(30)])
    assert not [a.text for a in (*once, *again) if a.status != 200]
    reasons = [a.erp["reason"] for a in once]
    # Four standard deviations of a share of 30% of 150.
    assert 45 - 22 < reasons.count("routed") < 45 + 22
    assert [a.erp["reason"] for a in again] == reasons[:30]
    best = prompts(1)[0][0]
    record = record_of(folder, once[0])
    assert record.mode == "percent"
    assert record.propensity is not None
    assert record.propensity[best] == pytest.approx(0.3 + 0.7 / 3)


def test_a_session_stays_on_its_side(proxy: ProxyProcess) -> None:
    text = prompts(1)[0][1]
    headers = {"x-litellm-session-id": "the-session"}
    answers = ask_all(
        proxy, [{"prompt": text, "key": "sk-share", "user": f"v{i}", "headers": headers} for i in range(12)]
    )
    assert len({a.erp["reason"] for a in answers}) == 1


def test_a_key_that_names_no_user_has_its_share_of_requests(proxy: ProxyProcess) -> None:
    answers = ask_all(proxy, [{"prompt": "hello", "key": "sk-share"} for _ in range(60)])
    assert {"shadow"} < {a.erp["reason"] for a in answers}


def test_a_budget_refuses_nobody_in_shadow_and_is_counted(proxy: ProxyProcess, folder: Path) -> None:
    answers = ask_all(proxy, [{"prompt": text, "key": "sk-broke"} for _, text in prompts(6)], at_once=1)
    assert {a.status for a in answers} == {200}
    wait_until(lambda: team_of(proxy, "broke")["window"]["spent_usd"] > 1e-6, 20.0)
    assert team_of(proxy, "broke")["mode"] == "shadow"
    assert record_of(folder, answers[-1]).reason == "shadow"


def test_a_budget_that_is_spent_holds_for_both_sides_of_a_share(proxy: ProxyProcess) -> None:
    ask_all(proxy, [{"prompt": "hello", "key": "sk-poor"} for _ in range(2)], at_once=1)
    wait_until(lambda: team_of(proxy, "poor")["window"]["spent_usd"] > 1e-9, 20.0)
    answers = ask_all(
        proxy, [{"prompt": text, "key": "sk-poor", "user": f"u{i}"} for i, (_, text) in enumerate(prompts(9))]
    )
    assert set(served(answers)) == {"small"}
    assert {a.erp["reason"] for a in answers} == {"exhausted"}


def test_allow_lists_hold_in_shadow(proxy: ProxyProcess) -> None:
    answers = ask_all(proxy, [{"prompt": text, "key": "sk-listed"} for _, text in prompts(9)])
    assert set(served(answers)) == {"small"}


def test_team_metadata_may_state_a_mode_where_no_goal_above_binds_the_team(proxy: ProxyProcess) -> None:
    assert ask(proxy, key="sk-leaving").erp["reason"] == "shadow"
    assert ask(proxy, key="sk-fleeing").erp["reason"] != "shadow"


def test_propensities_of_a_mixture_are_its_shares(proxy: ProxyProcess, folder: Path) -> None:
    answers = ask_all(proxy, [{"prompt": text, "key": "sk-mixed"} for _, text in prompts(12)])
    records = [record_of(folder, answer) for answer in answers]
    assert all(sum((r.propensity or {}).values()) == pytest.approx(1.0) for r in records)
    assert any(len(r.propensity or {}) > 1 for r in records)
    assert all((r.propensity or {})[r.chosen] > 0 for r in records)
    assert {r.mode for r in records} == {"route"}


def test_streams_have_one_line_each_and_a_client_may_name_its_request(proxy: ProxyProcess, folder: Path) -> None:
    streamed = [ask(proxy, key="sk-research", route=route, stream=True) for route in ("chat", "messages")]
    records = [record_of(folder, answer) for answer in streamed]
    assert [r.served for r in records] == [a.model for a in streamed]
    assert all((r.output_tokens or 0) > 0 for r in records)
    named = ask(proxy, key="sk-research", headers={"x-litellm-call-id": "my-own"})
    assert record_of(folder, named).request_id == "my-own"


def test_a_request_that_fails_or_is_left_has_its_line(proxy: ProxyProcess, stub: StubProcess, folder: Path) -> None:
    for model in MODELS:
        stub.set_mode(model, "500")
    failed = ask(proxy, key="sk-research", headers={"x-litellm-call-id": "in-vain"})
    assert failed.status == 500
    record = record_of(folder, failed, "in-vain")
    assert (record.failed, record.served, record.chosen in MODELS) == (True, None, True)
    for model in MODELS:
        stub.set_mode(model, "drip:0.2")
    headers = {"Authorization": "Bearer sk-research", "x-litellm-call-id": "left"}
    sent = {"model": GROUP, "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    with (
        httpx.Client(trust_env=False, timeout=60.0) as client,
        client.stream("POST", f"{proxy.base_url}{PATHS['chat']}", json=sent, headers=headers) as answer,
    ):
        next(answer.iter_lines())
    assert record_of(folder, failed, "left").failed
    stub.reset()


def test_the_files_are_their_owners_alone(proxy: ProxyProcess, folder: Path) -> None:
    record_of(folder, ask(proxy, key="sk-shade"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.jsonl")} == {0o600}
    text = "".join(path.read_text() for path in folder.glob("*.jsonl"))
    assert "Bearer" not in text
    assert "hello" not in text


def test_feedback_is_joined_by_its_own_team_alone(proxy: ProxyProcess, folder: Path) -> None:
    answer = ask(proxy, key="sk-shade")
    record = record_of(folder, answer)
    about = {"request_id": record.request_id}
    assert feed(proxy, about | {"reward": 1.0}, key="sk-research").status_code == 404
    assert feed(proxy, about | {"thumbs": "down"}).json() == {"recorded": True, "verified": True}
    assert feed(proxy, about | {"reward": 1.0}).status_code == 409
    # Known nowhere here: another worker's, or nobody's. It counts for the sender's own team only.
    other = feed(proxy, {"request_id": "elsewhere", "reward": 0.5})
    assert (other.status_code, other.json()["verified"]) == (202, False)
    wait_until(lambda: len([e for e in lines(folder) if isinstance(e, Feedback)]) >= 2, 20.0)
    heard = [e for e in lines(folder) if isinstance(e, Feedback) and e.request_id == record.request_id]
    assert [(e.reward, e.account) for e in heard] == [(0.0, "team:shade")]
    assert heard[0].is_of(record)


@pytest.mark.parametrize(
    "body",
    [
        "nonsense",
        '{"request_id": "a"}',
        '{"request_id": "a", "reward": NaN}',
        '{"request_id": "a", "reward": 1e999}',
        '{"request_id": "a", "reward": 1e6}',
        '{"request_id": "a", "reward": true}',
        '{"request_id": "a", "reward": "1"}',
        '{"request_id": "a", "reward": 1, "thumbs": "up"}',
        '{"request_id": "a", "thumbs": "sideways"}',
        '{"request_id": "a", "thumbs": ["up"]}',
        '{"request_id": "", "reward": 1}',
        '{"request_id": "a\\nb", "reward": 1}',
        '{"request_id": 7, "reward": 1}',
        '{"request_id": "a", "reward": 1, "team": "research"}',
    ],
)
def test_feedback_that_makes_no_sense_changes_nothing(proxy: ProxyProcess, folder: Path, body: str) -> None:
    before = Counter(type(e) for e in lines(folder))[Feedback]
    answer = feed(proxy, body, key="sk-based")
    assert 400 <= answer.status_code < 500, answer.text
    assert Counter(type(e) for e in lines(folder))[Feedback] == before


def test_a_flood_of_feedback_is_refused(proxy: ProxyProcess, folder: Path) -> None:
    statuses = Counter(feed(proxy, {"request_id": f"x{i}", "reward": 1}, key="sk-poor").status_code for i in range(200))
    assert statuses[429] > 20
    assert feed(proxy, {"request_id": "y", "reward": 1}, key="sk-mixed").status_code == 202


def test_an_unknown_key_may_feed_nothing(proxy: ProxyProcess) -> None:
    assert feed(proxy, {"request_id": "a", "reward": 1}, key="sk-nobody").status_code in (401, 403)


def test_a_full_disk_costs_lines_and_no_request_and_a_kill_costs_nothing_written(
    proxy: ProxyProcess, folder: Path
) -> None:
    def dropped() -> float:
        text = httpx.get(f"{proxy.base_url}/metrics/", trust_env=False, timeout=60.0).text
        (value,) = re.findall(r"^erp_decision_log_dropped_total (\S+)", text, re.MULTILINE)
        return float(value)

    requests = [{"prompt": text, "key": "sk-shade"} for _, text in prompts(12)]
    record_of(folder, ask(proxy, key="sk-shade"))
    assert dropped() == 0.0
    (decisions,) = folder.glob("decisions-*.jsonl")
    # A disk that takes a line and a half more; the proxy's own log is shorter than that already.
    limit = decisions.stat().st_size + 1500
    pid = int(decisions.name.split("-")[2])
    endless = resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    assert not failures(ask_all(proxy, requests))
    wait_until(lambda: dropped() > 0, 20.0)
    assert not failures(ask_all(proxy, requests))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, endless)
    # It looks again every few seconds.
    wait_until(
        lambda: ask(proxy, key="sk-shade").status == 200 and len(list(folder.glob("decisions-*.jsonl"))) > 1, 30.0
    )
    answers = ask_all(proxy, requests)
    records = [record_of(folder, answer) for answer in answers]
    proxy.kill()
    assert [r.served for r in records] == served(answers)
    assert all(path.read_bytes()[-1:] in (b"", b"\n") for path in folder.glob("*.jsonl"))
    # Its own log is a file too, and may have been full.
    assert proxy.log_text().count("lines are dropped until it can") <= 1
    assert "only the alias" not in proxy.log_text()
