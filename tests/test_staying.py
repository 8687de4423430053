"""A conversation stays where it is warm, where that is worth more than what another model would earn."""

import asyncio
import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from demo.proxy_process import ProxyProcess
from demo.redis_process import RedisProcess
from litellm_erp.choice.conversation import (
    MAX_TURNS,
    asked_before,
    awaits_tools,
    call_in,
    digest,
    prefixes,
    turns_of,
)
from litellm_erp.conversations.memory import KEPT_DIGESTS, Conversations, conversation_of
from litellm_erp.conversations.shared import SharedConversations
from litellm_erp.errors import SettingsError
from litellm_erp.goals.settings import StaySettings, parse
from tests.harness import MODELS, Answer, ask, proxy_config, write_keys
from tests.money import Clock
from tests.planted import prompt_of
from tests.pools import add_group, erp_settings, group_settings

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "type"]), inner),
    max_leaves=8,
)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def test_a_turn_continues_the_request_before_it_and_no_other():
    first = [user("hello")]
    second = [*first, said("hi"), user("and now?")]
    assert prefixes(first, "key")[-1] in prefixes(second, "key")
    assert prefixes(first, "other key")[-1] not in prefixes(second, "key")
    assert prefixes([user("hullo")], "key")[-1] not in prefixes(second, "key")
    clocked = [{"role": "system", "content": "it is noon"}, *second]
    assert prefixes(first, "key")[-1] in prefixes(clocked, "key")
    assert digest(clocked) != digest(second) != digest(second, "be brief")
    assert len(set(prefixes(second, "key"))) == 3


def test_two_turns_are_not_the_one_that_their_texts_make():
    assert prefixes(["ab", "c"], "k")[-1] != prefixes(["a", "bc"], "k")[-1]


def test_two_long_texts_that_differ_in_their_middle_are_two():
    texts = ["x" * 5000 + letter + "y" * 5000 for letter in "ab"]
    assert prefixes([user(texts[0])], "k") != prefixes([user(texts[1])], "k")


def test_a_body_that_is_nested_without_end_is_read():
    turn: Any = "x"
    for _ in range(2000):
        turn = [{"role": "user", "content": [turn]}]
    assert len(prefixes([turn, {"role": "user", "content": turn}], "k")) == 2


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([user("a"), said(None, tool_calls=[CALL])], "c1"),
        ([user("a"), said([{"type": "text"}, {"type": "tool_use", "id": "t"}]), user([{"type": "tool_result"}])], "t"),
        ([user("a"), {"type": "reasoning", "id": "r"}, {"type": "function_call", "id": "f", "call_id": "c2"}], "c2"),
        ([user("a"), {"type": "mcp_approval_request", "id": "m"}, {"type": "mcp_approval_response"}], "m"),
        ([user("a"), said(None, tool_calls=[CALL]), {"role": "tool", "content": "1"}, said("b"), user("c")], None),
        ([{"role": "user", "parts": []}, {"role": "model", "parts": [{"functionCall": {"name": "f"}}]}], None),
        ([user("a"), said(None, tool_calls="x")], None),
        ([user("a"), said("b"), user("c")], None),
    ],
)
def test_an_answer_that_called_tools_is_told_by_the_first_id_that_it_gave(turns, expected):
    assert call_in(turns) == expected


def test_of_two_runs_that_began_alike_each_goes_on_with_its_own_answer(clock: Clock):
    known, stay = Conversations(clock=lambda: clock.steady_s), StaySettings()
    first = [user("a")]
    talk = conversation_of(first, "key")

    def runs_on(call_id: str, start: list[Any] | None = None) -> str | None:
        start = first if start is None else start
        results = {"role": "tool", "content": "1", "tool_call_id": call_id}
        turns = [*start, said(None, tool_calls=[CALL | {"id": call_id}]), results]
        found = known.last(conversation_of(turns, "key"), stay)
        return None if found is None else found.model

    for model in ("big", "small"):
        known.serves(talk, model, 0.0)
    for model in ("small", "big"):
        known.serves(talk, model, 10.0, call_id=f"of-{model}")
    assert [runs_on("of-small"), runs_on("of-big")] == ["small", "big"]
    # One that is not known here, and one of another conversation whose model counts from 0 too.
    assert runs_on("another") == "big"
    assert runs_on("of-small", [user("b")]) is None


