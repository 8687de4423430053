"""The foreign formats there are. A new one is a file beside this one and a line here."""

from __future__ import annotations

from pathlib import Path

from erp_trainer.outcomes.formats.base import Format

FORMATS: tuple[Format, ...] = ()


def guessed(path: Path, head: bytes) -> Format | None:
    """The format that a file is certainly of; None for a plain table."""
    return next((format_ for format_ in FORMATS if format_.matches(path, head)), None)
