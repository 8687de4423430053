"""PURE. What another policy would have earned, from what one policy did and how probable it was to do it.

A policy is a matrix of probabilities, requests × models. Every estimator is a sum of ratios of sums over requests, so
that its bootstrap takes the same resamples as any other's, and differences of policies are paired.

Source:
    Horvitz and Thompson (1952), "A generalization of sampling without replacement from a finite universe": weighing
    what was seen by the inverse of its probability.
    Swaminathan and Joachims (2015), "The self-normalized estimator for counterfactual learning": the weights' own sum
    as the denominator.
    Dudík, Langford and Li (2011), "Doubly robust policy evaluation and learning": a model's prediction, corrected by
    the weighted residuals of what was seen.
    Kish (1965) for the effective sample size. That a policy is refused where support is missing, and the bounds, are
    ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from erp_trainer.learning.bootstrap import Estimates, Resamples

ESTIMATORS = ("ips", "snips", "dr")
# Requests whose choice the logging policy could not have served are left out, up to this share of all.
MAX_UNSUPPORTED = 0.01
# A model that a policy would choose this often must have been seen.
_SEEN_SHARE = 0.005
# Below it intervals of weighted means begin to be too narrow.
MIN_EFFECTIVE = 200.0
# Outcomes that weigh 1 make a mean like any other.
MIN_EVEN = 30.0
# Of fewer different prompts, each repeated, a bootstrap of whole prompts does not know the spread.
MIN_PROMPTS = 50.0
_FOLDS = 5
# Outcomes from which predictions are set right, and how many of a model's count as much as the pool's.
_MIN_OUTCOMES, _PRIOR_OUTCOMES = 100, 20.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What one policy did on P requests.

    Attributes
    ----------
    propensity_PM : shape (P, M), how probable each model was
    served_P : shape (P,), int; the model that answered
    outcome_P : shape (P,), reward or USD; NaN where it was not observed
    model_PM : shape (P, M), what outcome is expected of each model, worked out without the request's own outcome
    resamples : of the P requests
    """

    propensity_PM: np.ndarray
    served_P: np.ndarray
    outcome_P: np.ndarray
    model_PM: np.ndarray
    resamples: Resamples

    @property
    def observed_P(self) -> np.ndarray:
        """Which outcomes were observed, bool."""
        return ~np.isnan(self.outcome_P)


@dataclass(frozen=True, slots=True)
class Support:
    """Whether a policy can be judged by what was seen.

    Attributes
    ----------
    supported_P : shape (P,), bool; the logging policy could have served all that the other policy may choose
    unsupported : by column of model, share of requests at which it would be chosen and could not have been served
    unseen : columns of models that would be chosen, could have been served, and have no observed outcome
    effective : effective sample size
    least : the effective sample size from which something may be said
    outcomes : that are observed, of supported requests
    prompts : how many different prompts those are of, see `effective_number`
    """

    supported_P: np.ndarray
    unsupported: Mapping[int, float]
    unseen: tuple[int, ...]
    effective: float
    least: float
    outcomes: int
    prompts: float

    @property
    def share(self) -> float:
        """Of requests that are supported."""
        return float(self.supported_P.mean())

    @property
    def enough(self) -> bool:
        """Whether anything may be said."""
        supported = self.share >= 1 - MAX_UNSUPPORTED and not self.unseen
        return supported and self.effective >= self.least and not self.repeats

    @property
    def repeats(self) -> bool:
        """Whether the outcomes are of a few prompts again and again."""
        return self.prompts < min(MIN_PROMPTS, self.outcomes / 2)


def importance(policy_PM: np.ndarray, seen: Seen) -> np.ndarray:
    """Shape (P,): how much likelier the policy is to choose what was served than the one at work; 0 unobserved."""
    rows = np.arange(len(seen.served_P))
    wanted, had = policy_PM[rows, seen.served_P], seen.propensity_PM[rows, seen.served_P]
    return np.where(seen.observed_P & (had > 0), wanted / np.where(had > 0, had, 1.0), 0.0)


