"""Who served which conversation last, so that a choice can count what the next turn finds in a prompt cache.

Kept are digests of turns, names of pool models, token counts and moments; never text. A conversation is its caller's:
the same turns of another key are another conversation. Memory is bounded, and what is old is forgotten.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from litellm_erp.choice.conversation import awaits_tools, prefixes
from litellm_erp.goals.settings import StaySettings

_MOST = 50_000
# Longer than any tool takes, and than any prompt cache lives.
_KEPT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Conversation:
    """What tells the conversation that a request belongs to.

    Attributes
    ----------
    prefixes : digests of its turns up to each, the whole request last
    session : digest of the session that its client names; None where it names none
    awaits_tools : whether the last answer called tools that its model has not yet heard of
    """

    prefixes: Sequence[bytes]
    session: bytes | None
    awaits_tools: bool


@dataclass(frozen=True, slots=True)
class Served:
    """Who served a conversation last.

    Attributes
    ----------
    model : a pool model
    cached_tokens : of the request at hand, expected to lie in that model's prompt cache
    awaits_tools : see `Conversation`
    """

    model: str
    cached_tokens: float
    awaits_tools: bool


@dataclass(slots=True)
class _Turn:
    model: str
    tokens: float
    at_s: float


def conversation_of(turns: list[Any], scope: str, session: str | None = None, system: object = None) -> Conversation:
    """The conversation of a request.

    Parameters
    ----------
    turns : see ``choice.conversation.turns_of``
    scope : the group and who asks in it
    session : as its client calls it
    """
    named = None if session is None else prefixes([session[:1024]], f"session:{scope}")[-1]
    return Conversation(prefixes(turns, scope, system), named, awaits_tools(turns))


class Conversations:
    """The conversations of one process.

    Parameters
    ----------
    most : how many turns are remembered; the longest unused are forgotten first
    clock : seconds; only differences count
    """

    def __init__(self, most: int = _MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._turns: OrderedDict[bytes, _Turn] = OrderedDict()
        self._most = most
        self._clock = clock

    def __len__(self) -> int:
        return len(self._turns)

    def last(self, conversation: Conversation, stay: StaySettings) -> Served | None:
        """Who served it last, and what is warm there; None where nobody knows."""
        now = self._clock()
        # The longest prefix that was served is the one that a cache holds.
        prefix = next((turn for p in reversed(conversation.prefixes) if (turn := self._known(p, now))), None)
        session = None if conversation.session is None else self._known(conversation.session, now)
        known = [turn for turn in (prefix, session) if turn is not None]
        if not known:
            return None
        newest = max(known, key=lambda turn: turn.at_s)
        warm = prefix is not None and prefix.model == newest.model
        tokens = prefix.tokens * math.exp(-(now - prefix.at_s) / stay.warm_s) if warm and prefix is not None else 0.0
        return Served(newest.model, tokens, conversation.awaits_tools)

    def serves(self, conversation: Conversation, model: str, tokens: float) -> None:
        """Record who serves a request.

        Parameters
        ----------
        tokens : of its whole input; 0 where they are not known yet
        """
        now = self._clock()
        for digest in (*conversation.prefixes[-1:], conversation.session):
            if digest is not None:
                self._turns[digest] = _Turn(model, tokens, now)
                self._turns.move_to_end(digest)
        while len(self._turns) > self._most:
            self._turns.popitem(last=False)

    def _known(self, digest: bytes, now: float) -> _Turn | None:
        turn = self._turns.get(digest)
        if turn is None or now - turn.at_s > _KEPT_S:
            return None
        return turn
