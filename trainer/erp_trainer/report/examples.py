"""Prompts on which the choice matters: where the bundle was right about it, and where it was wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from erp_trainer.evaluation.evaluation import Evaluation
from erp_trainer.learning.outcome import best_single
from erp_trainer.report.units import Units
from erp_trainer.words import NOTHING, number, signed
from litellm_erp.choice.prompt import from_value

# As much of a prompt as is shown, in characters.
MOST_TEXT = 420


@dataclass(frozen=True, slots=True)
class PromptChoices:
    """What examples are picked from: P prompts, M models.

    Attributes
    ----------
    models : M names
    prompts, categories : P texts each
    expected_PM, recorded_PM, cost_PM : predicted reward, recorded reward (NaN missing), cost per request (NaN unknown)
    choice_P : the bundle's choice
    baseline : the best single model
    lambda_ : the λ of the choice, in reward per unit of cost per request
    """

    models: tuple[str, ...]
    prompts: Sequence[str]
    categories: Sequence[str]
    expected_PM: np.ndarray
    recorded_PM: np.ndarray
    cost_PM: np.ndarray
    choice_P: np.ndarray
    baseline: int
    lambda_: float = 0.0

    @property
    def saved_P(self) -> np.ndarray:
        """What the choice costs less than the baseline, per request, shape (P,); 0 where that is unknown."""
        rows = np.arange(len(self.choice_P))
        return np.nan_to_num(self.cost_PM[:, self.baseline] - self.cost_PM[rows, self.choice_P])

    def gain_P(self, rewards_PM: np.ndarray) -> np.ndarray:
        """Utility of the choice over the baseline's, shape (P,); NaN where a reward is missing."""
        rows = np.arange(len(self.choice_P))
        gained = rewards_PM[rows, self.choice_P] - rewards_PM[:, self.baseline]
        return np.asarray(gained + self.lambda_ * self.saved_P)


# A λ shows what routing does where it leaves the best single model on at least this share of the prompts.
_ROUTES = 0.02


def candidates_of(ev: Evaluation) -> PromptChoices:
    """The measured prompts of an evaluation, with the bundle's choices at the first λ at which it routes at all."""
    baseline = best_single(ev.train)
    routed = (lambda_ for lambda_ in ev.lambdas if (ev.choice(lambda_) != baseline).mean() >= _ROUTES)
    lambda_ = next(routed, ev.lambdas[0])
    return PromptChoices(
        models=ev.test.models,
        prompts=[from_value(prompt).text for prompt in ev.prompts],
        categories=ev.test.categories_P.tolist(),
        expected_PM=ev.served.predicted_PM,
        recorded_PM=ev.test.rewards_PM,
        cost_PM=ev.test.realised_cost_PM,
        choice_P=ev.choice(lambda_),
        baseline=baseline,
        lambda_=lambda_ * ev.test.cost_scale,
    )


def examples_of(ev: Evaluation, payload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is quoted of an evaluation, in the units of its payload."""
    return pick(candidates_of(ev), Units.of(payload))


def pick(found: PromptChoices, units: Units, *, won: int = 4, lost: int = 2) -> list[dict[str, Any]]:
    """Prompts on which the bundle left the best single model and earned more, then some on which it earned less.

    Within each kind those are taken that it was surest of; no category is shown twice while there are others.
    """
    gain = found.gain_P(found.recorded_PM)
    expected = np.where(found.choice_P == found.baseline, np.nan, found.gain_P(found.expected_PM))
    expected = np.nan_to_num(expected, nan=-np.inf)
    surest = np.argsort(-expected, kind="stable")
    wins = _varied([p for p in surest.tolist() if gain[p] > 0 and expected[p] > -np.inf], found.categories, won)
    losses = _varied([p for p in surest.tolist() if gain[p] < 0 and expected[p] > -np.inf], found.categories, lost)
    return [_example(found, p, units) for p in (*wins, *losses)]


def _varied(ordered: Sequence[int], categories: Sequence[str], most: int) -> list[int]:
    seen: dict[str, int] = {}
    turns = []
    for place, p in enumerate(ordered):
        turn = seen[categories[p]] = seen.get(categories[p], -1) + 1
        turns.append((turn, place, p))
    return [p for _, _, p in sorted(turns)[:most]]


def _example(found: PromptChoices, p: int, units: Units) -> dict[str, Any]:
    chosen = int(found.choice_P[p])
    order = sorted(range(len(found.models)), key=lambda m: -np.nan_to_num(found.expected_PM[p, m], nan=-np.inf))
    shown = order[:4] + [m for m in (chosen, found.baseline) if m not in order[:4]]
    return {
        "category": found.categories[p],
        "says": _says(found, p, units),
        "prompt": _cut(found.prompts[p]),
        "cost_unit": units.cost_short,
        "models": [_model(found, p, m, units, chosen) for m in shown],
    }


def _says(found: PromptChoices, p: int, units: Units) -> str:
    """What the choice brought, beside always the same model."""
    gained = float(found.recorded_PM[p, found.choice_P[p]] - found.recorded_PM[p, found.baseline])
    saved = float(found.saved_P[p])
    words = [f"{signed(gained)} reward"]
    if found.lambda_ > 0 and saved != 0:
        words.append(f"{units.money(abs(saved))} {'less' if saved > 0 else 'more'}")
    return f"{', '.join(words)} against always {found.models[found.baseline]}"


def _model(found: PromptChoices, p: int, m: int, units: Units, chosen: int) -> Mapping[str, Any]:
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
