"""IO. The payload of an evaluation on disk, with what it is of: drawn later only where run and bundle are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from erp_trainer.console import plain
from erp_trainer.evaluation.evaluation import EvaluationOptions
from erp_trainer.files.atomic import atomic_file
from erp_trainer.outcomes.run import Run
from litellm_erp import __version__
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.errors import RunError


def origin(run: Run, bundle: Bundle, options: EvaluationOptions) -> dict[str, Any]:
    """What an evaluation depends on: who made it, the run's content, the bundle and what was asked."""
    content = json.dumps([run.manifest["files"], run.manifest["expected_output_tokens"]], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()
    found = {"tool": __version__, "run": digest, "bundle": bundle.id, "options": asdict(options)}
    return dict(plain(found))


def save_payload(payload: Mapping[str, Any], path: Path) -> None:
    """Write a payload, whole or not at all."""
    content = json.dumps(plain(payload), ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    with atomic_file(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def load_payload(path: Path, run: Run, bundle: Bundle) -> tuple[dict[str, Any], dict[str, Any]]:
    """A payload that was saved, and the options it was measured with.

    Raises
    ------
    RunError : not such a file, or of another run, bundle or release
    """
    again = "measure it again: erp-train evaluate RUN --bundle BUNDLE --out FILE"
    try:
        payload = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise RunError(f"{path}: not readable as JSON ({exc}); {again}") from exc
    stated = payload.get("of") if isinstance(payload, dict) else None
    if not isinstance(stated, dict) or not isinstance(stated.get("options"), dict):
        raise RunError(f"{path}: no evaluation, or one that does not say what it is of; {again}")
    expected = origin(run, bundle, EvaluationOptions())
    for key, of in (("run", str(run.path)), ("bundle", str(bundle.path)), ("tool", "this release")):
        if stated.get(key) != expected[key]:
            found = str(stated.get(key))[:12]
            raise RunError(f"{path}: is of another {key} ({found}) than {of} ({expected[key][:12]}); {again}")
    return payload, stated["options"]
