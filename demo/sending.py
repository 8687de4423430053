"""IO. Prompts through the proxy, and for each what the stub was really asked.

A response carries the id of the stub's answer, and the stub's log has a record of that id: this is how a request is
tied to the model that served it, whatever the headers say and however often LiteLLM tried.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from demo.asking import ask_each, client_of
from demo.prepare import HeldOut
from litellm_erp.errors import ServingError

_AT_ONCE = 16
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class TeamReply:
    """What a client got for one prompt; ``error`` is "" where all went well."""

    prompt: int
    team: str
    stub_id: str
    headers: Mapping[str, str]
    error: str


@dataclass(frozen=True, slots=True)
class Served:
    """One request: what its headers said, and what the stub saw. One line of ``served.jsonl``.

    Attributes
    ----------
    lambda_ : what the team's settings ask for; its key in the file is ``lambda``
    header_model : in ``x-erp-model``; None where the header is missing
    stub_model, input_tokens, output_tokens : in the stub's record; None where the request failed
    reward : recorded outcome of ``stub_model`` on the prompt
    cost_usd : prices times the stub's tokens
    headers : all ``x-erp-*`` headers, without that prefix
    """

    prompt_id: str
    team: str
    lambda_: float
    safety: bool
    header_model: str | None
    stub_model: str | None
    input_tokens: int | None
    output_tokens: int | None
    reward: float | None
    cost_usd: float | None
    headers: Mapping[str, str]
    error: str

    @property
    def is_as_decided(self) -> bool:
        """Whether the model that answered is the one that the header names, and was chosen."""
        reason = self.headers.get("reason", "").partition(";")[0]
        return self.header_model == self.stub_model and reason in ("routed", "safe-default", "retry")

    def to_json(self) -> dict[str, Any]:
        """The fields by name, ``error`` only where there is one."""
        row = {name.rstrip("_"): value for name, value in asdict(self).items()}
        return row if self.error else {name: value for name, value in row.items() if name != "error"}


async def ask_all(
    base_url: str, group: str, prompts: Sequence[str], teams: Sequence[str], advance: Callable[[int], None]
) -> list[TeamReply]:
    """Send every prompt as every team, a bounded number at a time; answers in order of prompt, then team."""
    asked = [(number, team) for number in range(len(prompts)) for team in teams]
    async with client_of(base_url, _TIMEOUT_S) as client:
        pairs = [(prompts[number], f"sk-{team}") for number, team in asked]
        replies = await ask_each(client, group, pairs, _AT_ONCE, advance)
    return [
        TeamReply(number, team, reply.id.removeprefix("chatcmpl-"), reply.headers, reply.error)
        for (number, team), reply in zip(asked, replies, strict=True)
    ]


def join(
    answers: Sequence[TeamReply],
    records: Sequence[Mapping[str, Any]],
    data: HeldOut,
    lambdas: Mapping[str, float],
    *,
    safety: bool,
) -> list[Served]:
    """Tie each answer to the stub's record of it.

    Raises
    ------
    ServingError : an answer without its record, or a record with other tokens than the table the stub was given
    """
    by_id = {record["id"]: record for record in records}
    return [_served(answer, by_id, data, lambdas[answer.team], safety) for answer in answers]


def _served(
    answer: TeamReply, by_id: Mapping[str, Mapping[str, Any]], data: HeldOut, lambda_: float, safety: bool
) -> Served:
    p, name = answer.prompt, data.outcomes.prompt_ids[answer.prompt]
    head = (name, answer.team, lambda_, safety, answer.headers.get("model"))
    if answer.error:
        return Served(*head, None, None, None, None, None, answer.headers, answer.error)
    record = by_id.get(answer.stub_id)
    if record is None:
        raise ServingError(f"prompt {name}: the stub has no record of the answer {answer.stub_id!r}")
    m = data.outcomes.models.index(record["model"])
    tokens = record["prompt_tokens"], record["completion_tokens"]
    if tokens != (data.input_tokens_P[p], data.output_tokens_PM[p, m]):
        raise ServingError(
            f"prompt {name}: the stub counted {tokens} tokens, expected "
            f"({data.input_tokens_P[p]}, {data.output_tokens_PM[p, m]}); the prompt was changed on its way"
        )
    reward, cost = float(data.outcomes.rewards_PM[p, m]), float(data.cost_PM[p, m])
    return Served(*head, record["model"], *tokens, reward, cost, answer.headers, "")


def write_served(served: Sequence[Served], path: Path) -> None:
    """Write one JSON line per request."""
    lines = (json.dumps(request.to_json(), ensure_ascii=False) for request in served)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
