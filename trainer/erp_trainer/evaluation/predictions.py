"""PURE. How well rewards are predicted: R² beside its noise ceiling, and calibration.

Source: R² within categories as in arXiv 2603.20217, tables 1 and 2; the ceiling is ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from erp_trainer.evaluation.bootstrap import Estimates, Resamples
from erp_trainer.evaluation.table import Table

MAX_BINS = 15
MIN_IN_BIN = 20


def r_squared(predicted_P: np.ndarray, observed_P: np.ndarray, resamples: Resamples) -> Estimates:
    """R² of one model, as Estimates of one figure; NaN where the observed rewards do not vary.

    Parameters
    ----------
    predicted_P, observed_P : shape (P,), finite
    resamples : of the same P prompts
    """
    # Centred first, so that rewards far from 0 lose no digits in the squares.
    centred = observed_P - observed_P.mean()
    sums = np.stack([(observed_P - predicted_P) ** 2, centred, centred**2, np.ones_like(centred)], axis=1)
    whole, resampled = resamples.sums(sums)
    if not np.ptp(observed_P):
        return Estimates(np.full(1, np.nan), np.full((len(resampled), 1), np.nan))
    return Estimates(_r2(whole[None]), _r2(resampled)[:, None])


def _r2(sums_R4: np.ndarray) -> np.ndarray:
    sse, total, squares, number = sums_R4.T
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
    order, starts = equal_bins(predicted_P)
    observed = resamples.among(order).binned_means(observed_P[order], starts).intervals()
    sizes = np.diff(np.append(starts, len(order)))
    predicted = np.add.reduceat(predicted_P[order].astype(np.float64), starts) / sizes
    return {
        "slope": slope,
        "intercept": float(observed_P.mean() - slope * predicted_P.mean()),
        "bins": [
            {"predicted": float(p), "observed": o.mean, "observed_ci": [o.low, o.high], "prompts": int(n)}
            for p, o, n in zip(predicted, observed, sizes, strict=True)
        ],
    }


def error_calibration(error_P: np.ndarray, std_error_P: np.ndarray) -> dict[str, Any]:
    """Actual errors against stated standard errors.

    Parameters
    ----------
    error_P : shape (P,), observed less predicted reward
    std_error_P : shape (P,), the standard error of that prediction against an observed mean
    """
    order, starts = equal_bins(std_error_P)
    sizes = np.diff(np.append(starts, len(order)))
    stated = np.add.reduceat(std_error_P[order].astype(np.float64), starts) / sizes
    actual = np.sqrt(np.add.reduceat(error_P[order] ** 2, starts) / sizes)
    return {
        "within_95": float((np.abs(error_P) <= 1.96 * std_error_P).mean()),
        "bins": [
            {"std_error": float(s), "rms_error": float(a), "prompts": int(n)}
            for s, a, n in zip(stated, actual, sizes, strict=True)
        ],
    }


def equal_bins(values_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Prompts ordered by a value, and where each of up to ``MAX_BINS`` bins of equal counts starts in that order."""
    n_bins = int(np.clip(len(values_P) // MIN_IN_BIN, 1, MAX_BINS))
    starts = (np.arange(n_bins) * len(values_P)) // n_bins
    return np.argsort(values_P, kind="stable"), starts


def model_measures(
    test: Table, predicted_PM: np.ndarray, std_error_PM: np.ndarray, resamples: Resamples
) -> dict[str, dict[str, Any]]:
    """Everything about each model's predictions on the test prompts, by model name."""
    categories = sorted(set(test.categories_P.tolist()) - {""})
    measures = {}
    for m, name in enumerate(test.models):
        rows = np.flatnonzero(~np.isnan(test.rewards_PM[:, m]))
        observed, predicted = test.rewards_PM[rows, m], predicted_PM[rows, m].astype(np.float64)
        error_at = std_error_PM[rows, m]
        noise = np.full(len(rows), np.nan) if test.noise_PM is None else test.noise_PM[rows, m]
        resampled = resamples.among(rows)
        r2 = r_squared(predicted, observed, resampled).intervals()[0]
        inside = {category: np.flatnonzero(test.categories_P[rows] == category) for category in categories}
        mean = resampled.mean(observed)
        cost = test.realised_cost_PM[rows, m]
        error = observed - predicted
        measures[name] = {
            "r2": r2.mean,
            "r2_ci": [r2.low, r2.high],
            "r2_by_category": {
                category: _r2_within(predicted[at], observed[at], resampled.among(at))
                for category, at in inside.items()
                if len(at)
            },
            "ceiling": noise_ceiling(observed, noise),
            "ceiling_by_category": {
                category: noise_ceiling(observed[at], noise[at]) for category, at in inside.items() if len(at)
            },
            "mean_reward": mean.mean,
            "mean_reward_ci": [mean.low, mean.high],
            "cost_usd": float(cost.mean()),
            "prompts": len(rows),
            "standardised_error": float(np.sqrt(np.mean((error / np.where(error_at > 0, error_at, np.nan)) ** 2))),
            "calibration": calibration(predicted, observed, resampled),
            "error_calibration": error_calibration(error, error_at),
        }
    return measures


def _r2_within(predicted_P: np.ndarray, observed_P: np.ndarray, resamples: Resamples) -> dict[str, Any]:
    r2 = r_squared(predicted_P, observed_P, resamples).intervals()[0]
    return {"r2": r2.mean, "ci": [r2.low, r2.high], "prompts": len(observed_P)}
