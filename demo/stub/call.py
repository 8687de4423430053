"""How a model behaves, and one request to it."""

import math
import zlib
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

# Status, what is said, OpenAI's code.
STATUS_MODES = {
    "401": (401, "wants another key", "invalid_api_key"),
    "404": (404, "is not here", "model_not_found"),
    "429": (429, "is set to refuse", "rate_limit_exceeded"),
    "500": (500, "is set to fail", "server_error"),
}
# What an upstream may say it has used instead of what it has.
ODD_USAGE: Json = {"negative": -1000, "huge": 10**400, "nan": math.nan, "text": "many", "missing": None}
# What a model does not take, and what its chat completions look like: see `demo.stub.odd`.
_REFUSING_MODES = ("one_of_two", "no_sampling", "reasoning", "no_effort")
_ODD_MODES = ("parts", "null", "refusal", "tools", "thought", "cut", "twice", "fewer")
_PLAIN_MODES = (
    "ok", *STATUS_MODES, "hang", "close", "refuse_n", "one_choice", "empty", "wrong_shape", "nan", *_REFUSING_MODES,
    *_ODD_MODES,
)  # fmt: skip
_NUMBER_MODES = ("slow", "context", "fail", "drip", "nulls")


@dataclass(frozen=True)
class Mode:
    """How one model behaves; see :meth:`parse` for the names."""

    kind: str = "ok"
    amount: float = 0.0
    usage: str = ""

    @classmethod
    def parse(cls, text: str) -> "Mode":
        """Read a mode.

        ``ok``; ``401``, ``404``, ``429``, ``500``: that status; ``hang``: never answers; ``close``: drops the
        connection; ``refuse_n``: a 400 for ``n`` above 1; ``one_choice``: ignores ``n``; ``empty``: answers nothing;
        ``slow:S``: answers after S seconds; ``drip:S``: streams one word a token, one every S seconds, and is charged
        for those alone that it sent; ``usage:KIND``: says it has used what no answer can: ``negative``,
        ``huge``, ``nan``, ``text``, ``missing``; ``context:N``: OpenAI's context_length_exceeded above N prompt
        tokens; ``fail:N``: the next N requests get a 500; ``one_of_two``: refuses temperature together with top_p, as
        Claude 4.5 does, ``no_sampling``: either, as later ones do, ``reasoning``: max_tokens, top_p and a temperature
        other than 1, as OpenAI's do, ``no_effort``: being told how much to think;
        ``parts``, ``null``, ``refusal``, ``tools``, ``thought``, ``cut``, ``twice``,
        ``fewer``: the content in parts, or null, alone or with a refusal or a tool call, or because all tokens went
        into thinking, the text cut, every choice twice, one choice too few; ``nulls:N``: the next N contents are null;
        and for embeddings ``wrong_shape`` (one
        dimension missing) and ``nan``.

        Raises
        ------
        ValueError : not one of these
        """
        kind, _, amount = text.removeprefix("embed_").partition(":")
        if kind == "usage" and amount in ODD_USAGE:
            return cls(kind, usage=amount)
        if (kind in _PLAIN_MODES and not amount) or (kind in _NUMBER_MODES and amount):
            return cls(kind, float(amount or 0))
        raise ValueError(
            f"unknown mode {text!r}: one of {', '.join(_PLAIN_MODES)}, or slow:S, drip:S, usage:KIND, context:N, "
            "fail:N, nulls:N"
        )


@dataclass(frozen=True)
class Call:
    """One model request, as far as the stub understands it; ``number`` counts them."""

    number: int
    model: str
    route: str
    body: Json
    mode: Mode
    prompt: str
    prompt_tokens: int
    completion_tokens: int
    n: int = 1
    best_of: int = 1
    prompts: int = 1

    @property
    def id(self) -> str:
        return f"{self.number}-{zlib.crc32(self.prompt.encode(errors='replace')):08x}-{self.model}"

    @property
    def streams(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def drips(self) -> bool:
        return self.streams and self.mode.kind == "drip"

    @property
    def answers(self) -> int:
        """How many answers it is charged for."""
        return self.prompts * max(self.n, self.best_of)

    @property
    def text(self) -> str:
        said = "" if self.mode.kind == "empty" else f"answer from {self.model}{self._effort}"
        # LiteLLM ends a stream that says the same a hundred times.
        return said + "".join(f" {i}" for i in range(self.completion_tokens - 3)) if self.drips else said

    @property
    def _effort(self) -> str:
        """What an answer says of the effort that it was asked for; nothing where none was."""
        reasoning = self.body.get("reasoning")
        stated = self.body.get("reasoning_effort") or (reasoning.get("effort") if isinstance(reasoning, dict) else None)
        return f" at effort {stated}" if isinstance(stated, str) else ""

    @property
    def pieces(self) -> list[str]:
        """The answer in the pieces it is streamed in, one per word."""
        first, *others = self.text.split(" ")
        return [first, *(f" {word}" for word in others)]

    def usage(self, answers: int, input_name: str = "prompt_tokens", output_name: str = "completion_tokens") -> Any:
        """Tokens used, or what the mode has it say; None where it says nothing."""
        if self.mode.usage:
            odd = ODD_USAGE[self.mode.usage]
            return odd and dict.fromkeys((input_name, output_name, "total_tokens"), odd)
        output = self.completion_tokens * answers
        return {input_name: self.prompt_tokens, output_name: output, "total_tokens": self.prompt_tokens + output}

    def answer(self, kind: str, prefix: str, **fields: Any) -> Json:
        """What an answer or an event begins with."""
        head = {"id": f"{prefix}-{self.id}", "object": kind, "created": 1_700_000_000, "model": self.body.get("model")}
        return head | fields
