"""Public data sets of routing: RouterBench, with one column per model, and EmbedLLM, with one row per answer.

Followed: RouterBench as ``convertors/common.py`` of withmartian/routerbench (commit 30e0925) makes it: ``sample_id``,
``prompt`` (a Python list of turns, as text), ``eval_name``, and for each model ``MODEL``, ``MODEL|total_cost`` (USD)
and ``MODEL|model_response``. It is published as a pickle, which is refused. EmbedLLM as ``algorithm/knn.py`` of
richardzhuang0412/EmbedLLM (1152eb6) reads it: ``prompt_id``, ``prompt``, ``model_id``, ``label``; where an answer was
judged more than once, the best label counts, there and here.
"""

from __future__ import annotations

import ast
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from erp_trainer.outcomes.formats.base import Format, Reading, Row
from erp_trainer.outcomes.formats.records import apart, columns, outcomes, reader, records
from erp_trainer.outcomes.formats.values import BadRecord, NoOutcome, cost, member, number, prompt_of, reward

_COST = "|total_cost"
_RESPONSE = "|model_response"
_EMBEDLLM_COLUMNS = ("prompt_id", "prompt", "model_id", "model_name", "label", "category", "split")


def wide(record: Mapping[str, Any], _: Reading) -> Iterator[Row]:
    """An outcome for each model of a row of RouterBench; an empty cell is none."""
    models = sorted(name.removesuffix(_COST) for name in record if name.endswith(_COST))
    models = [name for name in models if name in record]
    if not models:
        raise BadRecord(f"no model; expected columns such as gpt-4 and gpt-4{_COST}")
    shared = {
        "prompt_id": str(member(record, "sample_id")),
        "prompt": _turns(member(record, "prompt")),
        "category": record.get("eval_name"),
    }
    for model in models:
        if record[model] is not None and record[model] != "" and record[model] == record[model]:
            yield {
                **shared,
                "model": model,
                "reward": reward(record[model], model),
                "cost_usd": cost(record[model + _COST]),
            }


def read_routerbench(paths: Sequence[Path], reading: Reading) -> Iterator[Row]:
    """An outcome for each row and model; the data set is keyed by its ids and its prompts together.

    Raises
    ------
    OutcomesError : a file cannot be read, or a row is malformed
    """
    return apart(_read_wide(paths, reading))


def read_embedllm(paths: Sequence[Path], reading: Reading) -> Iterator[Row]:
    """One outcome for each prompt and model; millions of labels are held as numbers, each prompt once.

    Raises
    ------
    OutcomesError : a file cannot be read, or a row is malformed
    """
    prompts: dict[str, tuple[int, Row]] = {}
    models: dict[str, int] = {}
    cells, labels = array("q"), array("d")
    for path in paths:
        for row in outcomes(path, records(path, reading, _EMBEDLLM_COLUMNS.__contains__), reading, _judged):
            place = prompts.setdefault(row["prompt_id"], (len(prompts), row))[0]
            cells.append(place << 32 | models.setdefault(row["model"], len(models)))
            labels.append(row["reward"])
    order = np.lexsort((-np.array(labels), np.array(cells)))
    shared, names = [row for _, row in prompts.values()], list(models)
    last = -1
    for index in order.tolist():
        if (cell := cells[index]) != last:
            yield {**shared[cell >> 32], "model": names[cell & 0xFFFFFFFF], "reward": labels[index]}
        last = cell


_read_wide = reader(wide, lambda name: not name.endswith(_RESPONSE))


def _judged(record: Mapping[str, Any], _: Reading) -> Iterator[Row]:
    if record.get("label") in (None, ""):
        raise NoOutcome("answers without a label")
    model = record.get("model_name") or member(record, "model_id")
    yield {
        "prompt_id": _identifier(member(record, "prompt_id")),
        "prompt": prompt_of(record.get("prompt")),
        "model": _identifier(model),
        "reward": reward(record["label"], "label"),
        "category": record.get("category"),
        "split": record.get("split"),
    }


def _identifier(value: Any) -> str:
    """An id that a tool took for a number on its way, as it was."""
    found = number(value) if isinstance(value, float) else None
    return str(int(found)) if found is not None and found.is_integer() else str(value)


def _turns(prompt: Any) -> str:
    """The turns of a prompt, which stands there as the text of a Python list."""
    if isinstance(prompt, str) and prompt.lstrip().startswith("["):
        try:
            found = ast.literal_eval(prompt.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return prompt_of(prompt)
        if isinstance(found, list) and found and all(isinstance(turn, str) for turn in found):
            return prompt_of(found)
    return prompt_of(prompt)


def _is_routerbench(path: Path, head: bytes) -> bool:
    if path.suffix.lower() in (".pkl", ".pickle"):
        return path.name.lower().startswith("routerbench")
    names = columns(path, head)
    return "sample_id" in names and any(name.endswith(_COST) for name in names)


def _is_embedllm(path: Path, head: bytes) -> bool:
    names = columns(path, head)
    return {"prompt_id", "prompt", "model_id", "label"} <= names and not {"model", "reward"} & names


ROUTERBENCH = Format(
    "routerbench",
    "RouterBench as .parquet, .csv or .jsonl, with its costs",
    _is_routerbench,
    read_routerbench,
)
EMBEDLLM = Format("embedllm", "EmbedLLM's train.csv, val.csv and test.csv", _is_embedllm, read_embedllm)
