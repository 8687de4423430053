"""How often what a policy chose earned as much as the best model of that prompt."""

from __future__ import annotations

import numpy as np

from erp_trainer.evaluation.evaluation import Evaluation
from erp_trainer.evaluation.tables.base import MeasuredTable, TableEntry


def best_chosen(ev: Evaluation) -> list[TableEntry]:
    """Of the bundle and its rivals at the λ asked, each on the prompts that it has an outcome of."""
    best_P = np.nanmax(ev.test.rewards_PM, axis=1)
    kept = [contender for contender in ev.contenders if contender.kind in ("bundle", "rival")]
    earned_PC = np.stack([contender.outcome(ev.test, ev.lambdas[0]).reward_P for contender in kept], axis=1)
    hits_PC = np.where(np.isnan(earned_PC), np.nan, earned_PC >= best_P[:, None])
    intervals = ev.resamples.means(hits_PC).intervals()
    return [{"policy": c.label, "best chosen": found.to_json()} for c, found in zip(kept, intervals, strict=True)]


BEST_CHOSEN = MeasuredTable(
    "best_chosen",
    "How often the best model was chosen",
    "Share of prompts on which what was chosen earned as much as any model did, ties included. Recorded rewards are "
    "noisy, so nobody reaches 1; at a λ above 0 a cheaper model may be the better choice.",
    best_chosen,
)
