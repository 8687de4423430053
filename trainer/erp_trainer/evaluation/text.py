"""PURE. The payload of ``erp-train evaluate`` as tables for a terminal, at most 110 columns wide, the verdict last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

WIDTH = 110
MAX_ROWS = 20
_NAME = 38

Row = Mapping[str, Any]


def render(payload: Mapping[str, Any]) -> str:
    """Everything a reader needs who has not seen this before; the rest is in the payload and in the report."""
    sections = [
        _opening(payload),
        _policies(payload),
        _over_lambda(payload),
        _areas(payload),
        _models(payload),
        _categories(payload),
        _pairs(payload),
        _two_models(payload),
        _unseen(payload),
        _adding(payload),
        _verdict(payload),
    ]
    return "\n\n".join("\n".join(section) for section in (list(lines) for lines in sections) if section)


def number(value: float | None, digits: int = 4, *, sign: bool = False) -> str:
    """A figure of so many decimals, fewer from 10 on, or ``-`` where it is not known."""
    if value is None or not np.isfinite(value):
        return "-"
    digits = max(0, digits - int(np.log10(max(abs(value), 1.0))))
    value = round(value, digits) or 0.0  # no minus before a nought
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def _r2(value: float | None) -> str:
    # Far below 0 only says that these rewards are not those that were fitted.
    return "< -99" if value is not None and value < -99 else number(value)


def spread(interval: Mapping[str, Any] | None) -> str:
    """A figure with its interval, signed."""
    if interval is None or interval["mean"] is None or not np.isfinite(interval["mean"]):
        return "-"
    low, high = (number(interval[end], sign=True) for end in ("low", "high"))
    return f"{number(interval['mean'], sign=True)} [{low}, {high}]"


def name(text: str, width: int = _NAME) -> str:
    """A name cut to a width."""
    return text if len(text) <= width else text[: width - 1] + "…"


def wrap(text: str) -> list[str]:
    """Words in lines of at most ``WIDTH``."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + 1 + len(word) > WIDTH:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _opening(payload: Mapping[str, Any]) -> Iterator[str]:
    counts = payload["counts"]
    samples = "one sample" if counts["samples"] == 1 else f"{counts['samples']} samples"
    yield (
        f"{counts['test_prompts']} test prompts, {samples} of each of {counts['models']} models "
        f"({counts['left_out']} left out: their text occurs in train)"
    )
    if payload["models_left_out"]:
        yield from wrap(f"Without test outcomes: {', '.join(payload['models_left_out'])}")
    yield from wrap("Figures in brackets are 95% intervals. Regret is against " + payload["oracle"]["text"] + ".")


def _verdict(payload: Mapping[str, Any]) -> Iterator[str]:
    for sentence in payload["verdict"]["sentences"]:
        yield from wrap(sentence)


def _cost(payload: Mapping[str, Any], value: float | None) -> str:
    return number(None if value is None else value * payload["cost"]["scale"])


def _policies(payload: Mapping[str, Any]) -> Iterator[str]:
    asked = payload["lambda"]
    head = "USD/1k" if payload["cost"]["kind"] == "usd" else "cost"
    yield f"At λ = {asked:.4g}"
    yield f"{'policy':<{_NAME}} {'reward':>8} {'interval':>15} {head:>8} {'regret':>8}  against best single model"
    listed = {row["curve"]: row for row in payload["policies"].values() if row["lambda"] in (asked, None)}
    rows = sorted(listed.values(), key=lambda row: (row["kind"] == "single", -(row["reward"] or 0.0)))
    for row in rows[: MAX_ROWS + 1]:
        low, high = row["reward_ci"]
        yield (
            f"{name(row['label']):<{_NAME}} {number(row['reward']):>8} {f'{number(low)}–{number(high)}':>15} "
            f"{_cost(payload, row['cost_usd']):>8} {number(row['regret']):>8}  {spread(row['against_best_single'])}"
        )
    if len(rows) > MAX_ROWS + 1:
        yield f"… and {len(rows) - MAX_ROWS - 1} more; --json has them all"


def _over_lambda(payload: Mapping[str, Any]) -> Iterator[str]:
    key, curve = next(iter(payload["curves"].items()))
    rows = [row for row in payload["policies"].values() if row["curve"] == key]
    if len(rows) < 2:
        return
    head = "USD/1k" if payload["cost"]["kind"] == "usd" else "cost"
    yield f"{curve['label']} over λ"
    yield f"{'λ':>10} {'reward':>8} {head:>8}  {'against best single model':<30} against the mixture at equal cost"
    for row in rows:
        yield (
            f"{row['lambda']:>10.4g} {number(row['reward']):>8} {_cost(payload, row['cost_usd']):>8}  "
            f"{spread(row['against_best_single']):<30} {spread(row['against_mixture'])}"
        )


