"""Battles of two models on one prompt: the arenas' logs, and alpaca_eval's annotations.

The reward of a model on a prompt is its wins against the pool: the share of its battles there that it won, a tie
counting half. A model that meets several others on a prompt has one sample per battle.

Followed: FastChat's ``serve/monitor/clean_battle_data.py`` (commit 01e89b4: ``conversation_a``, ``winner``), the
releases of human preferences after it (``winner_model_a``; ``both_bad``), and alpaca_eval's annotations of versions 1
and 2 (``results/`` at 8d731d8), whose ``preference`` lies between 1 (output_1) and 2 (output_2), 0 for a draw in the
oldest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from erp_trainer.outcomes.formats.base import Format, Reading, Row
from erp_trainer.outcomes.formats.records import columns, reader
from erp_trainer.outcomes.formats.values import (
    BadRecord,
    NoOutcome,
    mapping,
    member,
    names,
    number,
    prompt_of,
    short,
    text_id,
)
from erp_trainer.prompts.conversation import decoded, first_user_turn

_WON_BY_A = {
    "model_a": 1.0,
    "a": 1.0,
    "model_b": 0.0,
    "b": 0.0,
    "tie": 0.5,
    "tie (bothbad)": 0.5,
    "bothbad": 0.5,
    "both_bad": 0.5,
}
_ONE_HOT = {"winner_model_a": 1.0, "winner_model_b": 0.0, "winner_tie": 0.5}
_BATTLE_KEYS = ("model_a", "model_b", "winner", "conversation_a")


def battle(record: Mapping[str, Any], _: Reading) -> Iterator[Row]:
    """Two outcomes: what each side of an arena's battle won."""
    pair = str(member(record, "model_a")), str(member(record, "model_b"))
    found = next((record[key] for key in ("prompt", "conversation_a", "full_conversation") if record.get(key)), None)
    yield from _sides(_asked(found), pair, _won_by_a(record), record.get("category"))


def annotation(record: Mapping[str, Any], _: Reading) -> Iterator[Row]:
    """Two outcomes: what each side of one of alpaca_eval's comparisons won."""
    if "output" in record and "generator_1" not in record:
        raise NoOutcome("answers of a model beside its annotations")
    pair = str(member(record, "generator_1")), str(member(record, "generator_2"))
    if _is_empty(record.get("preference")):
        raise NoOutcome("comparisons that the annotator did not decide")
    preference = number(record["preference"])
    if preference is None or not (preference == 0 or 1 <= preference <= 2):
        raise BadRecord(f"preference is {short(record['preference'])}; expected a number from 1 to 2, or 0 for a draw")
    won = 0.5 if preference == 0 else 2 - preference
    yield from _sides(prompt_of(record.get("instruction")), pair, won, record.get("dataset"))


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or value != value  # Parquet and pandas write NaN


def _sides(prompt: str, pair: tuple[str, str], won_by_a: float, category: Any) -> Iterator[Row]:
    if pair[0] == pair[1]:
        raise NoOutcome("battles of a model against itself")
    stated = {"category": category} if isinstance(category, str) else {}
    for model, won in zip(pair, (won_by_a, 1 - won_by_a), strict=True):
        yield {"prompt_id": text_id(prompt), "prompt": prompt, "model": model, "reward": won, **stated}


def _won_by_a(record: Mapping[str, Any]) -> float:
    if "winner" in record:
        if _is_empty(record["winner"]):
            raise NoOutcome("battles without a winner")
        found = str(record["winner"]).strip().lower()
        if found not in _WON_BY_A:
            raise BadRecord(f"winner is {short(record['winner'])}; expected model_a, model_b, tie or tie (bothbad)")
        return _WON_BY_A[found]
    stated = [won for name, won in _ONE_HOT.items() if number(record.get(name)) == 1]
    if len(stated) != 1:
        raise BadRecord(f"no winner; found {names(record)}, expected winner, or one of {', '.join(_ONE_HOT)} that is 1")
    return stated[0]


def _asked(found: Any) -> str:
    """The first turn of a battle: both models saw it, and what came after differs between them."""
    turns = decoded(found)
    if isinstance(turns, list) and turns and isinstance(turns[0], Mapping):
        asked = first_user_turn([mapping(turn).get("user", turn) for turn in turns])
        if asked is None:
            raise NoOutcome("battles that no text began")
        return prompt_of(asked)
    return prompt_of(turns[0] if isinstance(turns, list) and turns and isinstance(turns[0], str) else found)


def _is_battles(path: Path, head: bytes) -> bool:
    names = columns(path, head)
    won = "winner" in names or {"winner_model_a", "winner_model_b"} <= names
    # The keys of a first record that is longer than what is looked at.
    return ({"model_a", "model_b"} <= names and won) or all(f'"{n}"'.encode() in head for n in _BATTLE_KEYS)


def _is_annotations(path: Path, head: bytes) -> bool:
    names = columns(path, head)
    return {"instruction", "generator_1", "generator_2", "preference"} <= names


BATTLES = Format(
    "battles",
    "pairs of models with a winner, as the arenas release them",
    _is_battles,
    reader(battle, repeats=True),
)
ALPACA_EVAL = Format(
    "alpaca-eval",
    "annotations.json of alpaca_eval, one file per model",
    _is_annotations,
    reader(annotation, repeats=True),
)
