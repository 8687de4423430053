"""Models of which a bundle knows nothing but what a log says: placed among the others once enough of it is rewarded.

As ``erp-train add-model --prompts`` places one that was asked few prompts (`erp_trainer.learning.newcomer`); what the
others would have earned at its requests is what the bundle expects of them. Their rows are not kept as sums: such a
model is placed anew at every update, from all that the log has of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from erp_trainer.bundles.records import stack_of, write_json, write_model, write_uncertainty
from erp_trainer.learning.features import Labelling
from erp_trainer.learning.newcomer import Newcomer, fit_newcomer
from erp_trainer.logged.log import Log
from erp_trainer.policies.frontier import number_or_none
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.files import read_json
from litellm_erp.bundle.manifest import Manifest, ModelRecord
from litellm_erp.bundle.probe import Probes
from litellm_erp.choice.cost import UNKNOWN_PRICE
from litellm_erp.choice.decision import first_choices, name_order

# From so many prompts on a newcomer costs nothing on average (docs/log/newcomers.md).
NEWCOMER_ROWS = 25
# The variance of an answer is as of so many rows that have the others'.
_NOISE_ROWS = 5.0


@dataclass(frozen=True, slots=True)
class Placed:
    """One model, fitted from a log.

    Attributes
    ----------
    rows : how many it was fitted on
    noise : variance of an answer
    cost_usd : mean of its answers; None where it is not known
    output_tokens : as many as the others are expected to give
    """

    name: str
    fitted: Newcomer
    rows: int
    noise: float
    cost_usd: float | None
    output_tokens: float


def newcomers_in(
    bundle: Bundle, log: Log, rows: Collection[int]
) -> tuple[dict[str, list[int]], dict[str, tuple[int, int]]]:
    """Rows of the log by model, of those that it alone can say something of: not in the bundle, or there from a log.

    Parameters
    ----------
    rows : of the log, with a reward and an embedding, to learn from

    Returns
    -------
    models that can be placed, with their rows; the others with how many they have and how many they need, which is
    `NEWCOMER_ROWS`, or as many as they were placed from before
    """
    least = {record.name: record.rows for record in bundle.manifest.models if not record.stats}
    known = set(bundle.models) - set(least)
    found: dict[str, list[int]] = {}
    for p in rows:
        if log.served_P[p] >= 0 and (name := log.models[log.served_P[p]]) not in known:
            found.setdefault(name, []).append(p)
    need = {name: max(NEWCOMER_ROWS, least.get(name, 0)) for name in found}
    ready = {name: of for name, of in found.items() if len(of) >= need[name]}
    return ready, {name: (len(of), need[name]) for name, of in found.items() if name not in ready}


def place(
    bundle: Bundle,
    expected_PM: np.ndarray,
    probes: Probes,
    means_M: np.ndarray,
    log: Log,
    vectors: Mapping[int, np.ndarray],
    found: Mapping[str, list[int]],
) -> list[Placed]:
    """Place each newcomer among the models that the bundle has from elsewhere.

    Parameters
    ----------
    expected_PM, probes, means_M : of all models of the bundle, as it is to be: expected rewards at the requests of
        ``vectors``, in their order; linear parts; means of the rows that they were fitted on
    found : see `newcomers_in`
    """
    stack = stack_of(bundle.manifest)
    others = [m for m, record in enumerate(bundle.manifest.models) if record.stats]
    requests = list(vectors)
    x, expected_PM = np.stack([vectors[p] for p in requests]), expected_PM[:, others]
    ridge = stack.weights[-1]
    weights = probes.weights_DM[:, others] / ridge if ridge else np.zeros((x.shape[1], len(others)))
    means = means_M[others]
    intercepts = means + (probes.intercept_M[others] - means) / ridge if ridge else means
    variance = float((expected_PM.var(axis=0) + bundle.uncertainty.noise_M[others]).mean())
    labels = _labels(bundle, x)
    tokens = float(np.maximum(bundle.output_tokens.predict(x)[:, others], 1.0).mean())
    placed = []
    for name, rows in sorted(found.items()):
        at = np.isin(requests, rows)
        rewards = np.where(at, log.reward_P[requests], np.nan)
        fitted = fit_newcomer(x, rewards, expected_PM, labels, stack, (weights, intercepts), variance)
        predicted = fitted.predict(x[at], _memberships(bundle, x[at])) + fitted.expected_mean - fitted.mean
        squares = float(np.square(rewards[at] - predicted).sum())
        noise = (squares + _NOISE_ROWS * float(bundle.uncertainty.noise_M[others].mean())) / (len(rows) + _NOISE_ROWS)
        placed.append(Placed(name, fitted, len(rows), noise, _mean(log.real_cost_P[rows]), tokens))
    return placed


def write_placed(folder: Path, bundle: Bundle, manifest: Manifest, placed: Sequence[Placed], x: np.ndarray) -> Manifest:
    """Write the newcomers' probes, and what looks at the whole pool: uncertainty and frontier.

    The frontier's rewards and costs stay those of the pool without them; shares count how often each would be chosen.

    Parameters
    ----------
    manifest : of everything else that is written
    x : embeddings of the log's requests, shape (P, D)

    Returns
    -------
    the manifest with the newcomers
    """
    by_name = {record.name: record for record in manifest.models}
    for each in placed:
        by_name[each.name] = _written(folder, manifest, each)
    models = tuple(by_name[name] for name in sorted(by_name))
    uncertainty = bundle.uncertainty
    slope = float(uncertainty.slope_M.mean())
    variances = dict(zip(bundle.models, zip(uncertainty.noise_M, uncertainty.slope_M, strict=True), strict=True))
    variances |= {each.name: (each.noise, slope) for each in placed}
    noise_M, slope_M = np.array([variances[record.name] for record in models]).T
    document = read_json(bundle.path, bundle.manifest.frontier)
    for each in placed:
        document["single_models"][each.name] = {
            "reward": each.fitted.expected_mean,
            "cost_usd": each.cost_usd,
            "expected_cost_usd": None,
            "cost_slope": None,
        }
    _share(bundle, document, placed, x)
    return replace(
        manifest,
        models=models,
        uncertainty=write_uncertainty(folder, replace(uncertainty, noise_M=noise_M, slope_M=slope_M)),
        frontier=write_json(folder, "frontier.json", document),
    )


def report_of(placed: Sequence[Placed], mean_M: np.ndarray) -> list[dict[str, Any]]:
    """What is said of each: its rows, its mean reward as expected over all requests, and its place in the pool."""
    return [
        {
            "model": each.name,
            "rows": each.rows,
            "mean_reward": each.fitted.expected_mean,
            "place": 1 + int((mean_M > each.fitted.expected_mean).sum()),
            "of": len(mean_M) + 1,
        }
        for each in placed
    ]


def _share(bundle: Bundle, document: dict[str, Any], placed: Sequence[Placed], x: np.ndarray) -> None:
    """At every λ, how often newcomers would be chosen, at each model's mean cost; the others share the rest."""
    names = [*(m for m in bundle.models if m not in {each.name for each in placed}), *(each.name for each in placed)]
    known = [bundle.models.index(name) for name in names if name in bundle.models][: len(names) - len(placed)]
    memberships = _memberships(bundle, x)
    rewards = np.column_stack(
        [bundle.predictor.predict(x)[:, known], *(each.fitted.predict(x, memberships) for each in placed)]
    )
    singles = document["single_models"]
    costs = np.array([np.nan if singles[name]["cost_usd"] is None else singles[name]["cost_usd"] for name in names])
    means = np.concatenate([bundle.mean_reward_M[known], [each.fitted.mean for each in placed]])
    for point in document["points"]:
        trust = np.full((len(x), 1), point["shrinkage"])
        chosen = first_choices(
            rewards,
            np.broadcast_to(costs, rewards.shape),
            point["lambda"],
            [trust],
            tie_order_M=name_order(names),
            mean_reward_M=means if bundle.manifest.safety else None,
            cost_scale=bundle.cost_scale,
        )[0]
        new = {each.name: float((chosen == names.index(each.name)).mean()) for each in placed}
        old = {name: share for name, share in point["share"].items() if name not in new}
        left, whole = 1.0 - sum(new.values()), sum(old.values()) or 1.0
        point["share"] = {name: share / whole * left for name, share in old.items()} | new
        point["share"] = {name: share for name, share in point["share"].items() if share > 0}


