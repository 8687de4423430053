"""PURE. The outcomes table in memory (contract 1): which reward each pool model earned on each prompt.

One array per quantity, with an axis for prompts and one for models. Invariants:

* Prompts stand in the order in which the file first names them; models are sorted by name, so that the order of
  rows or columns in a file never changes a result.
* ``rewards_PM`` is NaN exactly where ``n_samples_PM`` is 0. Every prompt and every model has an outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from erp_trainer.prompts.duplicates import TEST_SHARE, split_by_share

# The columns of the table in a file, which is long: one row per (prompt, model[, reward model][, sample]).
TEXT_COLUMNS = ("prompt_id", "prompt", "model", "category", "split", "tags", "reward_model")
NUMBER_COLUMNS = ("n_samples", "reward_std", "input_tokens", "output_tokens", "cost_usd")
# What some policies judge an answer by after the call; arrays only where a file has them.
JUDGED_COLUMNS = ("log_likelihood", "self_check")
CONTRACT_COLUMNS = (*TEXT_COLUMNS, "reward", "sample", "sample_rewards", *NUMBER_COLUMNS, *JUDGED_COLUMNS)

# Enough for half-sample oracles and win rates, and a bound on memory.
MAX_KEPT_SAMPLES = 32
_PER_PROMPT = ("prompt_ids", "prompts", "categories", "tags", "splits")


@dataclass(frozen=True, eq=False)
class OutcomesTable:
    """Outcomes of P prompts at M pool models.

    Attributes
    ----------
    prompt_ids, prompts : P each; a prompt is plain text, or a JSON list of chat messages as a string
    models : M, sorted
    rewards_PM : float64, in reward-model units, mean over samples; NaN where there is no outcome
    n_samples_PM : int64, samples behind each mean; 0 where there is no outcome
    reward_std_PM : float64, spread of single samples (ddof = 1); NaN where not recorded
    output_tokens_PM, input_tokens_PM, cost_usd_PM : float64, per request (USD); NaN where not recorded
    categories : P, "" where there is none
    tags : P, empty where there are none
    splits : P, "train", "test", another value as the file had it, or "" where there is none
    log_likelihood_PM, self_check_PM : float64, of the recorded responses: mean token log-likelihood, and how far the
        model's own check accepts it, in [0, 1]; NaN where not recorded, None where the file has no such column
    reward_model : "" where the file names none
    prompts_without_outcome : prompts that a wide file listed with only empty cells, and that were left out
    samples_PMK : float32, shape (P, M, K), the single rewards behind the means in sample order, NaN where there are
        fewer; None where no mean is of two on record. At most ``MAX_KEPT_SAMPLES`` of each
    """

    prompt_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    models: tuple[str, ...]
    rewards_PM: np.ndarray
    n_samples_PM: np.ndarray
    reward_std_PM: np.ndarray
    output_tokens_PM: np.ndarray
    input_tokens_PM: np.ndarray
    cost_usd_PM: np.ndarray
    categories: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]
    splits: tuple[str, ...]
    reward_model: str = ""
    prompts_without_outcome: int = 0
    log_likelihood_PM: np.ndarray | None = None
    self_check_PM: np.ndarray | None = None
    samples_PMK: np.ndarray | None = None

    def subset(self, mask_P: np.ndarray) -> OutcomesTable:
        """The prompts at which ``mask_P`` (shape (P,), bool) is true; all models are kept."""
        mask_P = np.asarray(mask_P, dtype=bool)
        if mask_P.shape != (len(self.prompt_ids),):
            raise ValueError(f"mask of shape {mask_P.shape} for {len(self.prompt_ids)} prompts")
        rows = np.flatnonzero(mask_P).tolist()
        kept: dict[str, Any] = {name: tuple(getattr(self, name)[row] for row in rows) for name in _PER_PROMPT}
        return replace(self, **kept, **{name: array[mask_P] for name, array in self._arrays().items()})

    def split(self, name: str) -> OutcomesTable:
        """The prompts of one split."""
        return self.subset(np.array([split == name for split in self.splits], dtype=bool))

    def of_models(self, models: Sequence[str]) -> OutcomesTable:
        """Some of its models, sorted; every prompt is kept, also where none of them has an outcome."""
        kept = tuple(sorted(models))
        columns = [self.models.index(model) for model in kept]
        arrays: dict[str, Any] = {name: array[:, columns] for name, array in self._arrays().items()}
        return replace(self, models=kept, **arrays)

    def with_model(self, newcomer: OutcomesTable) -> OutcomesTable:
        """Another model's outcomes on this table's prompts; the newcomer's other prompts are left out.

        An outcome the table already has of that model is replaced.
        """
        [name] = newcomer.models
        models = tuple(sorted({*self.models, name}))
        row_of = {prompt_id: p for p, prompt_id in enumerate(newcomer.prompt_ids)}
        source_P = np.array([row_of.get(prompt_id, -1) for prompt_id in self.prompt_ids], dtype=np.int64)
        asked_P = source_P >= 0
        mine, theirs = self._arrays(), newcomer._arrays()
        if most := max((each["samples_PMK"].shape[2] for each in (mine, theirs) if "samples_PMK" in each), default=0):
            for each, n_models in ((mine, len(self.models)), (theirs, 1)):
                none = np.empty((len(each["rewards_PM"]), n_models, 0), dtype=np.float32)
                each["samples_PMK"] = _padded(each.get("samples_PMK", none), most)
        changed: dict[str, Any] = {"models": models}
        for field, array in mine.items():
            missing = 0 if field == "n_samples_PM" else np.nan
            merged = np.full((array.shape[0], len(models), *array.shape[2:]), missing, dtype=array.dtype)
            merged[:, [models.index(model) for model in self.models]] = array
            merged[:, models.index(name)] = missing
            if field in theirs:
                merged[asked_P, models.index(name)] = theirs[field][source_P[asked_P], 0]
            changed[field] = merged
        return replace(self, **changed)

    def duplicate_groups(self) -> np.ndarray:
        """Number prompts so that the same text has the same number.

        Returns
        -------
        shape (P,), int64, from 0 in first-seen order; texts that differ only in case or white space are the same

        Source: ours; facts on public routing data show 2 % of prompts repeated across splits, mostly verbatim.
        """
        numbers: dict[str, int] = {}
        normalised = (" ".join(prompt.split()).casefold() for prompt in self.prompts)
        return np.array([numbers.setdefault(text, len(numbers)) for text in normalised], dtype=np.int64)

    def _arrays(self) -> dict[str, np.ndarray]:
        """Every recorded array, by field; all have prompts and models as their first two axes."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self) if "_PM" in field.name}
        return {name: array for name, array in arrays.items() if array is not None}


