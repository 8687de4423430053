"""PURE. The payload of ``erp-train evaluate`` as tables for a terminal, at most 110 columns wide, the verdict last."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from statistics import fmean

from erp_trainer.report.page import Figures
from erp_trainer.words import NOTHING, number, percent

WIDTH = 110
MAX_ROWS = 20
_NAME = 38


def report_text(payload: Figures) -> str:
    """Everything a reader needs who has not seen this before; the rest is in the payload and in the report."""
    sections = (_opening, _policies, _over_lambda, _areas, _models, _categories, _pairs, _two_models, _tables, _unseen,
                _adding, _verdict)  # fmt: skip
    written = ("\n".join(section(payload)) for section in sections)
    return "\n\n".join(text for text in written if text)


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _cut(text: str, width: int = _NAME) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _line(cells: Iterable[tuple[str, int]]) -> str:
    """Cells in columns so wide: to the left where the width is negative."""
    return " ".join(
        f"{_cut(text, -width):<{-width}}" if width < 0 else f"{text:>{width}}" for text, width in cells
    ).rstrip()


def _table(heads: Mapping[str, int], rows: Sequence[Sequence[str]], most: int = MAX_ROWS) -> Iterator[str]:
    """Rows below their heads, which map to the widths of columns; past ``most`` they are counted."""
    yield _line(heads.items())
    for row in rows[:most]:
        yield _line(zip(row, heads.values(), strict=True))
    if len(rows) > most:
        yield f"… and {len(rows) - most} more; --json has them all"


def _figure(value: float | None) -> str:
    return number(value, 4)


def _spread(interval: Figures | None) -> str:
    """A figure with its interval, signed."""
    if interval is None or not _known(interval):
        return NOTHING
    mean, low, high = (number(interval[end], 4, sign=True) for end in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _known(interval: Figures) -> bool:
    return interval["mean"] is not None and isfinite(interval["mean"])


def _opening(payload: Figures) -> Iterator[str]:
    counts = payload["counts"]
    samples = "one sample" if counts["samples"] == 1 else f"{counts['samples']} samples"
    yield (
        f"{counts['test_prompts']} test prompts, {samples} of each of {counts['models']} models "
        f"({counts['left_out']} left out: their text occurs in train)"
    )
    if payload["models_left_out"]:
        yield from _wrap(f"Without test outcomes: {', '.join(payload['models_left_out'])}")
    yield from _wrap("Figures in brackets are 95% intervals. Regret is against " + payload["oracle"]["text"] + ".")


def _verdict(payload: Figures) -> Iterator[str]:
    for sentence in payload["verdict"]["sentences"]:
        yield from _wrap(sentence)


def _cost_head(payload: Figures) -> str:
    return "USD/1k" if payload["cost"]["kind"] == "usd" else "cost"


def _cost(payload: Figures, value: float | None) -> str:
    return _figure(None if value is None else value * payload["cost"]["scale"])


def _policies(payload: Figures) -> Iterator[str]:
    asked = payload["lambda"]
    listed = {row["curve"]: row for row in payload["policies"].values() if row["lambda"] in (asked, None)}
    rows = sorted(listed.values(), key=lambda row: (row["kind"] == "single", -(row["reward"] or 0.0)))
    yield f"At λ = {asked:.4g}"
    heads = {"policy": -_NAME, "reward": 8, "interval": 15, _cost_head(payload): 8, "regret": 8,
             " against best single model": -30}  # fmt: skip
    cells = [
        (row["label"], _figure(row["reward"]), "–".join(map(_figure, row["reward_ci"])),
         _cost(payload, row["cost_usd"]), _figure(row["regret"]), f" {_spread(row['against_best_single'])}")
        for row in rows
    ]  # fmt: skip
    yield from _table(heads, cells, MAX_ROWS + 1)


def _over_lambda(payload: Figures) -> Iterator[str]:
    key, curve = next(iter(payload["curves"].items()))
    rows = [row for row in payload["policies"].values() if row["curve"] == key]
    if len(rows) < 2:
        return
    yield f"{curve['label']} over λ"
    heads = {"λ": 10, "reward": 8, _cost_head(payload): 8, " against best single model": -31,
             "against the mixture at equal cost": -40}  # fmt: skip
    cells = [
        (f"{row['lambda']:.4g}", _figure(row["reward"]), _cost(payload, row["cost_usd"]),
         f" {_spread(row['against_best_single'])}", _spread(row["against_mixture"]))
        for row in rows
    ]  # fmt: skip
    yield from _table(heads, cells, len(cells))


def _areas(payload: Figures) -> Iterator[str]:
    rows = [row for row in payload["curves"].values() if row["area"] is not None and row["kind"] != "single"]
    if not rows:
        return
    yield "Mean reward over all budgets from the cheapest to the dearest model"
    heads = {"policy": -_NAME, "reward": 8, " against mixing single models": -31, "against per-category best": -30}
    against = ("mixture", "category_best")
    cells = []
    for row in rows:
        areas = [_spread(row["against"].get(which, {}).get("area")) for which in against]
        cells.append((row["label"], _figure(row["area"]["mean"]), f" {areas[0]}", areas[1]))
    yield from _table(heads, cells, len(cells))


def _models(payload: Figures) -> Iterator[str]:
    def r2(value: float | None) -> str:
        # Far below 0 only says that these rewards are not those that were fitted.
        return "< −99" if value is not None and value < -99 else _figure(value)

    yield "How well rewards are predicted (ceiling: the R² that noise allows; slope 1 is calibrated)"
    heads = {"model": -_NAME, "R²": 8, "interval": 17, "ceiling": 8, "slope": 7, "within 95%": 10, "mean reward": 12}
    cells = [
        (model, r2(row["r2"]), " to ".join(map(r2, row["r2_ci"])),
         _figure(row["ceiling"]).replace(NOTHING, "unknown"), number(row["calibration"]["slope"], 2),
         percent(row["error_calibration"]["within_95"]), _figure(row["mean_reward"]))
        for model, row in payload["models"].items()
    ]  # fmt: skip
    yield from _table(heads, cells)


def _categories(payload: Figures) -> Iterator[str]:
    found: Sequence[tuple[str, Figures]] = sorted(
        payload["categories"].items(), key=lambda item: -item[1]["test_prompts"]
    )
    if not found:
        return
    bundle = next(iter(payload["curves"]))
    yield f"By category at λ = {payload['lambda']:.4g}"
    heads = {"category": -28, "prompts": 7, "reward": 8, " against best single model": -30,
             "best model on train there": -33}  # fmt: skip
    cells = [
        (category, str(row["test_prompts"]), _figure(row["policies"][bundle]["reward"]), f" {_spread(row['gain'])}",
         row["best_on_train"] or NOTHING)
        for category, row in found
    ]  # fmt: skip
    yield from _table(heads, cells)


def _pairs(payload: Figures) -> Iterator[str]:
    rows = [row for row in payload["pairs"]["rows"] if _known(row["auroc"])]
    if not rows:
        return
    bundle = next(iter(payload["curves"].values()))["label"]
    text = f"Which of two models earns more: AUROC {fmean(row['auroc']['mean'] for row in rows):.3f} for {bundle}"
    for other in payload["pairs"]["auroc_other"]:
        both = [row["auroc_other"][other]["mean"] for row in rows if _known(row["auroc_other"][other])]
        if both:
            text += f", {fmean(both):.3f} for {other}"
    ties, draws = (sum(row[key] for row in payload["pairs"]["rows"]) for key in ("ties", "draws"))
    yield from _wrap(
        f"{text} (mean over {len(rows)} pairs; {percent(ties / max(draws, 1))} of draws are ties and left out)"
    )


def _two_models(payload: Figures) -> Iterator[str]:
    found = payload["routellm"]
    if found is None:
        return
    yield from _wrap(
        f"RouteLLM's protocol: share of the gap between {found['weak']} and {found['strong']} recovered on average "
        "(APGR), and the share of strong calls that recovers half and four fifths of it"
    )
    rows = [
        (row["policy"], _spread(row["apgr"]), number(row["cpt"]["0.5"]), number(row["cpt"]["0.8"]))
        for row in found["rows"]
        if row["category"] == ""
    ]
    yield from _table({"policy": -_NAME, "APGR": 30, "half": 8, "4/5": 8}, rows, len(rows))


def _tables(payload: Figures) -> Iterator[str]:
    for found in (payload.get("tables") or {}).values():
        if found["rows"]:
            yield found["heading"]
            # The first column names what the others are about.
            heads = {head: -30 if i else -_NAME for i, head in enumerate(found["rows"][0])}
            yield from _table(heads, [tuple(map(_entry, row.values())) for row in found["rows"]])


def _entry(value: Figures | float | str | None) -> str:
    """A cell of such a table: text, a figure, or one with its interval."""
    if value is None or isinstance(value, str):
        return value or NOTHING
    if isinstance(value, Mapping):
        return f"{_figure(value['mean'])} [{_figure(value['low'])}, {_figure(value['high'])}]"
    return _figure(value)


def _unseen(payload: Figures) -> Iterator[str]:
    found = payload["leave_one_task_out"]
    if found is None:
        return
    yield "On tasks left out of training, against the best single model of the other tasks"
    for policy, gain in found["overall"].items():
        yield _line(((policy, -_NAME), (_spread(gain), -30)))


def _adding(payload: Figures) -> Iterator[str]:
    found = payload["price_of_adding"]
    if found is None:
        return
    yield f"Routed reward after adding a model with so many prompts, at λ = {found['lambda']:.4g}"
    rows = []
    for row in found["models"]:
        points = "  ".join(f"{point['prompts']}: {_figure(point['reward']['mean'])}" for point in row["points"])
        rows.append((row["model"], _figure(row["without"]["mean"]), f" {points}"))
    yield from _table({"model": -_NAME, "without": 8, " with": _NAME + 10 - WIDTH}, rows, len(rows))