def _written(folder: Path, manifest: Manifest, placed: Placed) -> ModelRecord:
    fitted, first = placed.fitted, manifest.models[0]
    head = Probes(np.zeros((len(fitted.weights_D), 1), np.float32), np.array([placed.output_tokens], np.float32))
    return write_model(
        folder,
        placed.name,
        0,
        Probes(fitted.weights_D[:, None], np.array([fitted.intercept], dtype=np.float32)),
        fitted.cells_F[:, None],
        head,
        rows=placed.rows,
        beta=first.beta,
        mean_reward=fitted.mean,
        r2=np.nan,
        r2_by_category={},
        price=UNKNOWN_PRICE,
        constant_cost_usd=placed.cost_usd if manifest.cost_kind == "usd" else None,
        stats=(),
    )


def _labels(bundle: Bundle, x: np.ndarray) -> list[Labelling]:
    """The label that each request belongs to most, in every labelling of the bundle."""
    if bundle.features is None:
        return []
    parts = np.split(_memberships(bundle, x), np.cumsum(bundle.features.sizes)[:-1], axis=1)
    return [Labelling(part.argmax(axis=1), n, 1.0) for part, n in zip(parts, bundle.features.sizes, strict=True)]


def _memberships(bundle: Bundle, x: np.ndarray) -> np.ndarray:
    if bundle.features is None:
        return np.empty((len(x), 0))
    return bundle.features.memberships(bundle.features.scores(x))


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return number_or_none(float(known.mean())) if len(known) else None
