"""From samples and rewards to the outcomes table (contract 1), in the run folder that holds them.

An outcome is the mean reward of a model's K responses to a prompt, an estimate of ER(x); their spread, their number
and their mean token counts stand beside it. A prompt that a model skipped has no outcome for that model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from erp_trainer.outcomes.table import MAX_KEPT_SAMPLES, OutcomesTable, assign_split, single_rewards
from erp_trainer.prompts.prompt_set import Prompt
from litellm_erp.errors import RunError

Key = tuple[str, str]
_PER_CELL = (
    "rewards_PM",
    "n_samples_PM",
    "reward_std_PM",
    "output_tokens_PM",
    "input_tokens_PM",
    "cost_usd_PM",
)  # fmt: skip


@dataclass(slots=True)
class ModelCounts:
    """What became of one pool model's prompts.

    Attributes
    ----------
    prompts : sampled and scored
    samples : behind them
    skipped : prompts without samples, by kind of reason; "not sampled" where there is no record yet
    unscored : prompts with samples and without a reward from every reward model
    truncated : samples cut at max_tokens
    empty : samples without any text
    input_tokens, output_tokens : of all samples, where recorded
    """

    prompts: int = 0
    samples: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    unscored: int = 0
    truncated: int = 0
    empty: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def count(self, sampled: _Sampled, rewards: np.ndarray | None) -> bool:
        """Count a prompt; True where it has an outcome."""
        if sampled.skipped is not None:
            self.skipped[sampled.skipped] += 1
            return False
        if rewards is None:
            self.unscored += 1
            return False
        self.prompts += 1
        self.samples += sampled.n
        self.truncated += sampled.truncated
        self.empty += sampled.empty
        self.input_tokens += round(np.nan_to_num(sampled.input_tokens) * sampled.n)
        self.output_tokens += round(np.nan_to_num(sampled.output_tokens) * sampled.n)
        return True

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "skipped": dict(sorted(self.skipped.items()))}


@dataclass(frozen=True, slots=True)
class _Sampled:
    """What a record says, without the texts: a run's responses do not fit into memory."""

    skipped: str | None
    n: int = 0
    truncated: int = 0
    empty: int = 0
    input_tokens: float = np.nan
    output_tokens: float = np.nan

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> _Sampled:
        samples = record.get("samples")
        if "skipped" in record or not samples:
            # Reasons begin with their kind and go on with numbers: "context: 9000 prompt tokens …".
            return cls(str(record.get("skipped", "no sample")).partition(":")[0])
        return cls(
            None,
            len(samples),
            sum(sample.get("finish_reason") == "length" for sample in samples),
            sum(not str(sample.get("text") or "").strip() for sample in samples),
            _mean([sample.get("input_tokens") for sample in samples]),
            _mean([sample.get("output_tokens") for sample in samples]),
        )


def outcomes_of(
    prompts: Sequence[Prompt],
    samples: Mapping[str, Iterable[Mapping[str, Any]]],
    rewards: Mapping[Key, np.ndarray],
    *,
    reward_model: str = "",
) -> tuple[OutcomesTable, dict[str, ModelCounts]]:
    """Average what was sampled and scored.

    Parameters
    ----------
    prompts : of the run; records of other prompts are ignored
    samples : records of the sampling stage, by pool model; the last one of a prompt counts
    rewards : by (prompt_id, pool model): one reward per sample, shape (K,)

    Returns
    -------
    the table, prompts in their order and models sorted; and what became of every model's prompts

    Raises
    ------
    RunError : a model has no outcome at all, or as many rewards as it has not samples
    """
    models = tuple(sorted(samples))
    rows = {prompt.prompt_id: p for p, prompt in enumerate(prompts)}
    arrays = {name: np.full((len(prompts), len(models)), np.nan) for name in _PER_CELL}
    arrays["n_samples_PM"] = np.zeros((len(prompts), len(models)), dtype=np.int64)
    counts = {}
    singles: dict[int, np.ndarray] = {}
    for m, model in enumerate(models):
        found = counts[model] = ModelCounts()
        last = {
            str(r["prompt_id"]): _Sampled.of(r)
            for r in samples[model]
            if r.get("prompt_id") in rows and prompts[rows[r["prompt_id"]]].is_asked_in(r)
        }
        for prompt_id, p in rows.items():
            sampled, scored = last.get(prompt_id), rewards.get((prompt_id, model))
            if sampled is not None and found.count(sampled, scored):
                for name, value in _cell(sampled, scored, f"model {model!r}, prompt {prompt_id!r}").items():
                    arrays[name][p, m] = value
                singles[p * len(models) + m] = np.asarray(scored)[:MAX_KEPT_SAMPLES]
        found.skipped.update({"not sampled": len(rows) - len(last)} if len(last) < len(rows) else {})
        if not found.prompts:
            reasons = ", ".join(f"{reason} ({n})" for reason, n in found.skipped.items()) or "no reward"
            raise RunError(f"model {model!r} has no outcome for any of {len(rows)} prompts: {reasons}")
    has_outcome = np.asarray((arrays["n_samples_PM"] > 0).any(axis=1))
    sizes = np.array([len(own) for own in singles.values()], dtype=np.int64)
    samples_PMK = single_rewards(
        np.repeat(np.array(list(singles), dtype=np.int64), sizes),
        np.concatenate([np.empty(0), *singles.values()]),
        (len(prompts), len(models)),
    )
    kept = [prompt for prompt, has in zip(prompts, has_outcome.tolist(), strict=True) if has]
    outcomes = OutcomesTable(
        prompt_ids=tuple(prompt.prompt_id for prompt in kept),
        prompts=tuple(prompt.cell for prompt in kept),
        models=models,
        categories=tuple(prompt.category for prompt in kept),
        tags=tuple(prompt.tags for prompt in kept),
        splits=tuple(prompt.split for prompt in kept),
        reward_model=reward_model,
        prompts_without_outcome=len(prompts) - len(kept),
        samples_PMK=None if samples_PMK is None else samples_PMK[has_outcome],
        **{name: array[has_outcome] for name, array in arrays.items()},
    )
    return assign_split(outcomes), counts


def _cell(sampled: _Sampled, rewards: np.ndarray | None, where: str) -> dict[str, float]:
    values = np.asarray(rewards, dtype=np.float64)
    if len(values) != sampled.n:
        raise RunError(
            f"{where}: {len(values)} rewards for {sampled.n} samples; the scores are of other samples. Score again"
        )
    return {
        "rewards_PM": float(values.mean()),
        "n_samples_PM": sampled.n,
        "reward_std_PM": float(values.std(ddof=1)) if sampled.n > 1 else np.nan,
        "output_tokens_PM": sampled.output_tokens,
        "input_tokens_PM": sampled.input_tokens,
    }


def _mean(values: Sequence[float | None]) -> float:
    recorded = [value for value in values if value is not None]
    return float(np.mean(recorded)) if recorded else np.nan
