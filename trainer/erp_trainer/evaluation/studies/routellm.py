"""PURE. RouteLLM's protocol for pools of two models: APGR and call-performance thresholds.

A router gives each prompt a score for the strong model; at a threshold, the prompts above it go there. Thresholds are
the quantiles of the scores. Performance gap recovered (PGR) is 0 at the weak model's mean reward and 1 at the strong
one's.

Source: RouteLLM, arXiv 2406.18665, section 4, and its evaluation code (ten quantile thresholds, trapezoids).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from erp_trainer.learning.bootstrap import Estimates, Resamples, outer_bounds
from erp_trainer.learning.training_table import TrainingTable

N_THRESHOLDS = 10
TARGETS = (0.2, 0.5, 0.8)


def strong_and_weak(mean_reward_M: np.ndarray) -> tuple[int, int]:
    """The model with the higher mean reward on train, and the other."""
    strong = int(np.argmax(mean_reward_M))
    return strong, 1 - strong


def routing_curve(score_P: np.ndarray, *, n_thresholds: int = N_THRESHOLDS) -> np.ndarray:
    """Which prompts go to the strong model at each threshold, shape (P, n_thresholds + 1), bool.

    The first column sends none there and the last all; prompts with equal scores move together.
    """
    edges = np.quantile(score_P, 1 - np.arange(1, n_thresholds) / n_thresholds)
    inner = score_P[:, None] >= edges[None]
    ends = np.zeros((len(score_P), 1), dtype=bool)
    return np.hstack([ends, inner, ~ends])


def gap_recovered(
    score_P: np.ndarray, weak_P: np.ndarray, strong_P: np.ndarray, resamples: Resamples
) -> dict[str, Any]:
    """APGR with its interval, call-performance thresholds, and the curve of one router.

    Parameters
    ----------
    score_P : shape (P,), higher where the strong model is more worth calling
    weak_P, strong_P : shape (P,), the recorded rewards

    Returns
    -------
    apgr (interval, NaN where the strong model is no better), cpt and cpt_ci by target, points
    """
    called = routing_curve(score_P)
    earned = np.where(called, strong_P[:, None], weak_P[:, None])
    whole = resamples.means(np.hstack([earned, called]))
    size = called.shape[1]
    both = np.vstack([whole.value_S[None], whole.resampled_RS])
    reward, share = both[:, :size], both[:, size:]
    gap = reward[:, -1] - reward[:, 0]
    area = ((reward[:, 1:] + reward[:, :-1]) / 2 * np.diff(share, axis=1)).sum(axis=1)
    apgr = np.divide(area - reward[:, 0], gap, out=np.full(len(gap), np.nan), where=gap > 0)
    risen = reward - reward[:, :1]
    pgr = np.divide(risen, gap[:, None], out=np.full_like(risen, np.nan), where=gap[:, None] > 0)
    thresholds = {str(target): _least_share(share, pgr, target) for target in TARGETS}
    return {
        "apgr": Estimates.of(apgr).interval().to_json(),
        "cpt": {target: None if np.isnan(found[0]) else float(found[0]) for target, found in thresholds.items()},
        "cpt_ci": {target: outer_bounds(found[1:], np.inf) for target, found in thresholds.items()},
        "weak_reward": float(reward[0, 0]),
        "strong_reward": float(reward[0, -1]),
        "points": [
            {"share_strong": float(s), "reward": float(r), "pgr": float(p)}
            for s, r, p in zip(share[0], reward[0], pgr[0], strict=True)
        ],
    }


def _least_share(share_RT: np.ndarray, pgr_RT: np.ndarray, target: float) -> np.ndarray:
    """The smallest share of strong calls at which so much of the gap is recovered, between thresholds by a line.

    Returns
    -------
    shape (R,); NaN where there is no gap
    """
    enough = pgr_RT >= target
    right = enough.argmax(axis=1)[:, None]
    left = np.maximum(right - 1, 0)
    (low, high), (start, end) = (
        [np.take_along_axis(values, at, axis=1)[:, 0] for at in (left, right)] for values in (pgr_RT, share_RT)
    )
    along = np.divide(target - low, high - low, out=np.ones(len(low)), where=high > low)
    return np.where(enough.any(axis=1), start + along * (end - start), np.nan)


def two_model_measures(
    test: TrainingTable,
    train_mean_M: np.ndarray,
    scores: Mapping[str, np.ndarray],
    resamples: Resamples,
    *,
    seed: int = 0,
) -> dict[str, Any] | None:
    """RouteLLM's measures of every policy with scores, over all prompts and per category; None unless two models.

    Parameters
    ----------
    scores : by policy, shape (P, 2); a router that scores at random is added as ``random``
    """
    if len(test.models) != 2:
        return None
    strong, weak = strong_and_weak(train_mean_M)
    both = np.flatnonzero(~np.isnan(test.rewards_PM).any(axis=1))
    at_random = np.random.default_rng(seed).random(len(test))
    routers = {key: (found[:, strong] - found[:, weak]).astype(np.float64) for key, found in scores.items()}
    rows = []
    for key, score_P in {**routers, "random": at_random}.items():
        for category in ["", *test.categories]:
            inside = np.intersect1d(both, test.inside(category))
            if len(inside) < N_THRESHOLDS:
                continue
            weak_P, strong_P = test.rewards_PM[inside, weak], test.rewards_PM[inside, strong]
            found = gap_recovered(score_P[inside], weak_P, strong_P, resamples.among(inside))
            rows.append({"policy": key, "category": category, "prompts": len(inside), **found})
    return {"weak": test.models[weak], "strong": test.models[strong], "rows": rows}