@given(st.lists(json_values, max_size=6), json_values)
def test_whatever_a_client_sends_has_digests_and_awaits_tools_or_not(turns, system):
    assert len(prefixes(turns, "key")) == len(turns)
    assert len(digest(turns, system)) == 16
    assert awaits_tools(turns) in (True, False)
    assert isinstance(turns_of(turns, {"input": system}), list)


def test_of_a_long_conversation_the_last_digests_are_kept_and_of_one_without_end_none():
    turns = [user("x") if i % 2 == 0 else said("y") for i in range(401)]
    earlier, later = conversation_of(turns[:-2], "key"), conversation_of(turns, "key")
    assert len(later.prefixes) == KEPT_DIGESTS
    assert later.before == earlier.prefixes[-1]
    calls = [CALL | {"id": f"c{i}"} for i in range(200)]
    results = [{"role": "tool", "content": "1", "tool_call_id": call["id"]} for call in calls]
    many = conversation_of([*turns, said(None, tool_calls=calls), *results], "key")
    assert many.before == many.prefixes[0] == later.prefixes[-1]
    endless = conversation_of(turns * (MAX_TURNS // 401 + 1), "key")
    assert (endless.prefixes, endless.before) == ((), None)
    called = [*turns * (MAX_TURNS // 401 + 1), said(None, tool_calls=[CALL]), {"role": "tool", "content": "1"}]
    assert conversation_of(called, "key", "its session").awaits_tools


@pytest.mark.parametrize(
    "again",
    [
        [{"type": "text", "text": "a"}],
        [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
        [{"type": "input_text", "text": "a"}],
    ],
)
def test_a_turn_that_is_written_otherwise_is_the_same_turn(again):
    assert prefixes([user("a")], "k") == prefixes([{"role": "user", "content": again}], "k") == prefixes(["a"], "k")
    marked = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "b", "cache_control": {}}]}
    plain = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "b"}], "cache_control": None}
    assert prefixes([marked], "k") == prefixes([plain], "k")


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([user("a")], False),
        ([user("a"), said("b"), user("c")], False),
        ([user("a"), said(None, tool_calls=[CALL])], True),
        ([user("a"), said(None, tool_calls=[CALL]), {"role": "tool", "content": "1", "tool_call_id": "c1"}], True),
        ([user("a"), said(None, tool_calls=[CALL]), {"role": "tool", "content": "1"}, user("and?")], True),
        ([user("a"), said(None, tool_calls=[CALL]), {"role": "tool", "content": "1"}, said("b"), user("c")], False),
        ([user("a"), said([{"type": "tool_use", "id": "t"}]), user([{"type": "tool_result"}])], True),
        ([user("a"), said([{"type": "text", "text": "b"}]), user("c")], False),
        ([user("a"), {"type": "function_call", "name": "f"}, {"type": "function_call_output", "output": "1"}], True),
        ([user("a"), {"type": "web_search_call", "id": "w"}, user("b")], False),
        ([user("a"), {"type": "function_call"}, said("b"), {"type": "function_call_output"}], True),
        ([user("a"), {"type": "function_call"}, {"type": "reasoning"}, {"type": "function_call_output"}], True),
        ([user("a"), said([{"type": "tool_use"}]), user([{"type": "tool_result"}]), said("So")], True),
        ([user("a"), said("b"), user("c"), said("So")], False),
        ([{"role": "user", "parts": []}, {"role": "model", "parts": [{"functionCall": {"name": "f"}}]}], True),
        ([user("a"), {"type": "mcp_approval_request", "id": "m"}, {"type": "mcp_approval_response"}], True),
    ],
)
def test_tools_are_awaited_until_the_model_that_called_them_has_spoken(turns, expected):
    assert awaits_tools(turns) is expected


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([user("a")], 0),
        ([user("a"), said("b"), user("c")], 1),
        ([user("a"), said("b"), user("c"), said(None, tool_calls=[CALL]), {"role": "tool", "content": "1"}], 3),
        ([user("a"), {"type": "reasoning"}, {"type": "function_call"}, {"type": "function_call_output"}], 1),
        ([said("b"), user("c")], 0),
    ],
)
def test_the_request_before_ended_where_the_last_answer_began(turns, expected):
    assert asked_before(turns) == expected


