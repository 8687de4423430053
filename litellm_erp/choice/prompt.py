"""PURE. The rule that turns a request into the text that is embedded.

* The text is that of all **user** turns, oldest first, joined by newlines. System and developer prompts,
  assistant turns, tool calls and tool results are left out: a system prompt is the same for nearly every
  request of an application and would swamp the part that differs, and what a model or a tool said is not
  what was asked for. Probes are fitted on single questions; user turns are what a conversation shares with them.
* Where no user turn has text, any text will do: tool results, else assistant turns, else system prompts.
* Text is cut to ``MAX_BYTES`` before anything tokenises it: half from the head and half from the tail, because
  long prompts state their task at either end. A 5 MB prompt therefore costs no more than a long one.
* Nothing a client sends makes these functions raise: what has no readable text has none.

Training (`from_value`) and serving (`from_request`) give the same text for the same single-turn prompt.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from litellm_erp.errors import PromptError

MAX_BYTES = 4096
_HALF = (MAX_BYTES - 1) // 2

_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
SYSTEM_ROLES = frozenset({"system", "developer"})
_TOOL_ROLES = frozenset({"tool", "function"})
_ROLES = ("user", "assistant", "system", "tool")
# Of a conversation that is kept as a cell.
_MOST_TURNS = 1000
# What requests are made of, first: asking whether a dict is a Mapping costs a walk through Python's abstract classes.
_MAPPING, _SEQUENCE = (dict, Mapping), (list, Sequence)


@dataclass(frozen=True, slots=True)
class PromptText:
    """What a request says, ready to be embedded.

    Attributes
    ----------
    text : at most ``MAX_BYTES`` bytes of UTF-8, without lone surrogates; "" where there is none
    n_chars : characters of all text of the request, every role included, before cutting; for the cost
    """

    text: str
    n_chars: int


def from_messages(messages: object) -> PromptText:
    """Text of OpenAI chat messages or Anthropic messages.

    Parameters
    ----------
    messages : a list of messages; anything else, and anything odd inside it, counts as no text

    Returns
    -------
    PromptText

    Source: ours; the module docstring gives the reasons.
    """
    turns = _Turns()
    turns.add_messages(messages)
    return turns.prompt_text()


def from_request(messages: object = None, request_kwargs: Mapping[str, Any] | None = None) -> PromptText | None:
    """Text of whatever request LiteLLM is about to route.

    Parameters
    ----------
    messages : chat messages, where LiteLLM passes them apart from the rest
    request_kwargs : the request; ``messages``, ``input``, ``contents`` or ``prompt`` is read, in this order, and
        ``system``, ``instructions``, ``systemInstruction`` and ``tools`` count towards ``n_chars``

    Returns
    -------
    PromptText, or None where the request has no text at all

    Source: ours; the rule of `from_messages`.
    """
    kwargs = request_kwargs if isinstance(request_kwargs, _MAPPING) else {}
    tools = kwargs.get("tools")
    prompt = _turns(messages, kwargs).prompt_text(extra_chars=len(_json(tools)) if tools else 0)
    return prompt if prompt.text else None


def whole_text(messages: object = None, request_kwargs: Mapping[str, Any] | None = None) -> str:
    """Everything of a request that counts towards a context window, uncut, in no particular order.

    Parameters
    ----------
    messages, request_kwargs : as for `from_request`
    """
    kwargs = request_kwargs if isinstance(request_kwargs, _MAPPING) else {}
    turns = _turns(messages, kwargs)
    return "\n".join((*turns.user, *turns.tool, *turns.assistant, *turns.system, _json(kwargs.get("tools"))))


def cell_of(messages: object, request_kwargs: Mapping[str, Any], most: int) -> str:
    """A request as the ``prompt`` cell of an outcomes table that `from_value` reads: texts and who said them, no more.

    Parameters
    ----------
    messages, request_kwargs : as for `from_request`
    most : characters of text that are kept: a question's first, a conversation's last

    Returns
    -------
    the text of one user turn as it is, else the JSON of chat messages; "" without any text
    """
    turns = _Turns(said=[])
    _read(turns, messages, request_kwargs)
    found: list[tuple[str, list[str]]] = []
    for role, text in turns.said or ():
        if found and found[-1][0] == role:
            found[-1][1].append(text)
        else:
            found.append((role, [text]))
    joined = [(role, "\n".join(texts)) for role, texts in found]
    if not joined or (len(joined) == 1 and joined[0][0] == "user"):
        return joined[0][1][:most] if joined else ""
    kept: list[tuple[str, str]] = []
    for role, text in reversed(joined[-_MOST_TURNS:]):
        if most <= 0:
            break
        kept.append((role, text[-most:]))
        most -= len(text)
    return cell_of_turns(reversed(kept))


def cell_of_turns(turns: Iterable[tuple[str, str]]) -> str:
    """The cell of a conversation."""
    return json.dumps([{"role": role, "content": text} for role, text in turns], ensure_ascii=False)


def turns_in(cell: str) -> list[tuple[str, str]] | None:
    """Roles and texts of a cell that `cell_of_turns` could have written; None for all others."""
    found = _json_messages(cell)
    if found is None or not all(
        message.keys() == {"role", "content"} and message["role"] in _ROLES and isinstance(message["content"], str)
        for message in found
    ):
        return None
    return [(message["role"], message["content"]) for message in found]


def from_value(value: str | list[Any]) -> PromptText:
    """Text of the ``prompt`` cell of an outcomes table.

    Parameters
    ----------
    value : one user turn; or a list of chat messages, as a list or as the JSON of one. A string is taken for
        JSON only where it is a list whose every item is an object with a ``role``

    Returns
    -------
    PromptText

    Raises
    ------
    PromptError : the cell is neither

    Source: ours; the rule of `from_messages`, so that training and serving see the same text.
    """
    if isinstance(value, str):
        return from_messages(_json_messages(value) or [{"role": "user", "content": value}])
    if isinstance(value, list):
        return from_messages(value)
    raise PromptError(
        f"a prompt is {type(value).__name__}; expected a string or a list of chat messages. "
        'Write the prompt as text, or as JSON: [{"role": "user", "content": "..."}]'
    )


def _turns(messages: object, request: Mapping[str, Any]) -> _Turns:
    turns = _Turns()
    _read(turns, messages, request)
    return turns


def _read(turns: _Turns, messages: object, request: Mapping[str, Any]) -> None:
    if (system := request.get("system")) is not None:
        turns.add(turns.system, _texts(system))
    if messages or request.get("messages"):
        turns.add_messages(messages or request.get("messages"))
    elif request.get("input"):
        turns.add(turns.system, _texts(request.get("instructions")))
        turns.add_input(request.get("input"))
    elif request.get("contents"):
        turns.add_contents(request.get("contents"))
        for key in ("systemInstruction", "system_instruction"):
            turns.add(turns.system, _parts(request.get(key)))
    else:
        turns.add(turns.user, _strings(request.get("prompt")))


@dataclass(slots=True)
class _Turns:
    """Texts by who said them; blank texts are counted and not kept.

    Attributes
    ----------
    said : role and text in their order; None where nobody asks for it
    """

    user: list[str] = field(default_factory=list)
    tool: list[str] = field(default_factory=list)
    assistant: list[str] = field(default_factory=list)
    system: list[str] = field(default_factory=list)
    n_chars: int = 0
    said: list[tuple[str, str]] | None = None

    def add(self, to: list[str], texts: Iterable[str]) -> None:
        for text in texts:
            self.n_chars += len(text)
            if text and not text.isspace():
                to.append(text)
                if self.said is not None:
                    self.said.append((self._name_of(to), text))

    def _name_of(self, to: list[str]) -> str:
        # By identity: lists that hold the same are equal.
        return next(name for name in _ROLES if getattr(self, name) is to)

    def add_messages(self, messages: object) -> None:
        if isinstance(messages, _SEQUENCE) and not isinstance(messages, (str, bytes)):
            for message in messages:
                self.add_message(message)

    def add_message(self, message: object) -> None:
        content = item_of(message, "content")
        self.add(self._of_role(item_of(message, "role")), _texts(content))
        if isinstance(content, list):
            for part in content:
                if item_of(part, "type") == "tool_result":
                    self.add(self.tool, _texts(item_of(part, "content")))

    def add_input(self, value: object) -> None:
        for item in [value] if isinstance(value, str) else value if isinstance(value, list) else []:
            if isinstance(item, str):
                self.add(self.user, [item])
            elif item_of(item, "type") == "function_call_output":
                self.add(self.tool, _texts(item_of(item, "output")))
            else:
                self.add_message(item)

    def add_contents(self, contents: object) -> None:
        """Google's turns: a string, or a list of strings and of ``{role, parts: [{text}]}``; ``model`` answers."""
        for item in [contents] if not isinstance(contents, list) else contents:
            if isinstance(item, str):
                self.add(self.user, [item])
            else:
                to = self.assistant if item_of(item, "role") == "model" else self.user
                self.add(to, _parts(item))

    def prompt_text(self, extra_chars: int = 0) -> PromptText:
        texts = self.user or self.tool or self.assistant or self.system
        return PromptText(text=_cut(texts), n_chars=self.n_chars + extra_chars)

    def _of_role(self, role: object) -> list[str]:
        if role == "user":
            return self.user
        if not isinstance(role, str) or role in SYSTEM_ROLES:
            return self.system
        return self.tool if role in _TOOL_ROLES else self.assistant


