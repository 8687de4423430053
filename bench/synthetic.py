"""A valid bundle of any size, with random probes: what it predicts means nothing, what it costs to serve does."""

from pathlib import Path

import numpy as np

from erp_trainer.bundles.records import probe_file, write_json, write_tensors
from erp_trainer.bundles.write import save_bundle
from litellm_erp.bundle.manifest import MANIFEST, FileRecord, Manifest, ModelRecord
from litellm_erp.choice.cost import Price
from litellm_erp.embedding.static import StaticEmbedder

LAMBDAS = 24


def write_bundle(
    path: Path,
    n_models: int,
    *,
    embedder: StaticEmbedder | None = None,
    output_heads: bool = True,
    distrust: float = 0.5,
    seed: int = 0,
) -> Path:
    """Write a bundle of ``n_models`` pool models, named ``model-000`` and so on, on the shipped embedder.

    Parameters
    ----------
    output_heads : also fit expected output tokens, which a bundle has where its outcomes recorded them
    distrust : 0 leaves the leverage of prompts unused
    """
    rng = np.random.default_rng(seed)
    spec = (embedder or StaticEmbedder()).spec
    with save_bundle(path) as folder:
        records = tuple(_model(folder, m, spec.dimension, rng, output_heads) for m in range(n_models))
        manifest = Manifest(
            policy="erp",
            preset="best",
            safety=True,
            embedder=spec,
            embedder_files=(),
            reward={"models": ["synthetic"], "unit": "reward", "normalisation": "none", "zero": None},
            cost_kind="usd",
            expected_output_tokens=256.0,
            prompt_set={"fingerprint": "synthetic", "train": 1000, "test": 0},
            created={"at": "2026-11-22T00:00:00+00:00"},
            uncertainty=_uncertainty(folder, n_models, spec.dimension, rng, distrust),
            frontier=_frontier(folder, records),
            models=records,
        )
        write_json(folder, MANIFEST, manifest.to_json())
    return path


def _model(folder: Path, number: int, dimension: int, rng: np.random.Generator, output_heads: bool) -> ModelRecord:
    name = f"model-{number:03d}"
    tensors = {"weights": _weights(rng, dimension, 0.3), "intercept": np.float32(rng.uniform(0.4, 0.6, 1))}
    if output_heads:
        tensors |= {
            "output_tokens_weights": _weights(rng, dimension, 200.0),
            "output_tokens_intercept": np.float32([300.0]),
        }
    input_usd = float(np.exp(rng.uniform(np.log(0.05), np.log(5.0))))
    return ModelRecord(
        name=name,
        probe=write_tensors(folder, probe_file(name), tensors),
        rows=1000,
        beta=10.0,
        mean_reward=float(tensors["intercept"][0]),
        r2=0.1,
        r2_by_category={},
        price=Price(input_usd, 4.0 * input_usd),
    )


def _weights(rng: np.random.Generator, dimension: int, length: float) -> np.ndarray:
    weights = rng.standard_normal(dimension)
    return (weights * (length / np.linalg.norm(weights))).astype(np.float32)


def _uncertainty(folder: Path, n_models: int, dimension: int, rng: np.random.Generator, distrust: float) -> FileRecord:
    basis = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0]
    tensors = {
        "mean": _weights(rng, dimension, 0.5),
        "whiten": (basis / np.sqrt(10.0)).astype(np.float32),
        "noise": np.full(n_models, 0.05),
        "slope": np.full(n_models, 0.05),
        "base": np.array([1e-3]),
        "usual": np.array([0.1]),
        "distrust": np.array([distrust]),
    }
    return write_tensors(folder, "uncertainty.safetensors", tensors)


def _frontier(folder: Path, records: tuple[ModelRecord, ...]) -> FileRecord:
    lambdas = [0.0, *np.geomspace(1e-3, 10.0, LAMBDAS - 1).tolist()]
    points = [
        {"lambda": x, "shrinkage": 0.8, "reward": 0.6 - 0.01 * i, "cost_usd": 1e-3 / (1 + i), "share": {}}
        for i, x in enumerate(lambdas)
    ]
    singles = {
        model.name: {"reward": model.mean_reward, "cost_usd": 1e-6 * (model.price.input_usd_per_mtok or 0.0) * 1200}
        for model in records
    }
    document = {
        "points": points,
        "single_models": singles,
        "verdict": {"helps": True, "text": "synthetic: for benchmarks only"},
    }
    return write_json(folder, "frontier.json", document)
