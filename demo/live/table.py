"""What the live demo prints: who answered, probes' digests, one table of held-out results, how to read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from demo import terminal
from demo.live.questions import Question
from demo.live.serving import Reply
from erp_trainer.learning.bootstrap import Interval, interval
from erp_trainer.learning.outcome import best_of
from erp_trainer.outcomes.run import Run
from erp_trainer.outcomes.table import OutcomesTable
from erp_trainer.words import points_from_to
from litellm_erp.choice.decision import name_order


@dataclass(frozen=True, eq=False)
class LiveRow:
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
        gain = None if self.gain is None else self.gain.to_json()
        found = {"name": self.name, "right": self.right.to_json(), "gain": gain}
        return found | {"share": self.share_M.tolist(), "answered": self.answered}


def results(run: Run, members: Sequence[str], before: Sequence[Reply], after: Sequence[Reply]) -> list[LiveRow]:
    """Single members, routed without and with the newcomer, and oracles in hindsight.

    Parameters
    ----------
    members : the newcomer last
    before, after : a reply of the proxy to every held-out question
    """
    outcomes = run.outcomes()
    train, test = (outcomes.subset(np.array([s == name for s in outcomes.splits])) for name in ("train", "test"))
    reward = _columns(test, members)
    means = np.nanmean(_columns(train, members[:-1]), axis=0)
    # Nobody pays for them.
    first = best_of(means, np.zeros(len(means)), name_order(members[:-1]))
    questions = np.arange(len(reward))
    chosen = [
        *((f"always {name}", np.full_like(questions, m), None) for m, name in enumerate(members)),
        ("routed among the first members", _choices(test, members, before), before),
        ("routed, with the newcomer", _choices(test, members, after), after),
        ("oracle of the first members", np.argmax(reward[:, :-1], axis=1), None),
        ("oracle of all", np.argmax(reward, axis=1), None),
    ]
    groups, base = test.duplicate_groups(), reward[:, first]
    return [
        LiveRow(
            name,
            interval(reward[questions, choice], groups),
            None if name == f"always {members[first]}" else interval(reward[questions, choice] - base, groups),
            np.bincount(choice, minlength=len(members)) / len(choice),
            None if replies is None else float(np.mean([reply.right for reply in replies])),
        )
        for name, choice, replies in chosen
    ]


def results_table(rows: Sequence[LiveRow]) -> Table:
    """The one table."""
    members = [row.name.removeprefix("always ") for row in rows if row.name.startswith("always ")]
    letters = terminal.letters(len(members))
    columns = {
        "\nheld-out questions": None,
        "right, %\n(95% interval)": 16,
        "points vs best single\n(95% interval)": 24,
        "the proxy's own\nanswers right, %": 17,
    }
    made = terminal.ruled(columns | {f"\n{letter}": 5 for letter in letters})
    for row in rows:
        right = f"{100 * row.right.mean:.0f} ({100 * row.right.low:.0f} to {100 * row.right.high:.0f})"
        gain = row.gain
        against = "best single" if gain is None else points_from_to(gain.mean, gain.low, gain.high, 0)
        answered = "" if row.answered is None else f"{100 * row.answered:.0f}"
        shares = map(terminal.whole_percent, row.share_M)
        made.add_row(row.name, right, against, answered, *shares, style="bold" if answered else "")
    named = ", ".join(f"{letter} {name}" for letter, name in zip(letters, members, strict=True))
    made.caption = f"Share of questions by member, in %: {named}. Best single: of the first members, on train."
    return made


def headers(replies: Sequence[Reply], asked: Sequence[Question], count: int) -> Table:
    """The response headers of the first questions, one of each kind."""
    made = terminal.plain("question", "x-erp-model", "-reason", "-expected-reward", "answer", "")
    for reply, question in list(zip(replies, asked, strict=True))[:count]:
        text = (reply.text.strip().splitlines() or [""])[0][:24]
        right = "right" if reply.right else "wrong"
        made.add_row(question.prompt, reply.model, reply.reason, reply.expected, text, right)
    return made


def digests(before: Mapping[str, str], after: Mapping[str, str]) -> Table:
    """Probe files with their sha256 before and after."""
    made = terminal.plain("probe", "sha256 before", "sha256 after", "")
    for file, digest in after.items():
        old = before.get(file)
        word = "new" if old is None else "the same" if old == digest else "CHANGED"
        made.add_row(file, "" if old is None else f"{old[:16]}…", f"{digest[:16]}…", word)
    return made


def reading(rows: Sequence[LiveRow]) -> str:
    """What the intervals allow to be said of the routed rows."""
    said = []
    for row in rows:
        if row.answered is not None and row.gain is not None:
            word = terminal.above_nought(row.gain, "better than", "worse than", "not told apart from")
            said.append(f"{row.name}: {word} the best single of the first members on these questions.")
    return "\n".join(said)


def _columns(outcomes: OutcomesTable, members: Sequence[str]) -> np.ndarray:
    columns: np.ndarray = outcomes.rewards_PM[:, [outcomes.models.index(name) for name in members]]
    return columns


def _choices(outcomes: OutcomesTable, members: Sequence[str], replies: Sequence[Reply]) -> np.ndarray:
    by_id = {reply.prompt_id: members.index(reply.model) for reply in replies}
    return np.array([by_id[prompt_id] for prompt_id in outcomes.prompt_ids])
