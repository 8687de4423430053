"""PURE. Intervals clustered by prompt: one set of resamples for every figure of an evaluation.

A resample draws as many clusters (groups of duplicate prompts) as there are, with replacement, so it is a vector of
counts, and the resampled sum of any per-prompt figure is a product with those counts. All figures share the counts:
hundreds of intervals cost one matrix product, and every difference of two of them is paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

N_RESAMPLES = 2000
# With many clusters the percentiles settle long before the time does.
N_RESAMPLES_AT_SCALE = 1000
_MANY_CLUSTERS = 20_000
_CHUNK = 4096
# What float32 leaves of nought, as a share of what was summed; no interval is as narrow.
_NOUGHT = 1e-6


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its 95% percentile interval; NaN where it is not known."""

    mean: float
    low: float
    high: float

    @property
    def ends(self) -> list[float]:
        """Both ends."""
        return [self.low, self.high]

    def to_json(self) -> dict[str, float]:
        """The three numbers by name."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Estimates:
    """S figures and their values in R resamples.

    Attributes
    ----------
    value_S : shape (S,)
    resampled_RS : shape (R, S)
    """

    value_S: np.ndarray
    resampled_RS: np.ndarray

    @classmethod
    def of(cls, value_R: np.ndarray) -> Estimates:
        """One figure: on all prompts, then in every resample, shape (1 + R,)."""
        return cls(value_R[:1], value_R[1:, None])

    def __sub__(self, other: Estimates) -> Estimates:
        return Estimates(difference(self.value_S, other.value_S), difference(self.resampled_RS, other.resampled_RS))

    def from_nought(self) -> Estimates:
        """The same with nothing below 0, for figures that cannot be."""
        return Estimates(np.maximum(self.value_S, 0.0), np.maximum(self.resampled_RS, 0.0))

    def column(self, index: int) -> Estimates:
        """One figure, as Estimates of one."""
        return Estimates(self.value_S[index : index + 1], self.resampled_RS[:, index : index + 1])

    def bounds(self) -> np.ndarray:
        """The 95% percentile intervals, shape (S, 2); NaN where no resample has a value."""
        sorted_RS = np.sort(self.resampled_RS, axis=0)  # NaN sorts last
        known_S = (~np.isnan(sorted_RS)).sum(axis=0)
        bounds = np.full((sorted_RS.shape[1], 2), np.nan)
        for side, share in enumerate((0.025, 0.975)):
            at_S = np.maximum(known_S - 1, 0) * share
            low_S, high_S = np.floor(at_S).astype(np.int64), np.ceil(at_S).astype(np.int64)
            columns = np.arange(sorted_RS.shape[1])
            below, above = sorted_RS[low_S, columns], sorted_RS[high_S, columns]
            bounds[:, side] = below + (at_S - low_S) * (above - below)
        return bounds

    def interval(self, index: int = 0) -> Interval:
        """The interval of one figure."""
        return self.column(index).intervals()[0]

    def intervals(self) -> list[Interval]:
        """One interval per figure."""
        return [
            Interval(float(value), float(low), float(high))
            for value, (low, high) in zip(self.value_S, self.bounds(), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Resamples:
    """R bootstrap resamples of P prompts in G clusters.

    Attributes
    ----------
    weights_RG : shape (R, G), uint8; how often each cluster is drawn
    cluster_P : shape (P,), int; the cluster of each prompt
    """

    weights_RG: np.ndarray
    cluster_P: np.ndarray

    @classmethod
    def draw(cls, groups_P: np.ndarray, *, seed: int = 0, n_resamples: int | None = None) -> Resamples:
        """Draw resamples of whole groups.

        Parameters
        ----------
        groups_P : shape (P,), int; prompts of one group are drawn together
        n_resamples : by default ``N_RESAMPLES``, or ``N_RESAMPLES_AT_SCALE`` for many clusters

        Source: Efron and Tibshirani (1993), with clusters.
        """
        unique, cluster = np.unique(groups_P, return_inverse=True)
        n_clusters = len(unique)
        if n_resamples is None:
            n_resamples = N_RESAMPLES if n_clusters <= _MANY_CLUSTERS else N_RESAMPLES_AT_SCALE
        rng = np.random.default_rng(seed)
        starts = np.arange(0, n_clusters, _CHUNK)
        sizes = np.diff(np.append(starts, n_clusters))
        # How many of a resample's draws fall into each chunk of clusters, then which clusters they are.
        per_chunk = rng.multinomial(n_clusters, sizes / n_clusters, size=n_resamples)
        weights = np.empty((n_resamples, n_clusters), dtype=np.uint8)
        for chunk, (start, size) in enumerate(zip(starts, sizes, strict=True)):
            drawn = rng.integers(0, size, per_chunk[:, chunk].sum())
            row = np.repeat(np.arange(n_resamples), per_chunk[:, chunk])
            counts = np.bincount(row * size + drawn, minlength=n_resamples * size)
            weights[:, start : start + size] = counts.reshape(n_resamples, size)
        return cls(weights, cluster)

    def sums(self, values_PS: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums over prompts, shape (S,), and over each resample, shape (R, S), of finite values.

        float32 values are resampled in float32, which is twice as fast and enough for figures near 0.
        """
        n_clusters = self.weights_RG.shape[1]
        clustered = _by_cluster(values_PS, self.cluster_P, n_clusters)
        resampled = np.zeros((len(self.weights_RG), values_PS.shape[1]))
        for start in range(0, n_clusters, _CHUNK):
            block = clustered[start : start + _CHUNK]
            resampled += self.weights_RG[:, start : start + _CHUNK].astype(block.dtype) @ block
        return clustered.sum(axis=0, dtype=np.float64), resampled

    def ratios(self, numerator_PS: np.ndarray, denominator_PS: np.ndarray) -> Estimates:
        """Ratios of two sums over prompts, NaN where the denominator is 0.

        Parameters
        ----------
        numerator_PS : shape (P, S), finite
        denominator_PS : shape (P, S) or (P, 1), finite
        """
        size = numerator_PS.shape[1]
        whole, resampled = self.sums(np.hstack([numerator_PS, denominator_PS]))
        return Estimates(_divide(whole[:size], whole[size:]), _divide(resampled[:, :size], resampled[:, size:]))

    def means(self, values_PS: np.ndarray) -> Estimates:
        """Means over the prompts where a figure is not NaN.

        Parameters
        ----------
        values_PS : shape (P, S)
        """
        missing = np.isnan(values_PS)
        # Around a figure of their own size sums in float32 lose nothing that matters.
        centre_S = np.where(missing, 0.0, values_PS).sum(axis=0) / np.maximum((~missing).sum(axis=0), 1)
        centred = np.where(missing, 0.0, values_PS - centre_S).astype(np.float32)
        present = (~missing if missing.any() else ~missing[:, :1]).astype(np.float32)
        found = self.ratios(centred, present)
        size_S = np.where(missing, 0.0, np.abs(values_PS)).sum(axis=0) / np.maximum((~missing).sum(axis=0), 1)
        centre_S = np.where(np.abs(centre_S) < _NOUGHT**2 * size_S, 0.0, centre_S)
        resampled_RS = found.resampled_RS + centre_S[None]
        resampled_RS[np.abs(resampled_RS) < _NOUGHT * size_S] = 0.0
        return Estimates(np.where(np.isnan(found.value_S), np.nan, centre_S), resampled_RS)

    def among(self, rows: np.ndarray) -> Resamples:
        """The same resamples of some prompts only, for figures about a category or a pair of models.

        Parameters
        ----------
        rows : shape (P,), bool, or indices; figures are then given for these prompts, in this order
        """
        used, cluster = np.unique(self.cluster_P[rows], return_inverse=True)
        if len(used) == self.weights_RG.shape[1]:
            return Resamples(self.weights_RG, cluster)
        return Resamples(self.weights_RG[:, used], cluster)

    def binned_means(self, values_P: np.ndarray, starts: np.ndarray) -> Estimates:
        """Means of consecutive bins of prompts, as many figures as bins.

        Parameters
        ----------
        values_P : shape (P,), finite
        starts : the first prompt of each bin, ascending from 0
        """
        sizes = np.diff(np.append(starts, len(values_P)))
        inside = np.repeat(np.eye(len(starts), dtype=bool), sizes, axis=0)
        return self.means(np.where(inside, values_P[:, None], np.nan))

    def mean(self, values_P: np.ndarray) -> Interval:
        """Interval of one mean, over the prompts where it is not NaN; for a paired comparison pass differences."""
        return self.means(values_P[:, None]).interval()


