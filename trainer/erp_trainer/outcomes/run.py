"""IO. Run folders: what an import, or sampling and scoring, left behind for every later stage.

::

    RUN/
      outcomes.parquet    the outcomes table, long form, every prompt with its split
      prices.json         model to price
      run.json            the manifest; written last, so a folder without it is no run
      cache/              arrays that can be computed again (embeddings); safe to delete
      prompts.jsonl, samples/, scores/    where the outcomes were sampled here

Invariants: a run is complete or it is not there. An imported run is built beside its final place and renamed into it,
and an import that fails leaves the run it would have replaced untouched. A sampled run is completed in place, because
its samples cost more than anything else in it: they are never moved, and never replaced by an import. Its other files
are written to ``.next/`` first and moved once they are all there; whoever opens the run ends a move that was cut short.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from erp_trainer.files.atomic import atomic_file, sync_folder
from erp_trainer.outcomes.read import read_outcomes
from erp_trainer.outcomes.table import OutcomesTable
from erp_trainer.outcomes.write import write_outcomes
from litellm_erp import __version__
from litellm_erp.choice.cost import DEFAULT_OUTPUT_TOKENS, Price
from litellm_erp.effort import checked
from litellm_erp.errors import RunError

SCHEMA_VERSION = 1
_KIND = "erp-run"
_MANIFEST, _OUTCOMES, _PRICES, _CACHE = "run.json", "outcomes.parquet", "prices.json", "cache"
_NEXT = ".next"
_SAMPLED = ("prompts.jsonl", "samples", "scores")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A complete run folder.

    Attributes
    ----------
    path : the folder
    manifest : run.json: schema, created_at, tool, source, options, counts, split_seed (None where the file had
        splits), reward_model (None where the file names none), expected_output_tokens, prompts_sha256, files
    """

    path: Path
    manifest: Mapping[str, Any]

    def outcomes(self) -> OutcomesTable:
        """Read the outcomes table.

        Raises
        ------
        RunError : the file is missing or was changed after the import
        """
        return read_outcomes(self.outcomes_file())

    def outcomes_file(self) -> Path:
        """The outcomes on disk, checked; whole prompts in every row group."""
        return self._checked(_OUTCOMES)

    def prices(self) -> dict[str, Price]:
        """Price of every pool model.

        Raises
        ------
        RunError : the file is missing or was changed after the import
        """
        path = self._checked(_PRICES)
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {name: Price.from_json(entry, where=f"{path}: model {name!r}") for name, entry in stored.items()}

    def parameters(self) -> dict[str, dict[str, Any]]:
        """By pool model, what requests to it are sent with; models that are sent nothing of the kind are left out."""
        stored = self.manifest["options"].get("parameters") or {}
        where = f"{self.path / _MANIFEST}: parameters"
        return {name: checked(entry, f"{where}.{name}", RunError) for name, entry in stored.items()}

    def cached_array(self, key: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Array stored under a key, computed and stored if it is not there.

        Parameters
        ----------
        key : names everything the array depends on, except the run's prompts
        make : called when there is no valid file; a file that fails its checksum counts as none, with a warning

        Returns
        -------
        what ``make`` returned, now or earlier: same shape and dtype
        """
        path = self.path / _CACHE / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
        if path.exists():
            try:
                return _load_array(path, key)
            except Exception as exc:  # any unreadable cache is only a cache miss
                _log.warning("%s: not a valid cache file (%s); computing it again", path, exc)
        array = np.ascontiguousarray(make())
        _save_array(path, key, array)
        return array

    def _checked(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise RunError(f"{path}: missing from the run; import the outcomes again")
        found, expected = _sha256(path), str(self.manifest["files"].get(name))
        if found != expected:
            raise RunError(
                f"{path}: changed after the import: found sha256 {found[:12]}…, expected {expected[:12]}…. "
                "Change the source file and import it again"
            )
        return path


def create_run(
    path: str | Path,
    outcomes: OutcomesTable,
    prices: Mapping[str, Price],
    *,
    source: str | Path | Sequence[Path],
    options: Mapping[str, Any] | None = None,
    split_seed: int | None = None,
    expected_output_tokens: int = DEFAULT_OUTPUT_TOKENS,
) -> Run:
    """Write a run folder, or replace one.

    Parameters
    ----------
    path : a new or empty folder, or an existing run. A run's cache is kept where its prompts are the same
    source : the file or files the outcomes were read from; names and sha256 go into the manifest
    options : how it was read, for the manifest; must be JSON
    split_seed : of `assign_split`; None where the file stated splits
    expected_output_tokens : stands in where output tokens were not recorded

    Raises
    ------
    RunError : ``path`` is a file, or a folder with other things in it
    """
    # Resolved, so that a link to a run is followed and not replaced by a folder.
    path = Path(path).resolve()
    check_run_target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    building.mkdir()
    try:
        manifest = _manifest(outcomes, _source(source), options or {}, split_seed, expected_output_tokens)
        _fill(building, outcomes, prices, manifest)
        _keep_cache(path, building, manifest["prompts_sha256"])
        _swap(building, path)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return open_run(path)


def complete_run(
    path: str | Path,
    outcomes: OutcomesTable,
    prices: Mapping[str, Price],
    *,
    source: str | Path,
    options: Mapping[str, Any] | None = None,
    split_seed: int | None = None,
    expected_output_tokens: int = DEFAULT_OUTPUT_TOKENS,
) -> Run:
    """Make a run of a folder that holds samples and scores, or make it again; they stay where they are.

    A crash leaves the run as it was, or as it was to become.

    Parameters
    ----------
    path : the folder; see `create_run` for the others, ``source`` being the pool file

    Raises
    ------
    RunError : ``path`` is not a folder
    """
    path = Path(path).resolve()
    if not path.is_dir():
        raise RunError(f"{path}: no such folder; sample into it first")
    manifest = _manifest(outcomes, _source(source), options or {}, split_seed, expected_output_tokens)
    if not _same_prompts(path, manifest["prompts_sha256"]):
        shutil.rmtree(path / _CACHE, ignore_errors=True)
    shutil.rmtree(path / _NEXT, ignore_errors=True)
    (path / _NEXT).mkdir()
    _fill(path / _NEXT, outcomes, prices, manifest)
    return open_run(path)


def check_run_target(path: str | Path) -> None:
    """Raise `RunError` unless an imported run may be written to ``path``; nothing else is ever overwritten."""
    path = Path(path).resolve()
    _recover(path)
    if path.exists() and not path.is_dir():
        raise RunError(f"{path}: is a file; expected a new folder or an existing run. Choose another --out")
    if sampled := [name for name in _SAMPLED if (path / name).exists()]:
        raise RunError(f"{path}: holds {', '.join(sampled)}, which replacing it would destroy. Choose another --out")
    if path.is_dir() and any(path.iterdir()) and not _is_run(path):
        raise RunError(
            f"{path}: a folder that is not empty and not a run (no valid {_MANIFEST}); nothing in it was touched. "
            "Choose another --out"
        )


def open_run(path: str | Path) -> Run:
    """Open a run folder.

    Raises
    ------
    RunError : missing, incomplete, unreadable, or written by a newer version
    """
    path = Path(path).resolve()
    _recover(path)
    _move_next(path)
    if not path.is_dir():
        raise RunError(f"{path}: no such run folder; make one with `erp-train import FILE --out {path.name}`")
    manifest_path = path / _MANIFEST
    if not manifest_path.is_file():
        raise RunError(f"{path}: not a complete run: {_MANIFEST} is missing. Import the outcomes again")
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise RunError(f"{manifest_path}: not readable JSON: {exc}. Import the outcomes again") from exc
    if not isinstance(manifest, dict) or manifest.get("kind") != _KIND or "files" not in manifest:
        raise RunError(f"{manifest_path}: not the manifest of a run; expected kind {_KIND!r}")
    schema = manifest.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA_VERSION:
        raise RunError(
            f"{manifest_path}: schema {schema!r}; this version reads up to {SCHEMA_VERSION}. Upgrade litellm-erp"
        )
    return Run(path, manifest)


def _manifest(
    outcomes: OutcomesTable,
    source: Mapping[str, Any],
    options: Mapping[str, Any],
    split_seed: int | None,
    expected_output_tokens: int,
) -> dict[str, Any]:
    splits = {name: outcomes.splits.count(name) for name in sorted(set(outcomes.splits))}
    prompts = json.dumps([outcomes.prompt_ids, outcomes.prompts], ensure_ascii=True)
    return {
        "kind": _KIND,
        "schema": SCHEMA_VERSION,
        "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "tool": {"name": "litellm-erp", "version": __version__},
        "source": dict(source),
        "options": dict(options),
        "counts": {
            "prompts": len(outcomes.prompt_ids),
            "models": len(outcomes.models),
            "outcomes": int(np.count_nonzero(outcomes.n_samples_PM)),
            "splits": splits,
        },
        "models": list(outcomes.models),
        "split_seed": split_seed,
        "reward_model": outcomes.reward_model or None,
        "expected_output_tokens": expected_output_tokens,
        "prompts_sha256": hashlib.sha256(prompts.encode()).hexdigest(),
    }


def _source(source: str | Path | Sequence[Path]) -> dict[str, Any]:
    files = [Path(source)] if isinstance(source, (str, Path)) else list(source)
    hashes = [_sha256(file) for file in files]
    if len(files) == 1:
        return {"file": files[0].name, "sha256": hashes[0]}
    return {
        "file": f"{files[0].name} and {len(files) - 1:,} more",
        "sha256": hashlib.sha256("".join(hashes).encode()).hexdigest(),
        "files": {str(file): digest for file, digest in zip(files, hashes, strict=True)},
    }


def _fill(folder: Path, outcomes: OutcomesTable, prices: Mapping[str, Price], manifest: dict[str, Any]) -> None:
    write_outcomes(outcomes, folder / _OUTCOMES)
    _write_json(folder / _PRICES, {name: prices[name].to_json() for name in outcomes.models})
    manifest["files"] = {name: _sha256(folder / name) for name in (_OUTCOMES, _PRICES)}
    _write_json(folder / _MANIFEST, manifest)


def _same_prompts(path: Path, prompts_sha256: str) -> bool:
    return _is_run(path) and open_run(path).manifest.get("prompts_sha256") == prompts_sha256


def _keep_cache(old: Path, new: Path, prompts_sha256: str) -> None:
    if (old / _CACHE).is_dir() and _same_prompts(old, prompts_sha256):
        # Not moved: the old run stays whole until it is replaced.
        shutil.copytree(old / _CACHE, new / _CACHE, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # some network file systems have no hard links
        shutil.copyfile(source, target)


def _swap(building: Path, path: Path) -> None:
    previous = _previous(path)
    shutil.rmtree(previous, ignore_errors=True)
    if path.exists():
        path.rename(previous)
    try:
        building.rename(path)
    except OSError:
        _recover(path)
        raise
    sync_folder(path.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _previous(path: Path) -> Path:
    return path.with_name(f".{path.name}.previous")


def _recover(path: Path) -> None:
    """Undo a swap that a crash cut in half."""
    if not path.exists() and _previous(path).is_dir():
        _previous(path).rename(path)


def _move_next(path: Path) -> None:
    """Move in what `complete_run` wrote; its manifest was written last, and goes last."""
    if not (path / _NEXT / _MANIFEST).is_file():
        return
    for name in (_OUTCOMES, _PRICES, _MANIFEST):
        with suppress(FileNotFoundError):  # moved before a crash, or by another reader just now
            (path / _NEXT / name).replace(path / name)
        sync_folder(path)
    shutil.rmtree(path / _NEXT, ignore_errors=True)


def _is_run(path: Path) -> bool:
    try:
        open_run(path)
    except RunError:
        return False
    return True


def _write_json(path: Path, value: Any) -> None:
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        json.dump(value, handle, indent=2, ensure_ascii=False, allow_nan=False)
        handle.write("\n")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _load_array(path: Path, key: str) -> np.ndarray:
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as file:
        metadata = file.metadata() or {}
        array: np.ndarray = file.get_tensor("array")
    if metadata.get("key") != key or metadata.get("sha256") != _digest(array):
        raise ValueError("its checksum or key differs")
    return array


def _save_array(path: Path, key: str, array: np.ndarray) -> None:
    from safetensors.numpy import save_file

    with atomic_file(path) as temporary:
        save_file({"array": array}, str(temporary), metadata={"key": key, "sha256": _digest(array)})


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