def effective_sample_size(policy_PM: np.ndarray, propensity_PM: np.ndarray) -> float:
    """(Σ E w)² / Σ E w² over requests: how many equally weighted outcomes would tell as much.

    Expected over who might have served, by the propensities, not of the weights that happened: else those logs would be
    let through in which many heavy weights came by chance, and their estimates lean the same way.

    Parameters
    ----------
    policy_PM : of the requests with an outcome; probability where the logging policy had none is left out

    Source: Kish (1965); that it is expected is ours.
    """
    could = propensity_PM > 0
    mean = np.where(could, policy_PM, 0.0).sum()
    square = np.where(could, policy_PM**2 / np.where(could, propensity_PM, 1.0), 0.0).sum()
    return float(mean**2 / square) if square > 0 else 0.0


def support(policy_PM: np.ndarray, seen: Seen) -> Support:
    """See :class:`Support`."""
    barred_PM = (policy_PM > 0) & (seen.propensity_PM <= 0)
    supported_P = np.asarray(~barred_PM.any(axis=1))
    lost_M = np.where(barred_PM, policy_PM, 0.0).mean(axis=0)
    served_M = np.bincount(seen.served_P[seen.observed_P], minlength=policy_PM.shape[1])
    wanted_M = np.where(barred_PM, 0.0, policy_PM).mean(axis=0)
    used_P = np.asarray(supported_P & seen.observed_P)
    return Support(
        supported_P,
        {int(m): float(lost_M[m]) for m in np.argsort(-lost_M) if lost_M[m] > 0},
        tuple(np.flatnonzero((wanted_M > _SEEN_SHARE) & (served_M == 0)).tolist()),
        effective_sample_size(policy_PM[used_P], seen.propensity_PM[used_P]),
        MIN_EVEN if (policy_PM[used_P] <= seen.propensity_PM[used_P] * (1 + 1e-9)).all() else MIN_EFFECTIVE,
        int(used_P.sum()),
        effective_number(seen.resamples.cluster_P[used_P]),
    )


def effective_number(cluster_P: np.ndarray) -> float:
    """exp of the entropy of clusters' sizes: how many equally large ones would be as varied.

    One that is frequent among many rare ones, such as a health check, takes little away. Source: Hill (1973), order 1.
    """
    share = np.bincount(cluster_P) / max(1, len(cluster_P))
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum())) if len(share) else 0.0


def ips(policy_PM: np.ndarray, seen: Seen, supported_P: np.ndarray) -> Estimates:
    """Mean of w·outcome over observed requests. Unbiased; wide. Source: Horvitz and Thompson (1952)."""
    used = (seen.observed_P & supported_P).astype(np.float64)
    return _studentised(seen, used * importance(policy_PM, seen) * np.nan_to_num(seen.outcome_P), used)


def snips(policy_PM: np.ndarray, seen: Seen, supported_P: np.ndarray) -> Estimates:
    """Σ w·outcome / Σ w. Hardly biased, narrower. Source: Swaminathan and Joachims (2015)."""
    weight = np.where(supported_P, importance(policy_PM, seen), 0.0)
    return _studentised(seen, weight * np.nan_to_num(seen.outcome_P), weight)


def doubly_robust(policy_PM: np.ndarray, seen: Seen, supported_P: np.ndarray) -> Estimates:
    """Mean of Σ_m π·q over all requests, plus the mean of w·(outcome − q) over observed ones.

    Right where propensities are, whatever the model q is worth; the better q, the narrower.
    Source: Dudík, Langford and Li (2011).
    """
    model_PM = np.nan_to_num(seen.model_PM)
    predicted = (policy_PM * model_PM).sum(axis=1)
    residual = np.nan_to_num(seen.outcome_P) - model_PM[np.arange(len(predicted)), seen.served_P]
    used = (seen.observed_P & supported_P).astype(np.float64)
    everyone = supported_P.astype(np.float64)
    direct = _ratio(seen, everyone * predicted, everyone)
    correction = _ratio(seen, used * importance(policy_PM, seen) * residual, used)
    return Estimates(direct.value_S + correction.value_S, direct.resampled_RS + correction.resampled_RS)


