import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_erp.choice import prompt
from litellm_erp.choice.prompt import MAX_BYTES, PromptText, cell_of, from_request, from_value, turns_in
from litellm_erp.errors import PromptError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "type", "content", "text", "output", "tool_result"]) | st.text(max_size=3),
            inner | st.sampled_from(["user", "system", "text", "tool_result", "function_call_output"]),
            max_size=4,
        )
    ),
    max_leaves=20,
)


def of_request(**body: Any) -> PromptText:
    return prompt.from_request(None, body) or PromptText("", 0)


def turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def test_user_turns_are_joined_oldest_first_and_the_rest_is_left_out() -> None:
    messages = [
        turn("system", "You are terse."),
        turn("user", "first"),
        turn("assistant", "answer"),
        turn("tool", "result"),
        turn("user", "second"),
    ]
    assert prompt.from_messages(messages) == PromptText("first\nsecond", len("You are terse.firstanswerresultsecond"))


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        (["system", "assistant", "tool"], "tool"),
        (["system", "assistant"], "assistant"),
        (["developer"], "developer"),
        ([], ""),
    ],
)
def test_without_user_text_any_text_will_do(roles: list[str], expected: str) -> None:
    assert prompt.from_messages([turn(role, role) for role in roles]).text == expected


def test_a_blank_user_turn_is_no_user_text() -> None:
    assert prompt.from_messages([turn("system", "s"), turn("user", " \n")]).text == "s"


def test_parts_with_text_are_read_and_others_ignored() -> None:
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_text", "text": "here"},
        {"type": "tool_use", "input": {"text": "no"}},
        {"type": "mystery", "text": "no"},
    ]
    assert prompt.from_messages([turn("user", parts)]) == PromptText("look\nhere", 8)


@pytest.mark.parametrize("content", ["42 degrees", [{"type": "text", "text": "42 degrees"}]])
def test_an_anthropic_tool_result_is_not_a_user_turn(content: Any) -> None:
    result = turn("user", [{"type": "tool_result", "content": content}])
    assert prompt.from_messages([turn("user", "How warm?"), result]) == PromptText("How warm?", 19)
    assert prompt.from_messages([result]).text == "42 degrees"


def test_a_string_cell_and_its_request_give_the_same_text() -> None:
    for text in ("Q: 1 + 1?", "é" * 5000, "[1, 2] has how many items?", " padded \n", "\ud800"):
        assert prompt.from_value(text) == prompt.from_messages([turn("user", text)])
        assert prompt.from_value(text) == of_request(prompt=text)
        assert prompt.from_value(text) == of_request(input=text)


def test_a_cell_may_hold_messages_as_json() -> None:
    messages = [turn("system", "s"), turn("user", "hi")]
    assert prompt.from_value(json.dumps(messages)) == prompt.from_value(messages) == PromptText("hi", 3)


def test_a_cell_that_is_neither_is_refused() -> None:
    with pytest.raises(PromptError, match="expected a string or a list"):
        prompt.from_value(3)  # type: ignore[arg-type]


def test_responses_input_items_are_read_by_their_type() -> None:
    items: list[Any] = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "weather?"}]},
        {"type": "reasoning", "summary": []},
        {"type": "function_call_output", "output": "sunny"},
        "thanks",
    ]
    assert of_request(input=items, instructions="be kind") == PromptText("weather?\nthanks", 26)


def test_completion_prompts_of_token_ids_have_no_text() -> None:
    assert of_request(prompt=["a", "b"]).text == "a\nb"
    assert of_request(prompt=[1, 2]) == of_request(prompt=[[1], [2]]) == PromptText("", 0)


def test_a_request_is_read_from_messages_then_input_then_prompt() -> None:
    body: dict[str, Any] = {"prompt": "p"}
    assert prompt.from_request(None, body) == PromptText("p", 1)
    body["input"] = "i"
    assert prompt.from_request(None, body) == PromptText("i", 1)
    body["messages"] = [turn("user", "m")]
    assert prompt.from_request(None, body) == PromptText("m", 1)
    assert prompt.from_request([turn("user", "given")], body) == PromptText("given", 5)


def test_a_request_without_text_is_none() -> None:
    assert prompt.from_request() is None
    assert prompt.from_request([], {"tools": [{}]}) is None
    assert prompt.from_request(None, {"prompt": [1, 2]}) is None


