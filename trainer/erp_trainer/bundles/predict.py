"""Offline predictions of a bundle, by the code that serves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from erp_trainer.files.arrow import check_suffix, read_table
from erp_trainer.files.atomic import atomic_file
from erp_trainer.learning.embed import embed_prompts
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.ranking import predict_pool, rank_pool
from litellm_erp.embedding import Embedder, embedder_from_spec
from litellm_erp.errors import PromptError


def bundle_embedder(bundle: Bundle, *, url: str | None = None, trust_remote_code: bool = False) -> Embedder:
    """The embedder a bundle was fitted on.

    Parameters
    ----------
    url : where an endpoint embedder is now, if it has moved
    """
    return embedder_from_spec(
        bundle.manifest.embedder,
        url=url,
        directory=bundle.embedder_directory(),
        trust_remote_code=trust_remote_code,
    )


def predict_rows(
    bundle: Bundle,
    embedder: Embedder,
    prompt_ids: list[str],
    prompts: list[str],
    lambda_: float,
    *,
    safety: bool = True,
    advance: Callable[[int], None] = lambda steps: None,
) -> dict[str, list[Any]]:
    """Columns of the prediction table, one row per (prompt, model), prompts in order, models best first.

    ``expected_reward`` is what the ranking used (after safety); ``std_error`` is that of the prediction against an
    observed mean reward; a cost that is unknown is None.
    """
    embedded = embed_prompts(tuple(prompts), embedder, advance)
    predictions = predict_pool(bundle, embedded.embeddings_PD, embedded.input_tokens_P[:, None], prices=bundle.prices())
    ranking = rank_pool(bundle, predictions, lambda_, safety=safety)
    error = bundle.uncertainty.std_error(predictions.leverage)

    def column(values_PM: np.ndarray) -> list[Any]:
        taken = np.take_along_axis(np.broadcast_to(values_PM, ranking.order.shape), ranking.order, axis=1).ravel()
        return [None if np.isnan(value) else float(value) for value in taken]

    n_models = len(bundle.models)
    return {
        "prompt_id": [prompt_id for prompt_id in prompt_ids for _ in range(n_models)],
        "model": [bundle.models[m] for m in ranking.order.ravel()],
        "expected_reward": column(ranking.expected_reward),
        "std_error": column(error),
        "expected_cost_usd": column(predictions.cost),
        "utility": column(ranking.utility),
        "rank": [place for _ in prompt_ids for place in range(1, n_models + 1)],
        "reason": ["safe-default" if leaned else "routed" for leaned in ranking.leaned for _ in range(n_models)],
    }


def read_prompts(path: Path) -> tuple[list[str], list[str]]:
    """Distinct prompts of a file with columns prompt_id and prompt; other columns are ignored.

    Raises
    ------
    OutcomesError : the file cannot be read
    PromptError : a column is missing, a cell is empty, or an id has two different texts
    """
    columns = ("prompt_id", "prompt")
    table = read_table(path, wanted=lambda name: name in columns, text=columns)
    for name in columns:
        if name not in table.columns:
            raise PromptError(f"{path}: no column {name!r}; found {', '.join(table.names)}")
    found: dict[str, str] = {}
    cells = zip(*(table.columns[name].to_pylist() for name in columns), strict=True)
    for row, (prompt_id, prompt) in enumerate(cells, start=1):
        if not prompt_id or not prompt:
            raise PromptError(f"{path}: row {row} has no {'prompt_id' if not prompt_id else 'prompt'}")
        if found.setdefault(prompt_id, prompt) != prompt:
            raise PromptError(f"{path}: row {row}: prompt_id {prompt_id!r} has another text than before")
    return list(found), list(found.values())


def write_rows(rows: Mapping[str, list[Any]], path: Path) -> None:
    """Write columns as Parquet, CSV or JSONL, by suffix, whole or not at all."""
    check_suffix(path)
    table = pa.table(dict(rows))
    with atomic_file(path) as temporary:
        if path.suffix.lower() == ".parquet":
            pq.write_table(table, temporary)
        elif path.suffix.lower() == ".csv":
            pa_csv.write_csv(table, temporary)
        else:
            lines = (json.dumps(row, ensure_ascii=False) for row in table.to_pylist())
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
