"""Bundles that somebody made wrong: edits that keep every hash right, and what a bundle that loads must do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.manifest import MANIFEST
from litellm_erp.bundle.ranking import Candidates, predict_pool, rank_pool
from litellm_erp.goals.goal import FORMS, Goal, Window
from litellm_erp.goals.solve import reachable, solve
from litellm_erp.serving.team_view import expectation

LAMBDAS = (0.0, 0.5, 1e12)


def edit(bundle: Path, change: Callable[[Any], Any]) -> None:
    """Change the manifest's document; what ``change`` returns replaces it, None keeps what it changed in place."""
    file = bundle / MANIFEST
    document = json.loads(file.read_text())
    changed = change(document)
    file.write_text(json.dumps(document if changed is None else changed))


def put_file(bundle: Path, content: bytes, *where: str | int, name: str | None = None) -> Path:
    """Put other bytes into a file of the bundle; the manifest's record at ``where`` agrees with them."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    found = manifest
    for key in where:
        found = found[key]
    file = bundle / (name or found["file"])
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    found |= {
        "file": file.relative_to(bundle).as_posix(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    return file


def edit_frontier(bundle: Path, change: Callable[[Any], Any]) -> None:
    """As `edit`, of frontier.json."""
    document = json.loads((bundle / "frontier.json").read_text())
    changed = change(document)
    put_file(bundle, json.dumps(document if changed is None else changed).encode(), "frontier")


def serve(bundle: Bundle) -> None:
    """Everything that serving asks of a bundle, once; fails where an answer is none."""
    rng, candidates = np.random.default_rng(0), Candidates(bundle, range(len(bundle.models)), 0, bundle.prices())
    vectors = rng.normal(size=(4, bundle.manifest.embedder.dimension)).astype(np.float32)
    for vector in vectors / np.linalg.norm(vectors, axis=1, keepdims=True):
        for limit in (None, 1.0):
            scores = predict_pool(bundle, vector, 100.0, prices=bundle.prices(), max_output_tokens=limit)
            for lambda_ in LAMBDAS:
                ranking = rank_pool(bundle, scores, lambda_)
                assert sorted(ranking.order.tolist()) == list(range(len(bundle.models)))
                assert np.isfinite(ranking.expected_reward).all()
                for asked in (vector, None):
                    ranked = candidates.rank(asked, 100.0, lambda_, max_output_tokens=limit)
                    assert sorted(ranked.order) == list(range(len(bundle.models)))
                    assert np.isfinite(np.asarray(ranked.expected_reward)).all()
    for goal in FORMS:
        policy = Goal(goal, 0.5, Window("day") if goal == "budget_usd" else None)
        found = expectation(solve(policy, bundle.frontier), bundle.frontier, bundle.cost_scale)
        json.dumps([found, reachable(policy, bundle.frontier, cost_kind=bundle.manifest.cost_kind)], allow_nan=False)
    verdict = bundle.frontier.document["verdict"]
    f"{verdict['helps']} {verdict['text']}".encode()
    json.dumps([bundle.frontier.document, bundle.manifest.to_json()], allow_nan=False).encode()
    for name in bundle.models:
        assert name.isprintable() or not any(ord(c) < 32 or ord(c) == 127 for c in name)
