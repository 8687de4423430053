"""PURE. Prompts on which the choice matters: where the bundle was right about it, and where it was wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from erp_trainer.report.words import NOTHING, Units, number, signed
from litellm_erp.prompt import from_value

if TYPE_CHECKING:
    from erp_trainer.evaluation.report import Evaluation

# As much of a prompt as is shown, in characters.
MOST_TEXT = 420


@dataclass(frozen=True, slots=True)
class Candidates:
    """What examples are picked from: P prompts, M models.

    Attributes
    ----------
    models : M names
    prompts, categories : P texts each
    expected_PM, recorded_PM, cost_PM : predicted reward, recorded reward (NaN missing), cost per request (NaN unknown)
    choice_P : the bundle's choice
    baseline : the best single model
    """

    models: tuple[str, ...]
    prompts: Sequence[str]
    categories: Sequence[str]
    expected_PM: np.ndarray
    recorded_PM: np.ndarray
    cost_PM: np.ndarray
    choice_P: np.ndarray
    baseline: int


def candidates_of(ev: Evaluation, lambda_: float) -> Candidates:
    """The measured prompts of an evaluation, with the bundle's choices at one λ."""
    return Candidates(
        models=ev.test.models,
        prompts=[from_value(prompt).text for prompt in ev.prompts],
        categories=ev.test.categories_P.tolist(),
        expected_PM=ev.predicted_PM,
        recorded_PM=ev.test.rewards_PM,
        cost_PM=ev.test.realised_cost_PM,
        choice_P=ev.choice(lambda_),
        baseline=int(np.nanargmax(ev.train.mean_reward_M)),
    )


def pick(found: Candidates, units: Units, *, won: int = 4, lost: int = 2) -> list[dict[str, Any]]:
    """Prompts on which the bundle left the best single model and earned more, then some on which it earned less.

    Within each kind those are taken that it was surest of; no category is shown twice while there are others.
    """
    rows = np.arange(len(found.choice_P))
    gain = found.recorded_PM[rows, found.choice_P] - found.recorded_PM[:, found.baseline]
    expected = found.expected_PM[rows, found.choice_P] - found.expected_PM[:, found.baseline]
    expected = np.nan_to_num(expected, nan=-np.inf)
    surest = np.argsort(-expected, kind="stable")
    wins = _varied([p for p in surest.tolist() if gain[p] > 0], found.categories, won)
    losses = _varied([p for p in surest.tolist() if gain[p] < 0], found.categories, lost)
    return [_example(found, p, float(gain[p]), units) for p in (*wins, *losses)]


def _varied(ordered: Sequence[int], categories: Sequence[str], most: int) -> list[int]:
    seen: dict[str, int] = {}
    turns = []
    for place, p in enumerate(ordered):
        turn = seen[categories[p]] = seen.get(categories[p], -1) + 1
        turns.append((turn, place, p))
    return [p for _, _, p in sorted(turns)[:most]]


def _example(found: Candidates, p: int, gain: float, units: Units) -> dict[str, Any]:
    chosen = int(found.choice_P[p])
    order = sorted(range(len(found.models)), key=lambda m: -np.nan_to_num(found.expected_PM[p, m], nan=-np.inf))
    shown = order[:4] + [m for m in (chosen, found.baseline) if m not in order[:4]]
    return {
        "category": found.categories[p],
        "says": f"{signed(gain)} against always {found.models[found.baseline]}",
        "prompt": _cut(found.prompts[p]),
        "cost_unit": units.cost_short,
        "models": [_model(found, p, m, units, chosen) for m in shown],
    }


def _model(found: Candidates, p: int, m: int, units: Units, chosen: int) -> Mapping[str, Any]:
    cost = found.cost_PM[p, m]
    return {
        "name": found.models[m],
        "chosen": m == chosen,
        "expected": number(float(found.expected_PM[p, m])),
        "recorded": number(float(found.recorded_PM[p, m])),
        "cost": NOTHING if np.isnan(cost) else units.money(float(cost)),
    }


def _cut(text: str) -> str:
    text = text.strip()
    return text if len(text) <= MOST_TEXT else text[:MOST_TEXT].rstrip() + " …"
