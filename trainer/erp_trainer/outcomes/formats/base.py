"""What a foreign format is: a guess from a file's name and first bytes, and a reader that yields rows of the contract.

A row is a map with the columns of `erp_trainer.outcomes.table.CONTRACT_COLUMNS`; what a row lacks or has as None is
an empty cell. ``prompt_id`` may be left out: it is then a hash of the prompt. Everything else (empty prompts,
placeholders, rewards that are no numbers, repeated rows) is checked after reading, in one place, for every format.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from erp_trainer.outcomes.formats.values import chosen

Row = Mapping[str, Any]
# Where in a row it says which record of which file it is from, as `Origin`; a row made of many records says nothing.
AT = "@"
# How much of a file a guess may look at, after decompression.
HEAD_BYTES = 1 << 16
_MOST_NOTED = 200


class Origin(NamedTuple):
    """Attributes
    ----------
    record : its number in the file, from 1
    content : what the record holds, all of it, as a hash of 8 bytes
    identified : the record holds an id of its own, so that another with the same content is the same
    """

    path: Path
    record: int
    content: int
    identified: bool


@dataclass
class Reading:
    """One import, as a format sees it.

    Attributes
    ----------
    metric : the measure to take as the reward, where a file holds several; None takes the format's own choice
    skipped : what a reader leaves out, by reason in a few words ("answers without a score"); shown to the user
    model : the model that answered, where a foreign file does not say; None takes what the file or its folder says
    on_bad : called with the message of a malformed record, which is then left out; None raises it
    rewards : how many outcomes took each measure for their reward
    measures : every measure that was met, in the order of meeting
    """

    metric: str | None = None
    skipped: Counter[str] = field(default_factory=Counter)
    model: str | None = None
    on_bad: Callable[[str], None] | None = None
    rewards: Counter[str] = field(default_factory=Counter)
    measures: dict[str, None] = field(default_factory=dict)

    def choose(self, scores: Mapping[str, Any], metric: str | None, known: Iterable[str]) -> str:
        """As `values.chosen`, noted for whoever asks what the rewards are."""
        if len(self.measures) < _MOST_NOTED:
            self.measures.update(dict.fromkeys(itertools.islice((str(name) for name in scores), _MOST_NOTED)))
        name = chosen(scores, metric, known)
        self.rewards[name] += 1
        return name


@dataclass(frozen=True)
class Format:
    """A foreign format.

    Attributes
    ----------
    name : what ``--format`` takes, and what messages say
    about : what files it reads, in a few words
    matches : a path and its first bytes (decompressed, at most `HEAD_BYTES`) to whether the file is certainly one of
        these. Cheap, never raises, and false where in doubt: a guess must not take somebody's plain table
    read : all files, sorted, to rows, one at a time so that memory stays bounded. Raises `OutcomesError` that names
        file and record
    """

    name: str
    about: str
    matches: Callable[[Path, bytes], bool]
    read: Callable[[Sequence[Path], Reading], Iterator[Row]]
