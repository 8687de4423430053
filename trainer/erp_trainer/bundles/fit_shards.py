"""A fit from sums over shards of a run, so that a run need not fit into one memory.

Every shard is embedded where it is worked on, and leaves two things: the moments of its training rows, which add up
to the moments of the run, whole and by category, and a sample of its prompts. What is chosen (penalties, shrinkage, the
frontier, standard errors) is chosen on the sample by the same code as any fit; the probes and their statistics are of
all rows. A run of at most ``SAMPLE`` training prompts is its own sample, and its bundle is that of ``fit_bundle``.

Source: ours. β is in the sum form, so what suits a sample suits more rows of the same kind; a choice out of fold among
a few dozen candidates gains little from more than tens of thousands of prompts.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from erp_trainer.bundles.fit import FitSpec, FittedPool, check_training_rows, fit_pool, save_fitted
from erp_trainer.bundles.records import prompt_digest
from erp_trainer.learning.embed import embed_prompts
from erp_trainer.learning.moments import Moments, RidgeSolver
from erp_trainer.learning.ridge import blocks
from erp_trainer.learning.stack import Stack
from erp_trainer.learning.training_table import EmbeddedPrompts
from erp_trainer.outcomes.read import read_outcomes
from erp_trainer.outcomes.run import Run
from erp_trainer.outcomes.table import OutcomesTable
from erp_trainer.pool.pool import RaySettings
from erp_trainer.pool.ray import Workers
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.probe import Probes
from litellm_erp.embedding import Embedder

SAMPLE = 50_000
_ARRAYS = tuple(f.name for f in fields(OutcomesTable) if f.name.endswith(("_PM", "_PMK")))


@dataclass(frozen=True, slots=True)
class Group:
    """Sums of models with outcomes for the same prompts.

    Attributes
    ----------
    columns : shape (m,), int; indices of the models
    """

    columns: np.ndarray
    moments: Moments

    def only(self, columns: np.ndarray) -> Group:
        """The sums of some of the models, by their indices."""
        places = np.searchsorted(self.columns, columns)
        return Group(columns, self.moments.columns(places))

    def __add__(self, other: Group) -> Group:
        return Group(self.columns, self.moments + other.moments)


@dataclass(frozen=True, slots=True)
class ShardSums:
    """What a shard leaves behind.

    Attributes
    ----------
    groups : of the shard's training rows
    digests : one per training prompt, in order; the run's fingerprint is their hash
    n_prompts, n_test : prompts of the shard, and how many are of the test split
    outcomes, embedded : the sampled prompts
    """

    groups: tuple[Group, ...]
    digests: bytes
    n_prompts: int
    n_test: int
    outcomes: OutcomesTable
    embedded: EmbeddedPrompts


Map = Callable[[Callable[[], Callable[[Any], ShardSums]], Iterable[Any]], Iterator[ShardSums]]


def in_this_process(make: Callable[[], Callable[[Any], ShardSums]], shards: Iterable[Any]) -> Iterator[ShardSums]:
    """Work through the shards one after the other."""
    return map(make(), shards)


def on_ray(settings: RaySettings) -> Map:
    """Work through the shards on a cluster: an embedder in every actor; a few shards are on their way."""

    def spread(make: Callable[[], Callable[[Any], ShardSums]], shards: Iterable[Any]) -> Iterator[ShardSums]:
        workers = Workers(settings, make)
        try:
            yield from workers.map(shards)
        finally:
            workers.close()

    return spread


def fit_from_shards(
    run: Run,
    load: Callable[[], Embedder],
    out: Path,
    spec: FitSpec,
    *,
    spread: Map = in_this_process,
    shards: Callable[[Path], Iterator[Any]] | None = None,
    sample: int = SAMPLE,
    advance: Callable[[int], None] = lambda steps: None,
) -> Bundle:
    """Fit an ERP bundle shard by shard.

    Parameters
    ----------
    load : makes the embedder, here and wherever shards are worked on
    spread : maps over shards, in order; `on_ray`, for example
    shards : cuts the file of outcomes into tables of whole prompts; by default into its row groups
    sample : training prompts to choose on, about
    advance : called with the number of prompts just embedded

    Raises
    ------
    FitError : too little data
    """
    models = tuple(run.manifest["models"])
    n_train = int(run.manifest["counts"]["splits"].get("train", 0))
    check_training_rows(run, n_train)
    make = partial(_worker, load, models, min(1.0, sample / n_train))
    total = _Total(len(models))
    outcomes, vectors, tokens = [], [], []
    for found in spread(make, (shards or row_groups)(run.outcomes_file())):
        total.add(found)
        outcomes.append(found.outcomes)
        vectors.append(found.embedded.embeddings_PD)
        tokens.append(found.embedded.input_tokens_P)
        advance(found.n_prompts)
    embedded = EmbeddedPrompts(np.concatenate(vectors), np.concatenate(tokens))
    embedder = load()
    try:
        fitted = total.in_place_of_sample(fit_pool(run, joined(outcomes), embedded, spec))
        return save_fitted(run, embedder, fitted, spec, out)
    finally:
        embedder.close()


def row_groups(path: Path) -> Iterator[Any]:
    """The row groups of a run's outcomes; each holds whole prompts, see `outcomes.write`."""
    with pq.ParquetFile(path) as file:
        yield from (file.read_row_group(i) for i in range(file.num_row_groups))