def _areas(payload: Mapping[str, Any]) -> Iterator[str]:
    rows = [row for row in payload["curves"].values() if row["area"] is not None and row["kind"] != "single"]
    if not rows:
        return
    yield "Mean reward over all budgets from the cheapest to the dearest model"
    yield f"{'policy':<{_NAME}} {'reward':>8}  {'against mixing single models':<30} against per-category best"
    for row in rows:
        against = {which: row["against"].get(which, {}).get("area") for which in ("mixture", "category_best")}
        yield (
            f"{name(row['label']):<{_NAME}} {number(row['area']['mean']):>8}  "
            f"{spread(against['mixture']):<30} {spread(against['category_best'])}"
        )


def _models(payload: Mapping[str, Any]) -> Iterator[str]:
    yield "How well rewards are predicted (ceiling: the R² that noise allows; slope 1 is calibrated)"
    head = f"{'model':<{_NAME}} {'R²':>8} {'interval':>17} {'ceiling':>8}"
    yield f"{head} {'slope':>7} {'within 95%':>10} {'mean reward':>12}"
    models = payload["models"]
    for model, row in list(models.items())[:MAX_ROWS]:
        ceiling = "unknown" if row["ceiling"] is None or not np.isfinite(row["ceiling"]) else number(row["ceiling"])
        low, high = row["r2_ci"]
        yield (
            f"{name(model):<{_NAME}} {_r2(row['r2']):>8} {f'{_r2(low)} to {_r2(high)}':>17} {ceiling:>8} "
            f"{number(row['calibration']['slope'], 2):>7} {row['error_calibration']['within_95']:>10.0%} "
            f"{number(row['mean_reward']):>12}"
        )
    if len(models) > MAX_ROWS:
        yield f"… and {len(models) - MAX_ROWS} more; --json has them all"


def _categories(payload: Mapping[str, Any]) -> Iterator[str]:
    found: Sequence[tuple[str, Row]] = sorted(payload["categories"].items(), key=lambda item: -item[1]["test_prompts"])
    if not found:
        return
    bundle = next(iter(payload["curves"]))
    yield f"By category at λ = {payload['lambda']:.4g}"
    yield f"{'category':<28} {'prompts':>7} {'reward':>8}  {'against best single model':<28}  best model on train there"
    for category, row in found[:MAX_ROWS]:
        best = row["best_on_train"] or "-"
        yield (
            f"{name(category, 28):<28} {row['test_prompts']:>7} {number(row['policies'][bundle]['reward']):>8}  "
            f"{spread(row['gain']):<28}  {name(best, 33)}"
        )
    if len(found) > MAX_ROWS:
        yield f"… and {len(found) - MAX_ROWS} more; --json has them all"


def _pairs(payload: Mapping[str, Any]) -> Iterator[str]:
    rows = [row for row in payload["pairs"]["rows"] if _known(row["auroc"])]
    if not rows:
        return
    bundle = next(iter(payload["curves"].values()))["label"]
    text = f"Which of two models earns more: AUROC {np.mean([row['auroc']['mean'] for row in rows]):.3f} for {bundle}"
    for other in payload["pairs"]["auroc_other"]:
        both = [row for row in rows if _known(row["auroc_other"][other])]
        if both:
            text += f", {np.mean([row['auroc_other'][other]['mean'] for row in both]):.3f} for {other}"
    ties, draws = (sum(row[key] for row in payload["pairs"]["rows"]) for key in ("ties", "draws"))
    yield from wrap(f"{text} (mean over {len(rows)} pairs; {ties / max(draws, 1):.0%} of draws are ties and left out)")


def _known(interval: Mapping[str, Any]) -> bool:
    return interval["mean"] is not None and bool(np.isfinite(interval["mean"]))


def _two_models(payload: Mapping[str, Any]) -> Iterator[str]:
    found = payload["routellm"]
    if found is None:
        return
    yield from wrap(
        f"RouteLLM's protocol: share of the gap between {found['weak']} and {found['strong']} recovered on average "
        "(APGR), and the share of strong calls that recovers half and four fifths of it"
    )
    yield f"{'policy':<{_NAME}} {'APGR':>30} {'half':>8} {'4/5':>8}"
    for row in found["rows"]:
        if row["category"] == "":
            shares = [number(row["cpt"][target], 3) for target in ("0.5", "0.8")]
            yield f"{name(row['policy']):<{_NAME}} {spread(row['apgr']):>30} {shares[0]:>8} {shares[1]:>8}"


def _unseen(payload: Mapping[str, Any]) -> Iterator[str]:
    found = payload["leave_one_task_out"]
    if found is None:
        return
    yield "On tasks left out of training, against the best single model of the other tasks"
    for policy, gain in found["overall"].items():
        yield f"{name(policy):<{_NAME}} {spread(gain)}"


def _adding(payload: Mapping[str, Any]) -> Iterator[str]:
    found = payload["price_of_adding"]
    if found is None:
        return
    yield f"Routed reward after adding a model with so many prompts, at λ = {found['lambda']:.4g}"
    yield f"{'model':<{_NAME}} {'without':>8}  with"
    for row in found["models"]:
        points = "  ".join(f"{point['prompts']}: {number(point['reward']['mean'])}" for point in row["points"])
        yield f"{name(row['model']):<{_NAME}} {number(row['without']['mean']):>8}  {name(points, WIDTH - _NAME - 11)}"
