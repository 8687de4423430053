"""PURE. Model against model: AUROC of the predicted winner, and win rates per category."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from erp_trainer.report.charts.base import Spec
from erp_trainer.report.charts.grids import heat_map
from erp_trainer.report.page import Choices, Figures, PageSection, Part
from erp_trainer.report.sections.categories import MOST_DRAWN
from erp_trainer.words import shortened

# A square of more models than this is unreadable at any width.
_MOST_MODELS = 24
_AUROC = (0.1, 0.5, 0.9)
_RATE = (0.0, 0.5, 1.0)

_AUROC_TEXT = (
    "AUROC of the predicted probability that the model of a column beats the model of a row: 1 is always right, 0.5 is "
    "guessing. Draws are left out, and pairs without both wins and losses stay empty."
)
_PAIRWISE_TEXT = " The pairwise policy is a logistic regression trained for each pair."
_BEST_TEXT = (
    "Best of the pool: the share of a category's prompts on which a model has the highest reward; models that share "
    "the highest share the prompt. The router names one model where rewards hardly differ, so its column is fuller."
)

_Matrix = Sequence[Sequence[float | None]]


def pairs_section(payload: Figures) -> Part | None:
    """Heat maps of AUROC, the bundle's beside the logistic regression's."""
    found = payload.get("pairs")
    if not found or len(found["models"]) < 2:
        return None
    models = _order(payload, found["models"])
    drawn = {"auroc": _square(_cells(found, found["auroc"], models), models, "AUROC, this bundle", _AUROC)}
    for key, matrix in found["auroc_other"].items():
        label = payload["curves"].get(key, {}).get("label", key)
        drawn[f"auroc-{key}"] = _square(_cells(found, matrix, models), models, f"AUROC, {label}", _AUROC)
    section = PageSection(
        id="pairs",
        folded=True,
        name="Pairs",
        heading="Which of two models will win",
        lines=(_AUROC_TEXT + (_PAIRWISE_TEXT if len(drawn) > 1 else ""),),
        pair=tuple(drawn),
        notes=_cut(found["models"], models),
    )
    return Part(section, drawn)


def win_rates_section(payload: Figures) -> Part | None:
    """Win rates, predicted and recorded: every pair in a category that can be chosen, and the best of the pool."""
    found = payload.get("win_rates")
    if not found or len(found["models"]) < 2:
        return None
    models = _order(payload, found["models"])
    cells = {
        name: {f"wins-{key}": _cells(found, found[f"pairwise_{key}"][name], models) for key in ("predicted", "true")}
        for name in found["prompts"]
        if name in (found.get("pairwise_true") or {})
    }
    drawn: dict[str, Spec] = {}
    choices = None
    if cells:
        for key, rows in next(iter(cells.values())).items():
            title = f"{'Predicted' if key == 'wins-predicted' else 'Recorded'} win rate"
            drawn[key] = _square(rows, models, title, _RATE)
        options = [{"value": name, "text": f"{name or 'all prompts'} ({found['prompts'][name]:,})"} for name in cells]
        choices = Choices("Category", "wins", options)
    best = {
        "best-predicted": _best(found, "predicted", models, "Predicted to be the best of the pool"),
        "best-true": _best(found, "true", models, "Recorded as the best of the pool"),
    }
    section = PageSection(
        id="wins",
        folded=True,
        name="Win rates",
        heading="Who wins where",
        lines=("How often the model of a column beats the model of a row; a draw counts half.",),
        pair=tuple(drawn),
        second_pair=tuple(best),
        choices=choices,
        notes=(_BEST_TEXT, *_cut(found["models"], models)),
    )
    return Part(section, drawn | best, {"wins": cells} if cells else {})


def _order(payload: Figures, models: Sequence[str]) -> list[str]:
    """Best mean reward first; of too many, the best."""
    return sorted(models, key=lambda model: -(payload["models"][model]["mean_reward"] or 0.0))[:_MOST_MODELS]


def _cut(models: Sequence[str], shown: Sequence[str]) -> tuple[str, ...]:
    return (f"The {len(shown)} best of {len(models)} models are drawn.",) if len(shown) < len(models) else ()


def _square(cells: Sequence[Figures], models: Sequence[str], title: str, domain: Sequence[float]) -> Spec:
    short = list(shortened(models).values())
    return heat_map(cells, (short, short), title, ("winner", "loser"), domain)


def _cells(found: Figures, matrix: _Matrix, models: Sequence[str]) -> list[dict[str, Any]]:
    """Entry [i][j] is about model j beating model i."""
    at, short = {name: place for place, name in enumerate(found["models"])}, shortened(models)
    return [
        {"row": short[row], "column": short[column], "value": value}
        for row in models
        for column in models
        if (value := matrix[at[row]][at[column]]) is not None
    ]


def _best(found: Figures, key: str, models: Sequence[str], title: str) -> Spec:
    """How often each model is the best of the pool, by category."""
    at, short = {name: place for place, name in enumerate(found["models"])}, shortened(models)
    largest = sorted(found["prompts"], key=lambda name: (name != "", -found["prompts"][name]))[: MOST_DRAWN + 1]
    rows = [
        {"row": name or "all prompts", "column": short[model], "value": value, "n": found["prompts"][name]}
        for name in largest
        for model in models
        if (value := found[key][name][at[model]]) is not None
    ]
    names = [name or "all prompts" for name in largest]
    return heat_map(rows, (names, list(short.values())), title, ("model", "category"), (0.0, 0.0, 1.0))