def test_what_is_warm_cools_and_is_forgotten(clock: Clock):
    known, stay = Conversations(clock=lambda: clock.steady_s), StaySettings(warm_s=300.0)
    first = conversation_of([user("a")], "key")
    second = conversation_of([user("a"), said("b"), user("c")], "key")
    assert known.last(second, stay) is None
    known.serves(first, "big", 1000.0)
    clock.pass_(300.0)
    found = known.last(second, stay)
    assert found is not None
    assert (found.model, found.cached_tokens) == ("big", {"big": pytest.approx(1000.0 / math.e)})
    assert found.goes_on
    again = known.last(first, stay)
    assert again is not None
    assert not again.goes_on
    clock.pass_(3600.0)
    assert known.last(second, stay) is None


def test_every_model_is_warm_as_far_as_it_has_read(clock: Clock):
    known, stay = Conversations(clock=lambda: clock.steady_s), StaySettings(warm_s=300.0)
    turns = [user("a"), said("b"), user("c"), said("d"), user("e"), said("f"), user("g")]
    for n, model, tokens in ((1, "big", 100.0), (3, "small", 300.0), (5, "small", 500.0)):
        known.serves(conversation_of(turns[:n], "key"), model, tokens)
        clock.pass_(30.0)
    found = known.last(conversation_of(turns, "key"), stay)
    assert found is not None
    assert found.model == "small"
    warm = {"small": pytest.approx(500.0 * math.exp(-0.1)), "big": pytest.approx(100.0 * math.exp(-0.3))}
    assert found.cached_tokens == warm
    # Another answer in the middle is another conversation, of which big has read the beginning alone.
    branch = known.last(conversation_of([*turns[:1], said("B"), user("c")], "key"), stay)
    assert branch is not None
    assert (branch.model, branch.cached_tokens) == ("big", {"big": warm["big"]})


def test_a_session_says_who_served_last_and_only_a_prefix_what_is_warm(clock: Clock):
    known, stay = Conversations(clock=lambda: clock.steady_s), StaySettings()
    known.serves(conversation_of([user("a")], "key", "s1"), "big", 1000.0)
    found = known.last(conversation_of([user("rewritten")], "key", "s1"), stay)
    assert found is not None
    assert (found.model, found.cached_tokens) == ("big", {})
    assert known.last(conversation_of([user("rewritten")], "other key", "s1"), stay) is None


def test_two_threads_of_a_session_and_two_sessions_that_begin_alike_are_told_apart(clock: Clock):
    known, stay = Conversations(clock=lambda: clock.steady_s), StaySettings()
    loop = [user("p"), said(None, tool_calls=[CALL]), {"role": "tool", "content": "1"}]
    known.serves(conversation_of([user("p")], "key", "s1"), "small", 1.0)
    known.serves(conversation_of([user("other")], "key", "s1"), "big", 1.0)
    known.serves(conversation_of([user("p")], "key", "s2"), "mid", 1.0)
    for session, expected in (("s1", "small"), ("s2", "mid")):
        found = known.last(conversation_of(loop, "key", session), stay)
        assert found is not None
        assert found.model == expected


def test_another_system_prompt_is_the_same_conversation_and_no_warm_one(clock: Clock):
    known, stay = Conversations(clock=lambda: clock.steady_s), StaySettings()
    second = [user("a"), said("b"), user("c")]
    known.serves(conversation_of([user("a")], "key", system="it is noon"), "big", 1000.0)
    found = known.last(conversation_of(second, "key", system="it is one"), stay)
    assert found is not None
    assert (found.model, found.cached_tokens) == ("big", {})


async def test_through_a_redis_every_turn_of_a_conversation_is_known_elsewhere(redis: RedisProcess):
    stay, turns = StaySettings(), [user("a"), said("b"), user("c"), said("d"), user("e")]

    async def connect() -> Any:
        return Redis.from_url(redis.url)

    here, there = (SharedConversations(Conversations(), lambda: (connect, "p")) for _ in range(2))
    here.serves(conversation_of(turns[:1], "key"), "big", 100.0)
    here.serves(conversation_of(turns[:3], "key"), "small", 300.0)
    found = None
    for _ in range(100):
        # What was recorded is sent in a moment.
        found = await there.last(conversation_of(turns, "key"), stay)
        if found is not None:
            break
        await asyncio.sleep(0.05)
    assert found is not None
    assert found.model == "small"
    assert found.cached_tokens == {"small": pytest.approx(300.0, rel=0.1), "big": pytest.approx(100.0, rel=0.1)}
    assert await there.last(conversation_of(turns, "another key"), stay) is None


