"""The columns of a file in memory, and where its rows came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class FileTable:
    """Columns of a file.

    Attributes
    ----------
    path : the file, for messages
    columns : the wanted columns by name, in file order, each an Arrow chunked array of ``n_rows`` cells
    names : every column of the file, wanted or not
    n_rows : data rows
    """

    path: Path
    columns: dict[str, Any]
    names: tuple[str, ...]
    n_rows: int
