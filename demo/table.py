"""What the demo prints: the pool, the table, three prompts with their headers, and what follows from the numbers."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from rich.table import Table

from demo import terminal
from demo.policies import Row, best_single, gain_over, saving
from demo.prepare import HeldOut
from demo.sending import Served
from erp_trainer.learning.bootstrap import Interval
from erp_trainer.words import points

_PER_1K = 1000
_PROMPT_CHARS = 70
_N_EXAMPLES = 3
_SAFE = "safe-default"
# Widths of the columns of the examples: team, then the headers by their names without "x-erp-", then the reward.
_COLUMNS = {
    "team": 10,
    "model": 33,
    "reason": 14,
    "lambda": 10,
    "expected-reward": 17,
    "expected-cost-usd": 19,
    "true reward": 11,
}


def _letters(data: HeldOut) -> dict[str, str]:
    """A letter for each model, the cheapest first and the better first among equals."""
    order = np.lexsort((-_train_mean(data), data.prices.expected_cost(1.0, 1.0)))
    return dict(zip((data.outcomes.models[m] for m in order), terminal.letters(len(order)), strict=True))


def pool(data: HeldOut) -> Table:
    """The pool models, with the letters that stand for them."""
    table = terminal.plain("", "model", "mean reward on train", "USD per million tokens, in / out", gap=3)
    for model, letter in _letters(data).items():
        m = data.outcomes.models.index(model)
        price = f"{data.prices.input_M[m] * 1e6:g} / {data.prices.output_M[m] * 1e6:g}"
        table.add_row(letter, model, f"{_train_mean(data)[m]:.3f}", price)
    return table


def policies(data: HeldOut, rows: Sequence[Row]) -> Table:
    """The one table: a row per policy, a column per model."""
    named = _letters(data)
    columns = {"\npolicy": None, "mean\nreward": 6, "points vs best\nsingle (95% interval)": 23, "USD per\n1k req.": 8}
    table = terminal.ruled(columns | {f"\n{letter}": 3 for letter in named.values()})
    best = data.outcomes.models[best_single(data)]
    for row in rows:
        head, colon, model = row.name.partition(": ")
        name = f"{head}{colon}{named[model]}" if colon else row.name
        gain = "" if model == best else "{} ({} to {})".format(*_gain(row))
        shares = [terminal.whole_percent(row.share_M[data.outcomes.models.index(model)]) for model in named]
        style = "bold" if row.lambda_ is not None and row.safety else ""
        table.add_row(name, f"{row.reward:.3f}", gain, f"{row.cost_usd * _PER_1K:.3f}", *shares, style=style)
    return table


def examples(data: HeldOut, served: Sequence[Served]) -> Iterator[str]:
    """Lines with the headers of three prompts."""
    yield _line(_COLUMNS)
    for requests in _pick_examples(data, served):
        p = data.outcomes.prompt_ids.index(requests[0].prompt_id)
        text = " ".join(data.outcomes.prompts[p].split())
        cut = text if len(text) <= _PROMPT_CHARS else f"{text[:_PROMPT_CHARS].rstrip()}…"
        yield f"“{cut}” ({data.outcomes.categories[p]})"
        for request in requests:
            yield _line([request.team, *map(request.headers.get, list(_COLUMNS)[1:-1]), f"{request.reward:.3g}"])


def conclusions(data: HeldOut, rows: Sequence[Row]) -> Iterator[str]:
    """What the ERP rows with safety on say against the best single model, and against mixing single models."""
    best = best_single(data)
    single = next(row for row in rows if row.share_M[best] == 1)
    for row in rows:
        if row.lambda_ is None or not row.safety:
            continue
        saved, other = saving(data, row, single), next(r for r in rows if r.team == row.team and r.lambda_ is None)
        less, ends = "less" if saved.mean >= 0 else "more", sorted((abs(saved.low), abs(saved.high)))
        yield (
            f"{row.name} against always {data.outcomes.models[best]}:\n"
            f"  {_span(row.gain)}, {terminal.above_nought(row.gain, 'better', 'worse', 'as good as can be told')}; "
            f"it costs {abs(saved.mean):.0%} {less} ({ends[0]:.0%} to {ends[1]:.0%}).\n"
            f"  Mixing single models at the same cost, against it: {_span(gain_over(data, other, row))}."
        )


def _pick_examples(data: HeldOut, served: Sequence[Served]) -> list[list[Served]]:
    """The first prompts on which the teams were served different models, each of another category.

    One that got the safe default takes the last place, if there is one.
    """
    by_prompt: dict[str, list[Served]] = {}
    for request in served:
        if request.safety:
            by_prompt.setdefault(request.prompt_id, []).append(request)
    differ = [requests for requests in by_prompt.values() if _models_differ(requests)]
    safe = [requests for requests in by_prompt.values() if any(r.headers.get("reason") == _SAFE for r in requests)]
    last = sorted(safe, key=lambda requests: not _models_differ(requests))[:1]
    category = dict(zip(data.outcomes.prompt_ids, data.outcomes.categories, strict=True))
    by_category: dict[str, list[Served]] = {}
    for requests in [*last, *differ]:
        by_category.setdefault(category[requests[0].prompt_id], requests)
    others = list(by_category.values())[len(last) :]
    return [*others[: _N_EXAMPLES - len(last)], *last]


def _models_differ(requests: Sequence[Served]) -> bool:
    return len({request.stub_model for request in requests}) > 1


def _train_mean(data: HeldOut) -> np.ndarray:
    mean: np.ndarray = np.nanmean(data.train.rewards_PM, axis=0)
    return mean


def _line(cells: Iterable[str | None]) -> str:
    padded = (f"{cell or '–':<{width}}" for cell, width in zip(cells, _COLUMNS.values(), strict=True))
    return f"  {''.join(padded)}".rstrip()


def _gain(row: Row) -> list[str]:
    return [points(value) for value in (row.gain.mean, row.gain.low, row.gain.high)]


def _span(found: Interval) -> str:
    mean, low, high = (points(value) for value in (found.mean, found.low, found.high))
    return f"{mean} points (95% interval {low} to {high})"