def test_of_many_conversations_the_longest_unused_are_forgotten(clock: Clock):
    known = Conversations(most=10, clock=lambda: clock.steady_s)
    for i in range(30):
        known.serves(conversation_of([user(str(i))], "key"), "big", 1.0)
    assert len(known) == 10
    assert known.last(conversation_of([user("0")], "key"), StaySettings()) is None
    assert known.last(conversation_of([user("29")], "key"), StaySettings()) is not None


@pytest.mark.parametrize(
    ("stated", "mode"),
    [(False, "off"), ("off", "off"), ("always", "always"), ({"mode": False}, "off"), ({"margin": 0.1}, "priced")],
)
def test_a_bare_off_is_off_although_yaml_reads_it_as_false(tmp_path: Path, stated, mode):
    settings = parse({"groups": {"g": {"bundle": "b", "stay": stated}}}, tmp_path / "c.yaml")
    assert settings.groups["g"].stay.mode == mode


@pytest.mark.parametrize("stated", [True, "sometimes", 3, {"margin": -1}, {"warm_s": 0}, {"warm": 1}])
def test_what_stay_cannot_be_is_told(tmp_path: Path, stated):
    with pytest.raises(SettingsError, match="stay"):
        parse({"groups": {"g": {"bundle": "b", "stay": stated}}}, tmp_path / "c.yaml")


@pytest.fixture(scope="module")
def proxy(start_module_proxy, stub_process, planted_bundle, tmp_path_factory) -> ProxyProcess:
    groups = {
        name: group_settings(planted_bundle, stay=name.removeprefix("erp-")) for name in ("erp-off", "erp-always")
    }
    # Between half of the best model's reward and all of it.
    groups["erp-margin"] = group_settings(planted_bundle, stay={"margin": 5.0})
    groups["erp-free"] = group_settings(planted_bundle, allow_override=True)
    groups["erp-mixed"] = group_settings(planted_bundle, policy={"min_quality": 0.8})
    groups["erp-share"] = group_settings(planted_bundle, mode={"percent": 50}, baseline="small")
    groups["erp-spent"] = group_settings(planted_bundle, policy={"budget_usd": 1e-9, "per": "day"})
    config = proxy_config(stub_process, erp_settings=erp_settings(planted_bundle, groups))
    for name in groups:
        add_group(config, stub_process, name)
    folder = tmp_path_factory.mktemp("keys")
    return start_module_proxy(config, env=write_keys(folder / "keys.json", {"sk-research": {}, "sk-other": {}}))


def conversation(proxy: ProxyProcess, *, key: str = "sk-research", then: str = "sk-research", **body: Any) -> Answer:
    """Ask for a sum, which ``small`` is best at, and go on with a poem, which ``big`` is; the second answer."""
    seed = body.pop("seed")
    first = [user(prompt_of("arithmetic", seed))]
    loop = body.pop("loop", False)
    assert ask(proxy, messages=first, key=key, **body).model == "small"
    middle = [said(None, tool_calls=[CALL]), {"role": "tool", "content": "7", "tool_call_id": "c1"}]
    poem = user(" ".join(prompt_of("poetry", seed + i) for i in range(4)))
    return ask(proxy, messages=[*first, *(middle if loop else [said("7")]), poem], key=then, **body)


@pytest.mark.proxy
def test_another_kind_of_turn_goes_to_another_model(proxy):
    answer = conversation(proxy, seed=1)
    assert (answer.model, answer.erp["reason"]) == ("big", "routed")


@pytest.mark.proxy
def test_no_other_model_goes_on_with_an_answer_that_called_tools(proxy):
    answer = conversation(proxy, seed=2, loop=True)
    assert (answer.model, answer.erp["reason"]) == ("small", "sticky")
    assert answer.erp["expected-reward"] < "0.7"


def in_a_loop(answer: Answer) -> list[Any]:
    """A turn in which a model called a tool, as it came, and the tool's result."""
    message = answer.body["choices"][0]["message"]
    return [message, {"role": "tool", "content": "7", "tool_call_id": message["tool_calls"][0]["id"]}]


