"""A valid bundle of any size, with random probes: what it predicts means nothing, what it costs to serve does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from erp_trainer.bundles.records import write_features, write_json, write_model, write_uncertainty
from erp_trainer.bundles.write import save_bundle
from litellm_erp.bundle.features import Features
from litellm_erp.bundle.manifest import MANIFEST, Manifest
from litellm_erp.bundle.probe import Probes, Uncertainty
from litellm_erp.choice.cost import Price
from litellm_erp.embedding.base import EmbedderSpec
from litellm_erp.embedding.static import StaticEmbedder

LAMBDAS = 24


def write_bundle(
    path: Path,
    n_models: int,
    *,
    embedder: StaticEmbedder | None = None,
    output_heads: bool = True,
    sizes: tuple[int, ...] = (14, 20, 60),
    seed: int = 0,
) -> Path:
    """Write a bundle of ``n_models`` pool models, named ``model-000`` and so on, on the shipped embedder.

    Parameters
    ----------
    output_heads : also fit expected output tokens, which a bundle has where its outcomes recorded them
    sizes : of the sets of memberships that all models share; () for probes alone
    """
    rng = np.random.default_rng(seed)
    spec = (embedder or StaticEmbedder()).spec
    intercept_M = rng.uniform(0.4, 0.6, n_models).astype(np.float32)
    head = Probes(_weights(rng, spec.dimension, n_models, 200.0), np.full(n_models, 300.0, dtype=np.float32))
    usd_M = np.exp(rng.uniform(np.log(0.05), np.log(5.0), n_models))
    prices = [Price(usd, 4.0 * usd) for usd in usd_M.tolist()]
    basis = np.linalg.qr(rng.standard_normal((spec.dimension, spec.dimension)))[0]
    lambdas = [0.0, *np.geomspace(1e-3, 10.0, LAMBDAS - 1).tolist()]
    return save_synthetic(
        path,
        [f"model-{m:03d}" for m in range(n_models)],
        spec,
        Probes(_weights(rng, spec.dimension, n_models, 0.3), intercept_M),
        intercept_M,
        1.2e-3 * usd_M,
        prices,
        Uncertainty(
            mean_D=_weights(rng, spec.dimension, 1, 0.5)[:, 0],
            whiten_DR=(basis / np.sqrt(10.0)).astype(np.float32),
            base=1e-3,
            noise_M=np.full(n_models, 0.05),
            slope_M=np.full(n_models, 0.05),
        ),
        points=[
            {"lambda": x, "shrinkage": 0.8, "reward": 0.6 - 0.01 * i, "cost_usd": 1e-3 / (1 + i), "share": {}}
            for i, x in enumerate(lambdas)
        ],
        verdict={"helps": True, "text": "synthetic: for benchmarks only"},
        output_tokens=head if output_heads else None,
        features=_features(rng, spec.dimension, sizes) if sizes else None,
        cells_FM=rng.normal(0.0, 0.1, (sum(sizes), n_models)).astype(np.float32),
    )


def save_synthetic(
    path: Path,
    models: Sequence[str],
    spec: EmbedderSpec,
    probes: Probes,
    mean_reward_M: np.ndarray,
    mean_cost_M: np.ndarray,
    prices: Sequence[Price],
    uncertainty: Uncertainty,
    points: Sequence[Mapping[str, Any]],
    verdict: Mapping[str, Any],
    *,
    output_tokens: Probes | None = None,
    features: Features | None = None,
    cells_FM: np.ndarray | None = None,
    **changes: object,
) -> Path:
    """Write a bundle of given numbers; ``changes`` replace fields of its manifest as JSON."""
    singles = {
        name: {"reward": float(reward), "cost_usd": float(cost)}
        for name, reward, cost in zip(models, mean_reward_M, mean_cost_M, strict=True)
    }
    cells = np.zeros((0, len(models)), dtype=np.float32) if cells_FM is None else cells_FM
    with save_bundle(path) as folder:
        records = tuple(
            write_model(
                folder,
                name,
                m,
                probes,
                cells,
                output_tokens,
                rows=10,
                beta=1.0,
                mean_reward=float(mean_reward_M[m]),
                r2=0.1,
                r2_by_category={},
                price=prices[m],
                constant_cost_usd=None,
                stats=(),
            )
            for m, name in enumerate(models)
        )
        manifest = Manifest(
            policy="erp",
            preset="best",
            safety=True,
            embedder=spec,
            embedder_files=(),
            reward={"unit": "reward"},
            cost_kind="usd",
            expected_output_tokens=256.0,
            prompt_set={"train": 10},
            created={},
            uncertainty=write_uncertainty(folder, uncertainty),
            frontier=write_json(
                folder, "frontier.json", {"points": points, "single_models": singles, "verdict": verdict}
            ),
            models=records,
            features=write_features(folder, features),
            stack=(1.0,) * (1 if features is None else 1 + len(features.sizes)),
        )
        write_json(folder, MANIFEST, {**manifest.to_json(), **changes})
    return path


def _features(rng: np.random.Generator, dimension: int, sizes: tuple[int, ...]) -> Features:
    n = sum(sizes)
    entropy_Q = np.linspace(0.0, np.log(sizes[0]), 1000)
    return Features(_weights(rng, dimension, n, 8.0), np.zeros(n, dtype=np.float32), sizes, entropy_Q, 0.1)


def _weights(rng: np.random.Generator, dimension: int, n: int, length: float) -> np.ndarray:
    """Columns of a length, in random directions."""
    weights = rng.standard_normal((dimension, n))
    return (weights * (length / np.linalg.norm(weights, axis=0))).astype(np.float32)
