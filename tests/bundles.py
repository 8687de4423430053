"""Small bundles on disk, for tests that break them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from erp_trainer.bundles.records import probe_file, write_json, write_tensors
from erp_trainer.bundles.write import save_bundle
from litellm_erp.bundle.manifest import MANIFEST, Manifest, ModelRecord
from litellm_erp.choice.cost import Price
from litellm_erp.embedding.base import EmbedderSpec

DIMENSION = 6
SPEC = EmbedderSpec(
    kind="endpoint",
    id="endpoint:test",
    revision=None,
    dimension=DIMENSION,
    max_bytes=4096,
    max_tokens=None,
    sha256=None,
    url="http://127.0.0.1:9/v1/embeddings",
)
PRICE = Price(1.0, 2.0)


def write_bundle(
    path: Path,
    models: Sequence[str] = ("small", "org/mid", "big"),
    *,
    spec: EmbedderSpec = SPEC,
    weights_DM: np.ndarray | None = None,
    price: Price = PRICE,
    **changes: object,
) -> Path:
    """A valid bundle; ``changes`` replace fields of its manifest as JSON."""
    m, d = len(models), spec.dimension
    weights = np.arange(d * m, dtype=np.float32).reshape(d, m) if weights_DM is None else weights_DM
    with save_bundle(path) as folder:
        probes = [
            write_tensors(folder, probe_file(name), {"weights": weights[:, i], "intercept": np.zeros(1, np.float32)})
            for i, name in enumerate(models)
        ]
        uncertainty = {
            "mean": np.zeros(d, np.float32),
            "whiten": np.eye(d, dtype=np.float32),
            "noise": np.ones(m),
            "slope": np.ones(m),
            **{key: np.ones(1) for key in ("base", "usual")},
            "distrust": np.zeros(1),
        }
        singles = {name: {"reward": float(i), "cost_usd": 0.001 * (i + 1)} for i, name in enumerate(models)}
        point = {"lambda": 0.0, "reward": 1.0, "cost_usd": 0.001, "shrinkage": 1.0, "share": {models[0]: 1.0}}
        verdict = {"helps": True, "text": "Routing helps: in this test.", "best_single": models[-1]}
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
            uncertainty=write_tensors(folder, "uncertainty.safetensors", uncertainty),
            frontier=write_json(
                folder, "frontier.json", {"points": [point], "single_models": singles, "verdict": verdict}
            ),
            models=tuple(
                ModelRecord(name, probes[i], 10, 1.0, float(i), 0.1, {}, price) for i, name in enumerate(models)
            ),
        )
        write_json(folder, MANIFEST, {**manifest.to_json(), **changes})
    return path


def edit_manifest(bundle: Path, **changes: object) -> None:
    """Change top-level fields of a manifest, as somebody with an editor would."""
    file = bundle / MANIFEST
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, **changes}))


def replace_tensors(bundle: Path, model: int, **tensors: np.ndarray) -> None:
    """Put other tensors into a probe file and make the manifest's hash agree with them."""
    document = json.loads((bundle / MANIFEST).read_text())
    record = write_tensors(bundle, document["models"][model]["probe"]["file"], tensors)
    document["models"][model]["probe"] = {"file": record.file, "sha256": record.sha256, "bytes": record.bytes}
    (bundle / MANIFEST).write_text(json.dumps(document))
