"""PURE. How well rewards are predicted: R² beside its noise ceiling, and calibration.

Source: R² within categories as in arXiv 2603.20217, tables 1 and 2; the ceiling is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from erp_trainer.learning.bootstrap import Estimates, Resamples
from erp_trainer.learning.training_table import TrainingTable

MAX_BINS = 15
MIN_IN_BIN = 20


def r2_estimates(predicted_PM: np.ndarray, observed_PM: np.ndarray, resamples: Resamples) -> Estimates:
    """R² of M models, each over its prompts; NaN where the observed rewards do not vary.

    Parameters
    ----------
    predicted_PM, observed_PM : shape (P, M); NaN where a model has no observed reward
    resamples : of the same P prompts
    """
    present = ~np.isnan(observed_PM)
    number_M = np.maximum(present.sum(axis=0), 1)
    # Centred first, so that rewards far from 0 lose no digits in the squares.
    observed = np.where(present, observed_PM, 0.0)
    centred = np.where(present, observed_PM - observed.sum(axis=0) / number_M, 0.0)
    error = np.where(present, observed_PM - predicted_PM, 0.0)
    whole, resampled = resamples.sums(np.hstack([error**2, centred, centred**2, present]))
    shape = (len(resampled), 4, observed_PM.shape[1])
    constant_M = np.array([not np.ptp(column[rows]) if rows.any() else True
                           for column, rows in zip(observed_PM.T, present.T, strict=True)])  # fmt: skip
    value = np.where(constant_M, np.nan, _r2(whole.reshape(1, *shape[1:]))[0])
    return Estimates(value, np.where(constant_M, np.nan, _r2(resampled.reshape(shape))))


def _r2(sums_R4M: np.ndarray) -> np.ndarray:
    sse, total, squares, number = (sums_R4M[:, i] for i in range(4))
    sst = squares - np.divide(total**2, number, out=np.zeros_like(number), where=number > 0)
    # A resample of one value is constant also where its squares do not cancel to the last digit.
    varies = sst > 1e-12 * squares
    return np.asarray(1.0 - np.divide(sse, sst, out=np.full_like(sst, np.nan), where=varies))


def noise_ceiling(observed_P: np.ndarray, noise_P: np.ndarray) -> float:
    """R² of a perfect prediction of the expected reward, in [0, 1]; NaN where it is not known.

    Parameters
    ----------
    noise_P : shape (P,), variance of each observed mean around the expected reward; NaN where it is not on record.
        Where it is known for fewer than half of the prompts, as at one sample each, the ceiling is not known.
    """
    known = ~np.isnan(noise_P)
    if 2 * known.sum() < len(noise_P) or known.sum() < 2:
        return float("nan")
    variance = float(observed_P[known].var())
    return max(0.0, 1.0 - float(noise_P[known].mean()) / variance) if variance > 0 else float("nan")


def calibration(predicted_P: np.ndarray, observed_P: np.ndarray, resamples: Resamples) -> dict[str, Any]:
    """Observed against predicted reward: the line through all prompts, and means in bins of equal counts."""
    centred = predicted_P - predicted_P.mean()
    variance = float(centred @ centred)
    # The line is undefined where one value is predicted for all.
    slope = float(centred @ (observed_P - observed_P.mean())) / variance if variance > 1e-300 else float("nan")
    # Rewards that are all the same follow nothing, whatever rounding says.
    slope = slope if np.ptp(observed_P) else 0.0 * slope
    bins = _Bins.of(predicted_P)
    observed = resamples.among(bins.order).binned_means(observed_P[bins.order], bins.starts).intervals()
    return {
        "slope": slope,
        "intercept": float(observed_P.mean() - slope * predicted_P.mean()),
        "bins": [
            {"predicted": float(p), "observed": o.mean, "observed_ci": o.ends, "prompts": int(n)}
            for p, o, n in zip(bins.means(predicted_P), observed, bins.sizes, strict=True)
        ],
    }


def calibration_slopes(predicted_PM: np.ndarray, observed_PM: np.ndarray, resamples: Resamples) -> Estimates:
    """Least-squares slope of observed on predicted reward, of M models, each over its prompts; NaN where undefined.

    Parameters
    ----------
    predicted_PM, observed_PM : shape (P, M); NaN where a model has no observed reward
    resamples : of the same P prompts
    """
    present = ~np.isnan(observed_PM)
    number_M = np.maximum(present.sum(axis=0), 1)
    x, y = (
        np.where(present, values - np.where(present, values, 0.0).sum(axis=0) / number_M, 0.0)
        for values in (predicted_PM, observed_PM)
    )
    whole, resampled = resamples.sums(np.hstack([x, y, x * x, x * y, present]).astype(np.float32))
    shape = (5, observed_PM.shape[1])
    return Estimates(_slopes(whole.reshape(1, *shape))[0], _slopes(resampled.reshape(-1, *shape)))


def _slopes(sums_R5M: np.ndarray) -> np.ndarray:
    x, y, squares, products, number = (sums_R5M[:, i] for i in range(5))
    share = np.divide(x, number, out=np.zeros_like(x), where=number > 0)
    variance = squares - share * x
    # One value predicted for all has no slope, also where its squares do not cancel to the last digit.
    varies = variance > 1e-6 * squares
    return np.asarray(np.divide(products - share * y, variance, out=np.full_like(x, np.nan), where=varies))


def error_calibration(error_P: np.ndarray, std_error_P: np.ndarray) -> dict[str, Any]:
    """Actual errors against stated standard errors.

    Parameters
    ----------
    error_P : shape (P,), observed less predicted reward
    std_error_P : shape (P,), the standard error of that prediction against an observed mean
    """
    bins = _Bins.of(std_error_P)
    return {
        "within_95": float((np.abs(error_P) <= 1.96 * std_error_P).mean()),
        "bins": [
            {"std_error": float(stated), "rms_error": float(np.sqrt(squared)), "prompts": int(n)}
            for stated, squared, n in zip(bins.means(std_error_P), bins.means(error_P**2), bins.sizes, strict=True)
        ],
    }


@dataclass(frozen=True, slots=True)
class _Bins:
    """Prompts ordered by a value, and where each of up to ``MAX_BINS`` bins of equal counts starts in that order."""

    order: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, values_P: np.ndarray) -> _Bins:
        n_bins = int(np.clip(len(values_P) // MIN_IN_BIN, 1, MAX_BINS))
        return cls(np.argsort(values_P, kind="stable"), (np.arange(n_bins) * len(values_P)) // n_bins)

    @property
    def sizes(self) -> np.ndarray:
        return np.diff(np.append(self.starts, len(self.order)))

    def means(self, values_P: np.ndarray) -> np.ndarray:
        return np.asarray(np.add.reduceat(values_P[self.order].astype(np.float64), self.starts) / self.sizes)


def model_measures(
    test: TrainingTable, predicted_PM: np.ndarray, std_error_PM: np.ndarray, resamples: Resamples
) -> dict[str, dict[str, Any]]:
    """Everything about each model's predictions on the test prompts, by model name."""
    rewards, predicted_PM = test.rewards_PM, predicted_PM.astype(np.float64)
    noise_PM = np.full(rewards.shape, np.nan) if test.noise_PM is None else test.noise_PM
    inside = {category: test.inside(category) for category in test.categories}
    overall = r2_estimates(predicted_PM, rewards, resamples).intervals()
    within = {
        category: r2_estimates(predicted_PM[rows], rewards[rows], resamples.among(rows)).intervals()
        for category, rows in inside.items()
    }
    means = resamples.means(rewards).intervals()
    slopes = calibration_slopes(predicted_PM, rewards, resamples).bounds()
    missing = np.isnan(rewards)
    within_95 = np.where(missing, np.nan, np.abs(rewards - predicted_PM) <= 1.96 * std_error_PM)
    covered = resamples.means(within_95).bounds()
    measures = {}
    for m, name in enumerate(test.models):
        present = ~np.isnan(rewards[:, m])
        rows = np.flatnonzero(present)
        observed, predicted, error_at = rewards[rows, m], predicted_PM[rows, m], std_error_PM[rows, m]
        error = observed - predicted
        own = {category: at[present[at]] for category, at in inside.items() if present[at].any()}
        measures[name] = {
            "r2": overall[m].mean,
            "r2_ci": overall[m].ends,
            "r2_by_category": {
                category: {
                    "r2": within[category][m].mean,
                    "ci": within[category][m].ends,
                    "prompts": len(at),
                }
                for category, at in own.items()
            },
            "ceiling": noise_ceiling(observed, noise_PM[rows, m]),
            "ceiling_by_category": {
                category: noise_ceiling(rewards[at, m], noise_PM[at, m]) for category, at in own.items()
            },
            "mean_reward": means[m].mean,
            "mean_reward_ci": means[m].ends,
            "cost_usd": float(test.realised_cost_PM[rows, m].mean()),
            "prompts": len(rows),
            "standardised_error": float(np.sqrt(np.mean((error / np.where(error_at > 0, error_at, np.nan)) ** 2))),
            "calibration": {
                **calibration(predicted, observed, resamples.among(rows)),
                "slope_ci": slopes[m].tolist(),
            },
            "error_calibration": {**error_calibration(error, error_at), "within_95_ci": covered[m].tolist()},
        }
    return measures