class _Total:
    """Sums of everything so far, by the models that had outcomes for the same prompts so far."""

    def __init__(self, n_models: int) -> None:
        self.groups: list[Group] = []
        self._n_models = n_models
        self._fingerprint = hashlib.sha256()
        self._train = self._test = 0

    def add(self, shard: ShardSums) -> None:
        self._fingerprint.update(shard.digests)
        self._train += len(shard.digests) // hashlib.sha256().digest_size
        self._test += shard.n_test
        before, new = self.groups, shard.groups
        self.groups = [
            one.only(common) + other.only(common)
            for one in before
            for other in new
            for common in [np.intersect1d(one.columns, other.columns)]
            if common.size
        ] if before else list(new)  # fmt: skip

    def in_place_of_sample(self, fitted: FittedPool) -> FittedPool:
        """The same choices, with the probes, means and counts of all rows."""
        rows_M, mean_M = fitted.rows_M.copy(), fitted.erp.mean_reward_M.copy()
        for group in self.groups:
            rows_M[group.columns] = int(group.moments.weight)
            mean_M[group.columns] = group.moments.sum_y_M / group.moments.weight
        blocks = tuple((group.columns, group.moments) for group in self.groups)
        probes = self._probes(fitted.erp.stack, mean_M)
        erp = replace(fitted.erp, probes=probes, blocks=blocks, mean_reward_M=mean_M)
        counts = {"train": self._train, "test": self._test, "refitted": False, "fitted": self._train}
        prompts = {"fingerprint": self._fingerprint.hexdigest(), **counts}
        return replace(fitted, erp=erp, rows_M=rows_M, prompts=prompts)

    def _probes(self, stack: Stack, mean_M: np.ndarray) -> Probes:
        weights_DM = np.empty((len(self.groups[0].moments.sum_D), self._n_models))
        intercept_M = np.empty(self._n_models)
        for group in self.groups:
            weights_DM[:, group.columns], intercept_M[group.columns] = RidgeSolver(group.moments).solve(stack.beta)
        return stack.probes(weights_DM, intercept_M, mean_M)


def _worker(load: Callable[[], Embedder], models: tuple[str, ...], share: float) -> Callable[[pa.Table], ShardSums]:
    embedder = load()
    return lambda table: sums_of(outcomes_of_shard(table, models), embedder, share)


def sums_of(outcomes: OutcomesTable, embedder: Embedder, share: float) -> ShardSums:
    """Embed a shard and sum it up.

    Parameters
    ----------
    share : of the training prompts that are sampled, by a hash of their ids
    """
    train = np.array([split == "train" for split in outcomes.splits])
    embedded = embed_prompts(outcomes.prompts, embedder)
    groups = []
    for block in blocks(outcomes.rewards_PM[train]):
        rows = np.flatnonzero(train)[block.rows_P]
        vectors, targets = embedded.embeddings_PD[rows], outcomes.rewards_PM[np.ix_(rows, block.columns)]
        groups.append(Group(block.columns, Moments.of(vectors, targets)))
    picked = train & np.array([_fraction(prompt_id) < share for prompt_id in outcomes.prompt_ids])
    return ShardSums(
        tuple(groups),
        b"".join(prompt_digest(outcomes.prompt_ids[row], outcomes.prompts[row]) for row in np.flatnonzero(train)),
        len(outcomes.prompt_ids),
        sum(split == "test" for split in outcomes.splits),
        outcomes.subset(picked),
        EmbeddedPrompts(embedded.embeddings_PD[picked], embedded.input_tokens_P[picked]),
    )


def outcomes_of_shard(table: pa.Table, models: tuple[str, ...]) -> OutcomesTable:
    """Outcomes of one row group, with a column for every model of the run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard.parquet"
        pq.write_table(table, path)
        found = read_outcomes(path)
    columns = np.searchsorted(models, found.models)

    def widened(array: np.ndarray | None) -> np.ndarray | None:
        if array is None:
            return None
        filler: Any = 0 if array.dtype.kind == "i" else np.nan
        wide = np.full((array.shape[0], len(models), *array.shape[2:]), filler, dtype=array.dtype)
        wide[:, columns] = array
        return wide

    arrays: dict[str, Any] = {name: widened(getattr(found, name)) for name in _ARRAYS}
    return replace(found, models=models, **arrays)


def joined(parts: list[OutcomesTable]) -> OutcomesTable:
    """Outcomes of different prompts and the same models as one table."""
    first = parts[0]
    changed: dict[str, Any] = {
        name: tuple(value for part in parts for value in getattr(part, name))
        for name in ("prompt_ids", "prompts", "categories", "tags", "splits")
    }
    for name in _ARRAYS:
        arrays = [getattr(part, name) for part in parts]
        # The single rewards behind means serve rivals of ERP only, and shards differ in how many they have.
        lacking = name == "samples_PMK" or any(array is None for array in arrays)
        changed[name] = None if lacking else np.concatenate(arrays)
    return replace(first, **changed)


def _fraction(prompt_id: str) -> float:
    digest = hashlib.sha256(prompt_id.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
