"""A data set of the Hugging Face hub, or a local copy of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from erp_trainer.prompts.source import Row, SourceSpec
from litellm_erp.errors import PromptError
from litellm_erp.shown import one_line


def rows(spec: SourceSpec) -> Iterator[Row]:
    """Its rows, by the names that the section gives the columns."""
    table = load_dataset(spec)
    require_in_dataset(table, (spec.column,), spec)
    names = {"prompt": spec.column, "category": spec.category_column, "reference": spec.reference_column}
    present = {name: column for name, column in names.items() if column in table.column_names}
    for row in table.select_columns(list(present.values())):
        yield {name: row[column] for name, column in present.items()}


def load_dataset(spec: SourceSpec) -> Any:
    """A `datasets.Dataset`: saved with ``save_to_disk``, a folder of files, or from the hub.

    Raises
    ------
    PromptError : it cannot be loaded
    """
    import datasets

    folder = Path(spec.location)
    try:
        if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(str(folder))
            return loaded[spec.split] if isinstance(loaded, datasets.DatasetDict) else loaded
        return datasets.load_dataset(spec.location, split=spec.split, revision=spec.revision)
    except (OSError, ValueError, KeyError, RuntimeError) as e:
        raise PromptError(
            f"data set {spec.location} (split {spec.split}) cannot be loaded: {one_line(e)}. "
            "Without a way to the hub, state path: a local copy"
        ) from e


def require_in_dataset(table: Any, columns: Sequence[str], spec: SourceSpec) -> None:
    """Raise `PromptError` where the data set lacks one of the columns."""
    for name in columns:
        if name not in table.column_names:
            raise PromptError(f"data set {spec.location}: no column {name!r}; found {', '.join(table.column_names)}")
