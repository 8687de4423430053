"""A .jsonl, .csv or .parquet file with a column of prompts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from erp_trainer.files.arrow import read_table
from erp_trainer.prompts.source import Row, SourceSpec
from litellm_erp.errors import PromptError


def rows(spec: SourceSpec) -> Iterator[Row]:
    """Its rows, by the names that the section gives the columns."""
    names = {
        "prompt_id": "prompt_id",
        "prompt": spec.column,
        "category": spec.category_column,
        "reference": spec.reference_column,
        "split": "split",
        "tags": "tags",
    }
    path = Path(spec.location)
    # References are often numbers; as text they would be refused.
    text = [column for name, column in names.items() if name != "reference"]
    table = read_table(path, wanted=lambda name: name in names.values(), text=text)
    if spec.column not in table.columns:
        raise PromptError(f"{path}: no column {spec.column!r}; found {', '.join(table.names)}. Name it with column")
    cells = {name: table.columns[column].to_pylist() for name, column in names.items() if column in table.columns}
    for row in range(table.n_rows):
        yield {name: column[row] for name, column in cells.items()}
