"""``python -m bench.off_policy``: how often the truth lies inside the intervals of off-policy estimates.

Requests are drawn from recorded outcomes, a known policy serves them, and other policies are estimated from what it
saw. What every model would have earned is on record, so the truth is known.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from erp_trainer.learning.bootstrap import Resamples
from erp_trainer.logged import estimators
from erp_trainer.logged.targets import chosen_at, one_hot
from erp_trainer.outcomes.read import read_outcomes

EXAMPLES = Path(__file__).parent.parent / "examples"
_REQUESTS = 4000


@dataclass(frozen=True)
class World:
    """Recorded outcomes, what a router would expect of them, and how a policy served."""

    models: tuple[str, ...]
    rewards_PM: np.ndarray
    expected_PM: np.ndarray
    cost_PM: np.ndarray
    logging_PM: np.ndarray


def world(name: str, how: str, seed: int = 0) -> World:
    """One of the example data sets.

    Parameters
    ----------
    how : ``explore`` (the best expected, or with probability 0.3 any), ``soft`` (softmax of expected rewards),
        ``percent`` (a fifth routed, the rest at random between all models)
    """
    wide = name.startswith("llmrouter")
    outcomes = read_outcomes(EXAMPLES / name / "outcomes.parquet", wide=wide)
    rewards_PM = outcomes.rewards_PM
    n_models = len(outcomes.models)
    categories = np.array(outcomes.categories)
    expected_PM = np.zeros_like(rewards_PM)
    for category in np.unique(categories):  # what a router that knows the task, and no more, would expect
        rows = categories == category
        expected_PM[rows] = rewards_PM[rows].mean(axis=0)
    expected_PM = expected_PM + np.random.default_rng(seed).normal(0, 0.1, expected_PM.shape)
    cost_PM = np.broadcast_to(np.linspace(1, 10, n_models) * 1e-5, rewards_PM.shape)
    routed_PM = one_hot(chosen_at(expected_PM, cost_PM, 0.0, outcomes.models), n_models)
    if how == "explore":
        logging_PM = 0.7 * routed_PM + 0.3 / n_models
    elif how == "percent":
        logging_PM = 0.2 * routed_PM + 0.8 / n_models
    else:
        soft = np.exp((expected_PM - expected_PM.max(axis=1, keepdims=True)) / 0.2)
        logging_PM = soft / soft.sum(axis=1, keepdims=True)
    return World(outcomes.models, rewards_PM, expected_PM, cost_PM, logging_PM)


def targets(found: World) -> dict[str, np.ndarray]:
    """Policies to estimate."""
    n_models = len(found.models)
    lambdas = {
        f"λ = {value:g}": chosen_at(found.expected_PM, found.cost_PM, value, found.models) for value in (0, 1, 5)
    }
    best = int(found.expected_PM.mean(axis=0).argmax())
    return {
        **{name: one_hot(chosen, n_models) for name, chosen in lambdas.items()},
        "best single": one_hot(np.full(len(found.rewards_PM), best), n_models),
    }


def inside(found: World, policy_PM: np.ndarray, seed: int, n: int, feedback: float) -> dict[str, tuple[bool, float]]:
    """Whether the truth is inside each estimator's interval in one log, and its width; nothing if refused."""
    rng = np.random.default_rng(seed)
    prompt_N = rng.integers(0, len(found.rewards_PM), n)
    propensity = found.logging_PM[prompt_N]
    served_N = (rng.random((n, 1)) > propensity.cumsum(axis=1)).sum(axis=1).clip(max=propensity.shape[1] - 1)
    outcome_N = np.where(rng.random(n) < feedback, found.rewards_PM[prompt_N, served_N], np.nan)
    model = estimators.recalibrated(found.expected_PM[prompt_N], served_N, outcome_N, prompt_N, seed)
    seen = estimators.Seen(
        propensity, served_N, outcome_N, model, Resamples.draw(prompt_N, seed=seed, n_resamples=1000)
    )
    held = estimators.support(policy_PM[prompt_N], seen)
    if not held.enough:
        return {}
    truth = float((policy_PM * found.rewards_PM).sum(axis=1).mean())
    estimates = estimators.estimates(policy_PM[prompt_N], seen, held.supported_P)
    intervals = {name: each.interval() for name, each in estimates.items()}
    return {name: (each.low <= truth <= each.high, each.high - each.low) for name, each in intervals.items()}


def coverage(seeds: int, n: int = _REQUESTS, feedback: float = 0.5) -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """Rows of the table: data, logging policy, policy asked about, and for each estimator hits and mean width."""
    for name in ("llmrouter_example", "paretobandit_k4"):
        for how in ("explore", "soft", "percent"):
            found = world(name, how)
            for label, policy in targets(found).items():
                runs = [inside(found, policy, seed, n, feedback) for seed in range(seeds)]
                said = [run for run in runs if run]
                figures = {
                    key: f"{sum(run[key][0] for run in said)} of {len(said)}, "
                    f"±{np.mean([run[key][1] for run in said]) / 2:.4f}"
                    for key in estimators.ESTIMATORS
                    if said
                }
                yield name, how, label, figures


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.off_policy", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--requests", type=int, default=_REQUESTS)
    parser.add_argument("--feedback", type=float, default=0.5, help="share of requests that have feedback")
    asked = parser.parse_args()
    print("| data | logging | asked about | " + " | ".join(estimators.ESTIMATORS) + " |")
    print("|---|---|---|" + "---|" * len(estimators.ESTIMATORS))
    for name, how, label, figures in coverage(asked.seeds, asked.requests, asked.feedback):
        cells = " | ".join(figures.get(key, "refused") for key in estimators.ESTIMATORS)
        print(f"| {name} | {how} | {label} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