def test_system_prompts_and_tools_count_towards_the_length_only() -> None:
    body = {"system": [{"type": "text", "text": "abc"}], "tools": [{"a": 1}]}
    assert prompt.from_request([turn("user", "hi")], body) == PromptText("hi", 2 + 3 + len('[{"a": 1}]'))


def test_message_objects_are_read_as_dicts_are() -> None:
    from litellm import Message

    assert prompt.from_messages([Message(role="assistant", content="hi")]) == PromptText("hi", 2)


def test_a_long_prompt_keeps_head_and_tail() -> None:
    cut = prompt.from_messages([turn("user", "head " + "x" * 5_000_000), turn("user", "tail")])
    assert cut.text.startswith("head xxx")
    assert cut.text.endswith("xxx\ntail")
    assert (len(cut.text.encode()), cut.n_chars) == (MAX_BYTES - 1, 5_000_009)


def test_a_five_megabyte_prompt_is_never_copied() -> None:
    messages = [turn("user", "x" * 5_000_000)] * 3
    tracemalloc.start()
    prompt.from_messages(messages)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


@given(st.lists(st.text(st.characters(codec=None)).map(lambda t: t * 50), max_size=5))
def test_text_is_valid_utf8_within_the_limit(texts: list[str]) -> None:
    cut = prompt.from_messages([turn("user", text) for text in texts])
    assert len(cut.text.encode("utf-8")) <= MAX_BYTES
    assert cut.n_chars == sum(map(len, texts))


@given(JSON, st.dictionaries(st.sampled_from(["messages", "input", "prompt", "system", "tools"]), JSON))
def test_nothing_a_client_sends_raises(messages: Any, body: dict[str, Any]) -> None:
    prompt.from_messages(messages)
    of_request(input=messages, instructions=messages)
    of_request(prompt=messages)
    assert turns_in(cell_of(messages, body, 10)) is None or len(cell_of(messages, body, 10)) < 5000
    request = prompt.from_request(messages, body)
    assert request is None or 0 < len(request.text) <= MAX_BYTES


def test_a_request_kept_as_a_cell_is_embedded_as_it_was_and_keeps_who_said_what() -> None:
    tools = {"tools": [{"type": "function", "function": {"name": "f"}}]}
    asked: list[tuple[object, dict[str, object], object]] = [
        ([{"role": "user", "content": "one"}], tools, "one"),
        (None, {"prompt": ["one", "two"]}, "one\ntwo"),
        (None, {"contents": "one", "systemInstruction": {"parts": [{"text": "s"}]}}, ["user", "system"]),
        (
            [
                {"role": "developer", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "image_url"}]},
                {"role": "user", "content": "two"},
                {"role": "assistant", "content": None, "tool_calls": [{}]},
                {"role": "tool", "content": "said"},
            ],
            {},
            ["system", "user", "tool"],
        ),
        ([{"role": "assistant", "content": "said"}], {}, ["assistant"]),
        ([], {}, ""),
    ]
    for messages, request, wanted in asked:
        cell = cell_of(messages, request, 1000)
        assert (cell if isinstance(wanted, str) else [m["role"] for m in json.loads(cell)]) == wanted
        before = from_request(messages, request)
        assert from_value(cell).text == ("" if before is None else before.text)


def test_a_long_conversation_kept_as_a_cell_keeps_its_end_and_is_bounded() -> None:
    messages = [{"role": ("user", "assistant")[i % 2], "content": f"{i} " + "x" * 97} for i in range(50)]
    turns = turns_in(cell_of(messages, {}, 1050)) or []
    assert sum(len(text) for _, text in turns) == 1050
    assert turns[-1][1].startswith("49 ")
    many = [{"role": ("user", "assistant")[i % 2], "content": "x"} for i in range(50_000)]
    assert len(turns_in(cell_of(many, {}, 80_000)) or []) == 1000
    assert cell_of(None, {"prompt": "y" * 2000}, 1000) == "y" * 1000


@pytest.mark.parametrize(
    "odd",
    [
        '[{"role": "user", "content": "a", "more": 1}]',
        '[{"role": "a", "content": "b"}]',
        '[{"role"',
        '[{"role": "user", "content": null}]',
    ],
)
def test_a_text_that_only_looks_like_a_conversation_is_redacted_as_a_text(odd: str) -> None:
    assert turns_in(odd) is None
