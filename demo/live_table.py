"""What the live demo prints: who answered, probes' digests, one table of held-out results, how to read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from demo.live_questions import Question
from demo.live_serving import Reply
from erp_trainer.learning.bootstrap import Interval, interval
from erp_trainer.outcomes.run import Run
from erp_trainer.outcomes.table import OutcomesTable

_PERCENT = 100


@dataclass(frozen=True, eq=False)
class Row:
    """One policy on the held-out questions.

    Attributes
    ----------
    right : share of right responses, each question's the mean of its K samples
    gain : against the best single model of train, paired by question; None for that model itself
    share_M : shape (M,), of questions by member
    answered : share of right answers among those that the proxy really gave; None where it did not serve
    """

    name: str
    right: Interval
    gain: Interval | None
    share_M: np.ndarray
    answered: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in ``summary.json``."""
        return {
            "name": self.name,
            "right": self.right.to_json(),
            "gain": None if self.gain is None else self.gain.to_json(),
            "share": self.share_M.tolist(),
            "answered": self.answered,
        }


def results(run: Run, members: Sequence[str], before: Sequence[Reply], after: Sequence[Reply]) -> list[Row]:
    """Single members, routed without and with the newcomer, and oracles in hindsight.

    Parameters
    ----------
    members : the newcomer last
    before, after : a reply of the proxy to every held-out question
    """
    outcomes = run.outcomes()
    train, test = (outcomes.subset(np.array([s == name for s in outcomes.splits])) for name in ("train", "test"))
    reward = _columns(test, members)
    first = int(np.argmax(np.nanmean(_columns(train, members[:-1]), axis=0)))
    everywhere = np.ones(len(reward), dtype=np.int64)
    chosen = [
        *((f"always {name}", m * everywhere, None) for m, name in enumerate(members)),
        ("routed among the first members", _choices(test, members, before), before),
        ("routed, with the newcomer", _choices(test, members, after), after),
        ("oracle of the first members", np.argmax(reward[:, :-1], axis=1), None),
        ("oracle of all", np.argmax(reward, axis=1), None),
    ]
    groups = test.duplicate_groups()
    questions = np.arange(len(reward))
    base = reward[:, first]
    return [
        Row(
            name,
            interval(reward[questions, choice], groups),
            None if name == f"always {members[first]}" else interval(reward[questions, choice] - base, groups),
            np.bincount(choice, minlength=len(members)) / len(choice),
            None if replies is None else float(np.mean([reply.right for reply in replies])),
        )
        for name, choice, replies in chosen
    ]


def table(rows: Sequence[Row]) -> Table:
    """The one table."""
    members = [row.name.removeprefix("always ") for row in rows if row.name.startswith("always ")]
    made = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, header_style="bold")
    made.add_column("\nheld-out questions", no_wrap=True)
    made.add_column("right, %\n(95% interval)", justify="right", no_wrap=True, min_width=16)
    made.add_column("points vs best single\n(95% interval)", justify="right", no_wrap=True, min_width=24)
    made.add_column("the proxy's own\nanswers right, %", justify="right", no_wrap=True, min_width=17)
    for letter in _letters(members):
        made.add_column(f"\n{letter}", justify="right", no_wrap=True, min_width=5)
    for row in rows:
        shares = [f"{share:.0%}".rstrip("%") if share else "·" for share in row.share_M]
        gain = "best single" if row.gain is None else _signed(row.gain)
        answered = "" if row.answered is None else f"{row.answered * _PERCENT:.0f}"
        style = "bold" if row.answered is not None else ""
        made.add_row(row.name, _plain(row.right), gain, answered, *shares, style=style)
    named = ", ".join(f"{letter} {name}" for letter, name in zip(_letters(members), members, strict=True))
    made.caption = f"Share of questions by member, in %: {named}. Best single: of the first members, on train."
    return made


def headers(replies: Sequence[Reply], asked: Sequence[Question], count: int) -> Table:
    """The response headers of the first questions, one of each kind."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("question", "x-erp-model", "-reason", "-expected-reward", "answer", ""):
        made.add_column(name, no_wrap=True)
    for reply, question in list(zip(replies, asked, strict=True))[:count]:
        text = (reply.text.strip().splitlines() or [""])[0][:24]
        made.add_row(
            question.prompt, reply.model, reply.reason, reply.expected, text, "right" if reply.right else "wrong"
        )
    return made


def digests(before: Mapping[str, str], after: Mapping[str, str]) -> Table:
    """Probe files with their sha256 before and after."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("probe", "sha256 before", "sha256 after", ""):
        made.add_column(name, no_wrap=True)
    for file, digest in after.items():
        old = before.get(file)
        word = "new" if old is None else "the same" if old == digest else "CHANGED"
        made.add_row(file, "" if old is None else f"{old[:16]}…", f"{digest[:16]}…", word)
    return made


def reading(rows: Sequence[Row]) -> str:
    """What the intervals allow to be said of the routed rows."""
    said = []
    for row in rows:
        if row.answered is None:
            continue
        if row.gain is None:
            raise ValueError("a routed row has a gain")
        word = "better than" if row.gain.low > 0 else "worse than" if row.gain.high < 0 else "not told apart from"
        said.append(f"{row.name}: {word} the best single of the first members on these questions.")
    return "\n".join(said)


def _columns(outcomes: OutcomesTable, members: Sequence[str]) -> np.ndarray:
    columns: np.ndarray = outcomes.rewards_PM[:, [outcomes.models.index(name) for name in members]]
    return columns


def _choices(outcomes: OutcomesTable, members: Sequence[str], replies: Sequence[Reply]) -> np.ndarray:
    by_id = {reply.prompt_id: members.index(reply.model) for reply in replies}
    return np.array([by_id[prompt_id] for prompt_id in outcomes.prompt_ids])


def _letters(members: Sequence[str]) -> list[str]:
    return [chr(ord("A") + m) for m in range(len(members))]


def _plain(found: Interval) -> str:
    return f"{found.mean * _PERCENT:.0f} ({found.low * _PERCENT:.0f} to {found.high * _PERCENT:.0f})"


def _signed(found: Interval) -> str:
    mean, low, high = (
        f"{v * _PERCENT:+.0f}".replace("-", "−").replace("+0", "0") for v in (found.mean, found.low, found.high)
    )
    return f"{mean} ({low} to {high})"
