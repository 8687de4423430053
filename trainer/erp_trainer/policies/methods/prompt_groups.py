"""PURE. Groups of prompts: tags, else categories, else clusters of embeddings, and what the models earn in each."""

from __future__ import annotations

import numpy as np

from erp_trainer.learning.training_table import TrainingTable

_PROMPTS_PER_CLUSTER = 100
_MAX_CLUSTERS = 32
_CLUSTERING_ROWS = 20_000


def tag_means(table: TrainingTable, seed: int) -> np.ndarray:
    """Mean over each prompt's tags of the models' mean rewards on prompts with that tag.

    Prompts without a tag get the models' overall means; a model that a tag has no outcome of gets its overall mean.

    Returns
    -------
    shape (P, M), in reward units

    Source: Lu et al. (2023), arXiv 2311.08692, tag-based label enhancement.
    """
    if table.tags_P is not None and any(table.tags_P):
        names = {name: index for index, name in enumerate(sorted({tag for tags in table.tags_P for tag in tags}))}
        prompts = np.repeat(np.arange(len(table)), [len(tags) for tags in table.tags_P])
        codes = np.array([names[tag] for tags in table.tags_P for tag in tags], dtype=np.int64)
    else:
        prompts, codes = np.arange(len(table)), tasks(table, seed)[1]
    means_TM = group_means(table.rewards_PM[prompts], codes, table.mean_reward_M)
    counts = np.bincount(prompts, minlength=len(table))
    sums_PM = np.zeros(table.rewards_PM.shape)
    np.add.at(sums_PM, prompts, means_TM[codes])
    return np.where(counts > 0, sums_PM.T / np.maximum(counts, 1), table.mean_reward_M[:, None]).T


def group_means(values_NM: np.ndarray, codes_N: np.ndarray, fallback_M: np.ndarray) -> np.ndarray:
    """Mean of each column within each group, shape (T, M), NaN cells left out; the fallback where a group has none."""
    sums, counts = np.zeros((2, int(codes_N.max(initial=-1)) + 1, values_NM.shape[1]))
    np.add.at(sums, codes_N, np.nan_to_num(values_NM))
    np.add.at(counts, codes_N, ~np.isnan(values_NM))
    return np.where(counts > 0, sums / np.maximum(counts, 1), fallback_M)


def tasks(table: TrainingTable, seed: int) -> tuple[list[str], np.ndarray]:
    """Names of the tasks and each prompt's, shape (P,), int: its category, or a cluster where there are under two."""
    names, codes = np.unique(table.categories_P, return_inverse=True)
    if len(names) >= 2:
        return [str(name) for name in names], codes
    codes = cluster(table.embeddings_PD, seed)
    return [f"cluster {index}" for index in range(int(codes.max()) + 1)], codes


def cluster(embeddings_PD: np.ndarray, seed: int) -> np.ndarray:
    """k-means clusters of embeddings, shape (P,), int, numbered from 0 without gaps.

    There is one for each hundred prompts, at least 2 and at most 32; large tables are clustered on part of their rows.
    """
    from sklearn.cluster import KMeans  # takes most of a second to import

    count = int(np.clip(len(embeddings_PD) // _PROMPTS_PER_CLUSTER, 2, _MAX_CLUSTERS))
    sample = np.random.default_rng(seed).permutation(len(embeddings_PD))[:_CLUSTERING_ROWS]
    found = KMeans(min(count, len(sample)), n_init=1, random_state=seed).fit(embeddings_PD[sample])
    return np.unique(found.predict(embeddings_PD), return_inverse=True)[1]