def single_rewards(cell_S: np.ndarray, reward_S: np.ndarray, shape: tuple[int, int]) -> np.ndarray | None:
    """The single rewards behind the means, shape (P, M, K), float32, NaN where a cell has fewer than K.

    Parameters
    ----------
    cell_S : shape (S,), int; the cell p · M + m of each reward; those of a cell stand in sample order

    Returns
    -------
    None where no cell has two
    """
    if not cell_S.size:
        return None
    order = np.argsort(cell_S, kind="stable")
    cell_S, reward_S = cell_S[order], reward_S[order]
    _, first, size = np.unique(cell_S, return_index=True, return_counts=True)
    if size.max() < 2:
        return None
    place_S = np.arange(cell_S.size) - np.repeat(first, size)
    kept = place_S < MAX_KEPT_SAMPLES
    samples = np.full((shape[0] * shape[1], min(int(size.max()), MAX_KEPT_SAMPLES)), np.nan, dtype=np.float32)
    samples[cell_S[kept], place_S[kept]] = reward_S[kept]
    return samples.reshape(*shape, -1)


def assign_split(outcomes: OutcomesTable, seed: int = 0, test_share: float = TEST_SHARE) -> OutcomesTable:
    """Give every prompt the split "train" or "test" where none has a split yet.

    Parameters
    ----------
    seed : the same seed and prompts give the same split, whatever the order of the prompts
    test_share : of the prompts that go to test, in (0, 1)

    Returns
    -------
    unchanged if any prompt already has a split. Categories are split one by one, and prompts with the same text
    (`OutcomesTable.duplicate_groups`) stay on one side

    Source: arXiv 2603.20217 evaluates on a random half; strata and duplicate groups are ours, against leakage.
    """
    if any(outcomes.splits):
        return outcomes
    order = np.array(sorted(range(len(outcomes.prompt_ids)), key=outcomes.prompt_ids.__getitem__), dtype=np.intp)
    categories = [outcomes.categories[p] for p in order]
    splits = np.empty(len(order), dtype=object)
    splits[order] = split_by_share(outcomes.duplicate_groups()[order], categories, seed, test_share)
    return replace(outcomes, splits=tuple(splits))


def _padded(samples_PMK: np.ndarray, size: int) -> np.ndarray:
    missing = size - samples_PMK.shape[2]
    return np.pad(samples_PMK, ((0, 0), (0, 0), (0, missing)), constant_values=np.nan)
