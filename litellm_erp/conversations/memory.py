"""Who served which conversation, so that a choice can count what the next turn finds in prompt caches.

Kept are digests of turns, names of pool models, token counts and moments; never text. A conversation is its caller's:
the same turns of another key are another conversation. Memory is bounded, and what is old is forgotten.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from litellm_erp.choice.conversation import MAX_TURNS, after, asked_before, awaits_tools, call_in, digest, prefixes
from litellm_erp.goals.settings import StaySettings

_MOST = 50_000
# A request goes on where an earlier one ended, a few turns back.
KEPT_DIGESTS = 64
# Longer than any tool takes, and than any prompt cache lives.
KEPT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Conversation:
    """What tells the conversation that a request belongs to.

    Attributes
    ----------
    prefixes : digests of its turns up to each of the last, the whole request last
    system : digest of its system prompt, with which a prompt cache begins
    before : that of the request which the last answer was given to; None where there was no answer yet
    answer : that of it with the answer, which called a tool by an id; None where it called none
    session : digest of the session that its client names; None where it names none
    awaits_tools : whether the last answer called tools that its model has not yet heard of
    """

    prefixes: Sequence[bytes]
    system: bytes
    before: bytes | None
    answer: bytes | None
    session: bytes | None
    awaits_tools: bool


@dataclass(frozen=True, slots=True)
class Served:
    """Who served a conversation last, and where it is warm.

    Attributes
    ----------
    model : the pool model that was last
    cached_tokens : of the request at hand, expected in the prompt cache of each pool model that served a part of it
    awaits_tools : see `Conversation`
    goes_on : whether there was an answer yet; the same first question again only finds its prompt in a cache
    draw : its own number in [0, 1) for a share of conversations, see ``proxy.modes``; None where it had none
    offered_as : the pool model that its deployment is for this request, where it cannot be ``model``; else ""
    """

    model: str
    cached_tokens: Mapping[str, float]
    awaits_tools: bool
    goes_on: bool
    draw: float | None = None
    offered_as: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """Who served a request, of how many tokens behind which system prompt, and when, on this process's clock.

    ``draw`` is as in `Served`.
    """

    model: str
    tokens: float
    at_s: float
    system: bytes
    draw: float | None = None


def conversation_of(turns: list[Any], scope: str, session: str | None = None, system: object = None) -> Conversation:
    """The conversation of a request.

    Parameters
    ----------
    turns : see ``choice.conversation.turns_of``
    scope : the group and who asks in it
    session : as its client calls it
    """
    if session is not None:
        # Two sessions may begin alike.
        scope = f"{scope}\0{session[:1024]}"
    named = None if session is None else prefixes(["session"], scope)[-1]
    if len(turns) > MAX_TURNS:
        return Conversation((), b"", None, None, named, awaits_tools(turns))
    found, place, call_id = prefixes(turns, scope), asked_before(turns), call_in(turns)
    before = found[place - 1] if place else None
    answer = None if before is None or call_id is None else after(before, call_id)
    kept = found[-KEPT_DIGESTS:]
    if before is not None and len(found) - place >= KEPT_DIGESTS:
        # An answer and its tools' results can be many items.
        kept.insert(0, before)
    return Conversation(kept, digest(turns, system), before, answer, named, awaits_tools(turns))


class Conversations:
    """The conversations of one process.

    Parameters
    ----------
    most : how many turns are remembered; the longest unused are forgotten first
    clock : seconds; only differences count
    """

    def __init__(self, most: int = _MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._turns: OrderedDict[bytes, Turn] = OrderedDict()
        self._most = most
        self._clock = clock

    def __len__(self) -> int:
        return len(self._turns)

    def last(self, conversation: Conversation, stay: StaySettings) -> Served | None:
        """Who served it last, and where it is warm; None where nobody knows."""
        now = self._clock()
        prefix, cached = None, dict[str, float]()
        for turn in filter(None, (self._known(p, now) for p in reversed(conversation.prefixes))):
            prefix = prefix or turn
            # The longest prefix that a model has served is the one that its cache holds.
            if turn.tokens > 0.0 and turn.system == conversation.system and turn.model not in cached:
                cached[turn.model] = turn.tokens * math.exp(-(now - turn.at_s) / stay.warm_s)
        session = None if conversation.session is None else self._known(conversation.session, now)
        # Where the request before is known, whatever else its session has asked meanwhile is another thread of it.
        newest = prefix if prefix is not None and (session is None or self.knows(conversation)) else session
        # Of two runs that began alike each goes on with its own answer.
        answer = None if conversation.answer is None else self._known(conversation.answer, now)
        newest = answer or newest
        if newest is None:
            return None
        goes_on = session is not None or conversation.before is not None
        return Served(newest.model, cached, conversation.awaits_tools, goes_on, newest.draw)

    def knows(self, conversation: Conversation) -> bool:
        """Whether the last answer was recorded here, so that nobody else knows better who gave it."""
        return conversation.before is not None and self._known(conversation.before, self._clock()) is not None

    def serves(
        self,
        conversation: Conversation,
        model: str,
        tokens: float,
        *,
        draw: float | None = None,
        call_id: str | None = None,
    ) -> dict[bytes, Turn]:
        """Record who serves a request.

        Parameters
        ----------
        tokens : of its whole input; 0 where they are not known yet
        draw : see `Served`
        call_id : of the first tool call of the answer

        Returns
        -------
        what was recorded, by digest
        """
        turn = Turn(model, tokens, self._clock(), conversation.system, draw)
        asked = conversation.prefixes[-1:]
        called = [after(request, call_id) for request in asked if call_id is not None]
        named = [d for d in (*asked, *called, conversation.session) if d is not None]
        for each in named:
            self._keep(each, turn)
        return dict.fromkeys(named, turn)

    def remember(
        self, named: bytes, model: str, tokens: float, age_s: float, system: bytes, draw: float | None
    ) -> None:
        """Take in what another process recorded so many seconds ago."""
        self._keep(named, Turn(model, tokens, self._clock() - age_s, system, draw))

    def _keep(self, named: bytes, turn: Turn) -> None:
        self._turns[named] = turn
        self._turns.move_to_end(named)
        while len(self._turns) > self._most:
            self._turns.popitem(last=False)

    def _known(self, named: bytes, now: float) -> Turn | None:
        turn = self._turns.get(named)
        if turn is None or now - turn.at_s > KEPT_S:
            return None
        return turn