@pytest.mark.proxy
@pytest.mark.parametrize("group", ["erp-mixed", "erp-share"])
def test_runs_that_begin_alike_are_gone_on_with_by_whoever_called_the_tools_of_each(proxy, stub, group):
    for model in MODELS:
        stub.set_mode(model, "tools")
    both, poem = set(), user(" ".join(prompt_of("poetry", i) for i in range(4)))
    for seed in range(12):
        first = [user(prompt_of("code", 500 + seed))]
        runs = [ask(proxy, messages=first, model=group) for _ in range(2)]
        time.sleep(0.1)
        for run in runs:
            then = ask(proxy, messages=[*first, *in_a_loop(run), poem], model=group)
            assert then.erp["model"] == run.erp["model"]
        both.add(tuple(run.erp["model"] for run in runs))
    assert len(both) > 1


@pytest.mark.proxy
def test_another_callers_conversation_is_not_gone_on_with(proxy):
    assert conversation(proxy, seed=3, loop=True, then="sk-other").model == "big"


@pytest.mark.proxy
@pytest.mark.parametrize(
    ("group", "loop", "expected"),
    [
        ("erp-off", True, ("big", "routed")),
        ("erp-always", False, ("small", "sticky")),
        ("erp-margin", False, ("small", "sticky")),
    ],
)
def test_settings_say_how_much_a_conversation_stays(proxy, group, loop, expected):
    answer = conversation(proxy, seed=4, loop=loop, model=group)
    assert (answer.model, answer.erp["reason"]) == expected


@pytest.mark.proxy
def test_no_conversation_holds_a_model_that_its_goal_sends_nothing_to(proxy):
    poem = [user(prompt_of("poetry", 8))]
    free = {"model": "erp-free", "headers": {"x-erp-lambda": "0"}}
    assert ask(proxy, messages=poem, **free).model == "big"
    loop = [*poem, said(None, tool_calls=[CALL]), {"role": "tool", "content": "7"}]
    assert ask(proxy, messages=loop, **free).model == "big"
    answer = ask(proxy, messages=loop, model="erp-free", headers={"x-erp-lambda": "100"})
    assert (answer.model, answer.erp["reason"]) == ("small", "routed")


@pytest.mark.proxy
def test_the_same_question_asked_anew_is_no_conversation(proxy):
    """Its model may have been another's choice: here, of a conversation that stayed."""
    poem = " ".join(prompt_of("poetry", 70 + i) for i in range(4))
    session = {"metadata": {"session_id": "s-7"}}
    assert ask(proxy, prompt_of("arithmetic", 7), model="erp-always", **session).model == "small"
    assert ask(proxy, poem, model="erp-always", **session).model == "small"
    assert ask(proxy, poem, model="erp-always").model == "big"


@pytest.mark.proxy
def test_an_empty_budget_is_not_spent_for_a_conversations_sake(proxy):
    first = [user(prompt_of("poetry", 5))]
    ask(proxy, messages=first, model="erp-spent")
    answer = ask(proxy, messages=[*first, said(None, tool_calls=[CALL]), user("go on")], model="erp-spent")
    assert (answer.model, answer.erp["reason"]) == ("small", "exhausted")


@pytest.mark.proxy
@pytest.mark.parametrize("route", ["messages", "responses"])
def test_tools_are_awaited_on_every_route(proxy, route):
    poem = " ".join(prompt_of("poetry", 60 + i) for i in range(4))
    first = prompt_of("arithmetic", 6)
    if route == "messages":
        turns = [
            user(first),
            said([{"type": "tool_use", "id": "t1", "name": "look", "input": {}}]),
            user([{"type": "tool_result", "tool_use_id": "t1", "content": "7"}, {"type": "text", "text": poem}]),
        ]
        assert ask(proxy, route=route, messages=turns[:1]).model == "small"
        answer = ask(proxy, route=route, messages=turns)
    else:
        items: list[Any] = [
            user(first),
            {"type": "function_call", "name": "look", "arguments": "{}", "call_id": "c1"},
            {"type": "function_call_output", "call_id": "c1", "output": "7"},
            user(poem),
        ]
        assert ask(proxy, route=route, input=items[:1]).model == "small"
        answer = ask(proxy, route=route, input=items)
    assert (answer.model, answer.erp["reason"]) == ("small", "sticky"), json.dumps(answer.body)[:500]
