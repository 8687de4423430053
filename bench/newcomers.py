"""What a newcomer brings that was asked few prompts: test reward at λ = 0 with it less without it, in points.

Run ``python -m bench.newcomers [--seeds 4] [FOLDER ...]``, by default on every folder of ``examples/``. Each model in
turn joins the bundle of the others, fitted on a random half of the prompts, after it was asked prompts chosen and
fitted as ``erp-train add-model --prompts N`` does, from so many seeds of that choice.
Five minutes on two busy cores.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from bench.machine import heading
from demo.proxy_process import REPOSITORY
from erp_trainer.bundles.grown_pool import grow
from erp_trainer.bundles.training_data import table_of
from erp_trainer.learning.embed import embed_prompts
from erp_trainer.learning.features import labels_of
from erp_trainer.learning.selection import select
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.outcomes.read import read_outcomes
from erp_trainer.outcomes.table import assign_split
from erp_trainer.policies.erp import FittedERP, fit_erp, served_predictions
from litellm_erp.embedding.load import load_embedder

SIZES = (25, 50, 100, 500)
WORTH = 1.0


def main(quick: bool = False, folders: Sequence[Path] = (), seeds: int = 4) -> None:
    """Print one table.

    Parameters
    ----------
    quick : one seed
    """
    print(
        heading("A newcomer asked few prompts: points at λ = 0, mean (tenth percentile, worst) over models and seeds")
    )
    print(f"{'':<22}{'models':>7}" + "".join(f"{f'{n} prompts':>24}" for n in SIZES) + f"{'all':>8}")
    for folder in folders or sorted(path.parent for path in (REPOSITORY / "examples").glob("*/outcomes.parquet")):
        train, test = halves(folder)
        gains_MNS, whole_M = [], []
        for m in range(len(train.models)):
            pool = _pool_without(train, m)
            gains_MNS.append([[gain(pool, train, test, m, n, seed) for seed in range(1 if quick else seeds)]
                              for n in SIZES])  # fmt: skip
            whole_M.append(gain(pool, train, test, m, len(train), 0))
        found_MNS, whole = np.array(gains_MNS), np.array(whole_M)
        print(f"{folder.name[:21]:<22}{len(whole):>7}" + _cells(found_MNS) + f"{whole.mean():>+8.2f}", flush=True)
        worth = whole >= WORTH
        if worth.any():
            print(f"{f'  worth {WORTH:g} and more':<22}{worth.sum():>7}" + _cells(found_MNS[worth])
                  + f"{whole[worth].mean():>+8.2f}")  # fmt: skip


def halves(folder: Path) -> tuple[TrainingTable, TrainingTable]:
    """Train and test: seeded halves of each category, whatever split the file has."""
    path = folder / "outcomes.parquet"
    outcomes = read_outcomes(path, wide="reward" not in pq.read_schema(path).names)
    outcomes = assign_split(replace(outcomes, splits=("",) * len(outcomes.splits)))
    embedder = load_embedder("static")
    table = table_of(outcomes, embed_prompts(outcomes.prompts, embedder), {}, 256.0)
    train_P = np.array([split == "train" for split in outcomes.splits])
    return table.rows(train_P), table.rows(~train_P)


def _pool_without(train: TrainingTable, m: int) -> FittedERP:
    return fit_erp(train.columns([k for k in range(len(train.models)) if k != m]), preset="best")


def gain(pool: FittedERP, train: TrainingTable, test: TrainingTable, m: int, n: int, seed: int) -> float:
    """Mean test reward with model ``m`` less without it, in points, at λ = 0.

    Parameters
    ----------
    pool : of the others
    n : train prompts that it was asked
    """
    others = [k for k in range(len(train.models)) if k != m]
    rewards = train.rewards_PM.copy()
    if n < len(train):
        found = select(train.embeddings_PD, n, pool.stack.beta, seed=seed)
        rewards[np.setdiff1d(np.arange(len(train)), np.concatenate([found.chosen, found.audit])), m] = np.nan
    known, features = replace(train, rewards_PM=rewards), pool.features
    labels = () if features is None else labels_of(features, train.embeddings_PD, train.categories_P)
    grown, newcomers = grow(known, labels, pool.stack, features, [m])
    predicted, trust = served_predictions(pool, test.embeddings_PD)
    before, mean = pool.frontier["points"][0]["shrinkage"], np.insert(pool.mean_reward_M, m, newcomers[m].mean)
    memberships = np.empty((len(test), 0))
    if features is not None:
        memberships = features.memberships(features.scores(test.embeddings_PD))
    added = np.insert(predicted, m, newcomers[m].predict(test.embeddings_PD, memberships), axis=1)
    alone = test.columns(others)
    one = alone.choose(predicted, 0.0, mean_reward_M=pool.mean_reward_M, trust=before * trust[:, None])
    two = test.choose(added, 0.0, mean_reward_M=mean, trust=float(grown.trust_P.any()) * trust[:, None])
    return 100 * float(test.reward_of(two).mean() - alone.reward_of(one).mean())


def _cells(gains_MNS: np.ndarray) -> str:
    by_size = gains_MNS.swapaxes(0, 1).reshape(len(SIZES), -1)
    found = (f"{each.mean():+.2f} ({np.quantile(each, 0.1):+.2f}, {each.min():+.2f})" for each in by_size)
    return "".join(f"{cell:>24}" for cell in found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--seeds", type=int, default=4)
    arguments = parser.parse_args()
    main(folders=arguments.folders, seeds=arguments.seeds)