def estimates(policy_PM: np.ndarray, seen: Seen, supported_P: np.ndarray) -> dict[str, Estimates]:
    """All of them by name."""
    return {
        "ips": ips(policy_PM, seen, supported_P),
        "snips": snips(policy_PM, seen, supported_P),
        "dr": doubly_robust(policy_PM, seen, supported_P),
    }


def recalibrated(
    predicted_PM: np.ndarray, served_P: np.ndarray, outcome_P: np.ndarray, groups_P: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Predictions at the outcomes' own scale, shape (P, M), each set right by other requests' outcomes only.

    One slope for the pool and a constant per model, shrunk towards the pool's; cross-fitted over five folds of whole
    groups. Fewer than a hundred outcomes leave the predictions as they are.

    Source: cross-fitting as in Chernozhukov et al. (2018); the form of the line is ours.
    """
    known = ~np.isnan(outcome_P) & ~np.isnan(predicted_PM[np.arange(len(served_P)), served_P])
    if known.sum() < _MIN_OUTCOMES:
        return predicted_PM
    names, place = np.unique(groups_P, return_inverse=True)
    fold_P = np.random.default_rng(seed).integers(0, _FOLDS, len(names))[place]
    found = np.empty_like(predicted_PM)
    for fold in range(_FOLDS):
        rows = known & (fold_P != fold)
        slope, constant_M = _line(predicted_PM, served_P, outcome_P, rows)
        found[fold_P == fold] = constant_M + slope * predicted_PM[fold_P == fold]
    return found


def _line(
    predicted_PM: np.ndarray, served_P: np.ndarray, outcome_P: np.ndarray, rows: np.ndarray
) -> tuple[float, np.ndarray]:
    said, came, who = predicted_PM[rows, served_P[rows]], outcome_P[rows], served_P[rows]
    if len(said) == 0:
        return 1.0, np.zeros(predicted_PM.shape[1])
    spread = float(((said - said.mean()) ** 2).sum())
    slope = float(((said - said.mean()) * (came - came.mean())).sum()) / spread if spread > 1e-12 else 1.0
    constant = float(came.mean() - slope * said.mean())
    rest = came - constant - slope * said
    sums = np.bincount(who, rest, minlength=predicted_PM.shape[1])
    counts = np.bincount(who, minlength=predicted_PM.shape[1])
    return slope, constant + sums / (counts + _PRIOR_OUTCOMES)


def _studentised(seen: Seen, numerator_P: np.ndarray, denominator_P: np.ndarray) -> Estimates:
    """A ratio of sums whose percentiles are those of the bootstrap-t.

    Sums of a few heavy weights are skewed: where such a sum is too low, so is its spread, and percentile intervals
    miss above. Dividing each resample's error by that resample's own standard error takes it out.

    Source: Efron and Tibshirani (1993), chapter 12.
    """
    names, place = np.unique(seen.resamples.cluster_P, return_inverse=True)
    above, below = (np.bincount(place, part, len(names)) for part in (numerator_P, denominator_P))
    clusters = Resamples(seen.resamples.weights_RG, names)
    whole, drawn = clusters.sums(np.column_stack([above, below, above**2, above * below, below**2]))
    value, error = _with_error(whole[None])
    values_R, errors_R = _with_error(drawn)
    with np.errstate(invalid="ignore", divide="ignore"):
        t_R = np.where(errors_R > 0, (values_R - value) / errors_R, 0.0)
    return Estimates(value, (value - t_R * error)[:, None])


def _with_error(sums_R5: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ratio and its linearised standard error from Σa, Σb, Σa², Σab, Σb² over clusters."""
    above, below, squares, products, weights = sums_R5.T
    with np.errstate(invalid="ignore", divide="ignore"):
        value = above / below
        error = np.sqrt(np.maximum(squares - 2 * value * products + value**2 * weights, 0.0)) / below
    return value, error


def _ratio(seen: Seen, numerator_P: np.ndarray, denominator_P: np.ndarray) -> Estimates:
    return seen.resamples.ratios(numerator_P[:, None], denominator_P[:, None])
