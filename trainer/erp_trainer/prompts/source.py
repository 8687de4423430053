"""What a source of prompts is: rows in, by name, and how many of them are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from erp_trainer.prompts.duplicates import TEST_SHARE
from erp_trainer.prompts.prompt_set import Prompt


@dataclass(frozen=True)
class SourceSpec:
    """The ``prompts`` section, checked.

    Attributes
    ----------
    kind : of `sources.SOURCES`
    location : the file, folder or hub data set
    split : of the hub data set
    per_category, limit : how many to draw; None takes all
    test_share : of the prompts that go to test, where the source has no split
    """

    kind: str
    location: str
    split: str = "train"
    revision: str | None = None
    column: str = "prompt"
    category_column: str = "category"
    reference_column: str = "reference"
    per_category: int | None = None
    limit: int | None = None
    seed: int = 0
    test_share: float = TEST_SHARE


# By prompt_id, prompt, category, reference, split, tags; only the prompt must be there.
Row = Mapping[str, Any]


# What becomes of the rows that are no prompts, counted by the draw: rows, without_text, repeated, uncategorised.
Counts = dict[str, int]
Draw = Callable[[SourceSpec, Counts, np.random.Generator], list[Prompt]]


@dataclass(frozen=True)
class Source:
    """A kind of source.

    Attributes
    ----------
    draw : its prompts, as many as the spec asks for
    location : where the section states no path; None where it has to
    defaults : of `SourceSpec`
    """

    draw: Draw
    location: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
