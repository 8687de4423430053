"""Small bundles on disk, for tests that break them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.synthetic import save_synthetic
from erp_trainer.bundles.records import write_tensors
from litellm_erp.bundle.manifest import MANIFEST
from litellm_erp.bundle.probe import Probes, Uncertainty
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
    return save_synthetic(
        path,
        models,
        spec,
        Probes(weights, np.zeros(m, np.float32)),
        np.arange(m),
        0.001 * np.arange(1, m + 1),
        [price] * m,
        Uncertainty(
            mean_D=np.zeros(d, np.float32),
            whiten_DR=np.eye(d, dtype=np.float32),
            base=1.0,
            noise_M=np.ones(m),
            slope_M=np.ones(m),
        ),
        points=[{"lambda": 0.0, "reward": 1.0, "cost_usd": 0.001, "shrinkage": 1.0, "share": {models[0]: 1.0}}],
        verdict={"helps": True, "text": "Routing helps: in this test.", "best_single": models[-1]},
        **changes,
    )


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