def item_of(item: object, key: str) -> Any:
    """What stands under a key of a turn or of a part of one; None where nothing does."""
    # Programs that use the Router directly append LiteLLM's own message objects to their lists.
    return item.get(key) if isinstance(item, _MAPPING) else getattr(item, key, None)


def _texts(content: object) -> Iterable[str]:
    if isinstance(content, str):
        return (content,)
    return _texts_of_parts(content) if isinstance(content, list) else ()


def _texts_of_parts(parts: list[Any]) -> Iterable[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        elif isinstance(part_type := item_of(part, "type"), str) and part_type in _TEXT_PARTS:
            text = item_of(part, "text")
            if isinstance(text, str):
                yield text


def _parts(content: object) -> Iterable[str]:
    """Texts of Google's content: ``{parts: [{text}]}``, one part, or plain text."""
    parts = item_of(content, "parts")
    for part in parts if isinstance(parts, list) else [content if parts is None else parts]:
        text = part if isinstance(part, str) else item_of(part, "text")
        if isinstance(text, str):
            yield text


def _strings(value: object) -> Iterable[str]:
    items = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return (item for item in items if isinstance(item, str))


def _cut(texts: list[str]) -> str:
    if sum(map(len, texts)) + len(texts) <= MAX_BYTES:
        text = "\n".join(texts)
        if text.isascii():
            return text
        data = text.encode("utf-8", "replace")
        if len(data) <= MAX_BYTES:
            return data.decode()
        head, tail = data[:_HALF], data[-_HALF:]
    else:
        head = _first_chars(texts, _HALF).encode("utf-8", "replace")[:_HALF]
        tail = _last_chars(texts, _HALF).encode("utf-8", "replace")[-_HALF:]
    # A cut may fall inside a character: "ignore" drops the bytes that are left of it.
    return head.decode("utf-8", "ignore") + "\n" + tail.decode("utf-8", "ignore")


def _first_chars(texts: list[str], n: int) -> str:
    # Slices before it joins: joining first would copy the whole of a large prompt.
    taken: list[str] = []
    for text in texts:
        if n <= 0:
            break
        taken.append(text[:n])
        n -= len(text) + 1
    return "\n".join(taken)


def _last_chars(texts: list[str], n: int) -> str:
    taken: list[str] = []
    for text in reversed(texts):
        if n <= 0:
            break
        taken.append(text[-n:])
        n -= len(text) + 1
    return "\n".join(reversed(taken))


def _json(tools: object) -> str:
    if not tools:
        return ""
    try:
        return json.dumps(tools, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return ""


def _json_messages(value: str) -> list[Any] | None:
    # Parsing every prompt that opens with a bracket would cost; a message list cannot do without "role".
    if value.lstrip()[:1] != "[" or '"role"' not in value:
        return None
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return None
    if isinstance(parsed, list) and parsed and all(isinstance(m, dict) and "role" in m for m in parsed):
        return parsed
    return None