def outer_bounds(value_R: np.ndarray, worst: float) -> list[float | None]:
    """95% interval of a figure that some resamples do not have: they count as the worst there is, and None is unknown.

    Parameters
    ----------
    value_R : shape (R,), NaN where a resample has none
    worst : an infinity
    """
    ordered = np.sort(np.where(np.isnan(value_R), worst, value_R))
    last = len(ordered) - 1
    # Nearest ranks, because there is nothing between a number and none.
    ends = ordered[[int(np.floor(0.025 * last)), int(np.ceil(0.975 * last))]]
    return [float(end) if np.isfinite(end) else None for end in ends]


def _by_cluster(values_PS: np.ndarray, cluster_P: np.ndarray, n_clusters: int) -> np.ndarray:
    if n_clusters == len(values_PS):
        clustered = np.empty_like(values_PS)
        clustered[cluster_P] = values_PS
        return clustered
    order = np.argsort(cluster_P, kind="stable")
    starts = np.searchsorted(cluster_P[order], np.arange(n_clusters))
    return np.asarray(np.add.reduceat(values_PS[order], starts, axis=0))


def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """One less the other, 0 where they differ only by the rounding of float32, which is no difference."""
    found = one - other
    return np.where(np.abs(found) <= 0.1 * _NOUGHT * (np.abs(one) + np.abs(other)), 0.0, found)


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    out = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    return np.divide(above, below, out=out, where=np.broadcast_to(below, out.shape) != 0)


def interval(values_P: np.ndarray, groups_P: np.ndarray, *, seed: int = 0, n_resamples: int | None = None) -> Interval:
    """Bootstrap interval of one mean; whole groups of duplicate prompts are resampled together.

    For a paired comparison pass the differences of two policies on the same prompts. For many figures draw
    :class:`Resamples` once.
    """
    return Resamples.draw(groups_P, seed=seed, n_resamples=n_resamples).mean(values_P)
