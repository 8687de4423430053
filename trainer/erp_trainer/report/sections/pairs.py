"""PURE. Model against model: AUROC of the predicted winner, and win rates per category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from erp_trainer.report import charts
from erp_trainer.report.page import Choices, Part, Section

# A square of more models than this is unreadable at any width.
_MOST_MODELS = 24
_AUROC = (0.3, 0.5, 0.7)
_RATE = (0.0, 0.5, 1.0)


def pairs(payload: Mapping[str, Any]) -> Part | None:
    """Heat maps of AUROC, the bundle's beside the logistic regression's."""
    found = payload.get("pairs")
    if not found or len(found["models"]) < 2:
        return None
    models = _order(payload, found["models"])
    drawn = {"auroc": _map(found, "auroc", models, "AUROC, this bundle", _AUROC)}
    if found.get("auroc_logistic"):
        drawn["auroc-logistic"] = _map(found, "auroc_logistic", models, "AUROC, logistic regression per pair", _AUROC)
    section = Section(
        id="pairs",
        name="Pairs",
        heading="Which of two models will win",
        lines=(
            "AUROC of the predicted probability that the model of a column beats the model of a row: 1 is always "
            "right, 0.5 is guessing. Draws are left out. The logistic regression was trained for each pair, on "
            "the same prompts.",
        ),
        pair=tuple(drawn),
        notes=_cut(found["models"], models),
    )
    return Part(section, drawn)


def _order(payload: Mapping[str, Any], models: Sequence[str]) -> list[str]:
    """Best mean reward first; of too many, the best."""
    return sorted(models, key=lambda model: -(payload["models"][model]["mean_reward"] or 0.0))[:_MOST_MODELS]


def _cut(models: Sequence[str], shown: Sequence[str]) -> tuple[str, ...]:
    return (f"The {len(shown)} best of {len(models)} models are drawn.",) if len(shown) < len(models) else ()


def _map(found: Mapping[str, Any], key: str, models: Sequence[str], title: str, domain: Sequence[float]) -> charts.Spec:
    cells = _cells(found["models"], found[key], models)
    return charts.heat_map(cells, (models, models), title, ("winner", "loser"), domain)


def _cells(
    names: Sequence[str], matrix: Sequence[Sequence[float | None]], models: Sequence[str]
) -> list[dict[str, Any]]:
    """Entry [i][j] is about model j beating model i."""
    at = {name: place for place, name in enumerate(names)}
    return [
        {"row": row, "column": column, "value": matrix[at[row]][at[column]]}
        for row in models
        for column in models
        if matrix[at[row]][at[column]] is not None
    ]


def win_rates(payload: Mapping[str, Any]) -> Part | None:
    """Win rates, predicted and recorded: every pair in a category that can be chosen, and the best of the pool."""
    found = payload.get("win_rates")
    if not found or len(found["models"]) < 2:
        return None
    models = _order(payload, found["models"])
    names = list(found["prompts"])
    drawn: dict[str, charts.Spec] = {}
    choices, cells = None, {}
    if found.get("pairwise_true"):
        cells = {
            name: {
                "wins-predicted": _cells(found["models"], found["pairwise_predicted"][name], models),
                "wins-true": _cells(found["models"], found["pairwise_true"][name], models),
            }
            for name in names
            if name in found["pairwise_true"]
        }
        first = next(iter(cells.values()))
        axes = ("winner", "loser")
        squares = (models, models)
        drawn["wins-predicted"] = charts.heat_map(first["wins-predicted"], squares, "Predicted win rate", axes, _RATE)
        drawn["wins-true"] = charts.heat_map(first["wins-true"], squares, "Recorded win rate", axes, _RATE)
        options = [{"value": name, "text": f"{name or 'all prompts'} ({found['prompts'][name]:,})"} for name in cells]
        choices = Choices("Category", "wins", options)
    section = Section(
        id="wins",
        name="Win rates",
        heading="Who wins where",
        lines=("How often the model of a column beats the model of a row; a draw counts half.",),
        pair=tuple(drawn),
        choices=choices,
        notes=_cut(found["models"], models),
    )
    return Part(section, drawn, {"wins": cells} if cells else {})
