"""PURE. Counters that several processes keep together: each adds to its own share, and shares are merged by maximum.

A counter's value is the sum of every process's share. A share only grows and has one writer, so sending it twice,
late, or out of order changes nothing, and whoever saw a share can restore it to a store that lost it. That is what
lets spend be counted once although answers of a store get lost (a grow-only counter, Shapiro et al. 2011).

What is taken back is a second counter beside the first, named with a ``-`` after it (a PN-counter): a process's net
share is never below zero, so nobody can take back what somebody else has spent.

Amounts are whole numbers; money is counted in nano-dollars. What a store holds is somebody else's: a field that is not
a whole number from 0 to 2^53 is left out, counted, and neither kept nor restored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from litellm_erp.budgets.amounts import MAX_COUNT

DAY_S = 86_400.0
_MARK = "|"
_BACK = "-"
_MAX_FIELDS = 20_000
_MAX_FIELD_CHARS = 400
_MAX_DIGITS = 16
# A clock set forward makes keys look expired; set back within this time, it finds them again.
_REMEMBERED_S = DAY_S
_NONE: dict[str, int] = {}


@dataclass(slots=True)
class _OneKey:
    """The counters under one key: by name, this process's share, what the store is known to hold of it, the others'."""

    expires_s: float
    own: dict[str, int] = field(default_factory=lambda: _NONE)
    sent: Mapping[str, int] = field(default_factory=lambda: _NONE)
    others: Mapping[str, int] = field(default_factory=lambda: _NONE)
    total_of_others: Mapping[str, int] = field(default_factory=lambda: _NONE)
    restore: Mapping[str, int] = field(default_factory=lambda: _NONE)
    used_s: float = 0.0
    exchanged: bool = False


class Counters:
    """All counters of one process.

    Parameters
    ----------
    worker : this process's name in the store; unique, and without ``|``

    Attributes
    ----------
    processes : how many share the store, this one included, as last counted
    apart : whether the store is away just now
    merged : how often something was taken in
    refused : how many fields of a store were not what they should be
    opened : how many keys were asked for that this process did not know
    """

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.processes = 1
        self.apart = False
        self.merged = 0
        self.refused = 0
        self.opened = 0
        self._keys: dict[str, _OneKey] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: str, name: str, amount: int, *, expires_s: float, now_s: float) -> None:
        """Add to this process's share, or take back of it where the amount is negative.

        Parameters
        ----------
        expires_s : when the key may be forgotten, Unix seconds
        now_s : seconds of a clock that nobody sets
        """
        if amount < 0:
            name, amount = name + _BACK, -amount
        counters = self._at(key, expires_s, now_s)
        if counters.own is _NONE:
            counters.own = {}
        counters.own[name] = min(counters.own.get(name, 0) + amount, MAX_COUNT)

    def own(self, key: str, name: str) -> int:
        """What this process added to one counter less what it took back; below 0 where it took back what was moved."""
        counters = self._keys.get(key)
        return 0 if counters is None else counters.own.get(name, 0) - counters.own.get(name + _BACK, 0)

    def total(self, key: str, name: str) -> int:
        """Value of one counter, as far as this process knows; while the store is away, as :meth:`expected`."""
        if self.apart:
            return self.expected(key, name)
        counters = self._keys.get(key)
        return 0 if counters is None else counters.total_of_others.get(name, 0) + _net(counters.own, name)

    def expected(self, key: str, name: str) -> int:
        """Value of one counter by now: since the last exchange, the others are taken to go on as this one did."""
        counters = self._keys.get(key)
        if counters is None:
            return 0
        own = _net(counters.own, name)
        unseen = max(own - _net(counters.sent, name), 0)
        return counters.total_of_others.get(name, 0) + own + (self.processes - 1) * unseen

    def totals(self, key: str) -> dict[str, int]:
        """Every counter under a key, by name."""
        counters = self._keys.get(key)
        names = () if counters is None else dict.fromkeys((*counters.own, *counters.total_of_others))
        return {name: self.total(key, name) for name in names if not name.endswith(_BACK)}

    def watch(self, key: str, *, expires_s: float, now_s: float) -> None:
        """Ask for a key at the next exchanges."""
        self._at(key, expires_s, now_s)

    def outgoing(self, now_s: float, idle_s: float = 60.0) -> dict[str, tuple[float, dict[str, int]]]:
        """What to tell the store: by key its expiry and shares by field; keys nobody asked for lately are left out."""
        found = {}
        for key, counters in self._keys.items():
            changed = {n: v for n, v in counters.own.items() if v != counters.sent.get(n)}
            if changed or counters.restore or not counters.exchanged or now_s - counters.used_s < idle_s:
                own = {f"{self.worker}{_MARK}{name}": value for name, value in changed.items()}
                found[key] = (counters.expires_s, {**counters.restore, **own})
        return found

    def everything(self) -> Iterator[tuple[str, float, dict[str, int]]]:
        """Every key with its expiry and all that is known under it, by field."""
        for key, counters in self._keys.items():
            own = {f"{self.worker}{_MARK}{name}": value for name, value in counters.own.items()}
            yield key, counters.expires_s, {**counters.others, **own}

    def merge(self, key: str, stored: Mapping[str, object]) -> None:
        """Take in what the store holds under a key after an exchange; what it has lost is sent again by the next."""
        counters = self._keys.get(key)
        if counters is None:
            return
        held, refused = sound(stored)
        self.refused += refused
        mine = f"{self.worker}{_MARK}"
        counters.sent = {f.removeprefix(mine): value for f, value in held.items() if f.startswith(mine)} or _NONE
        lost = {f: value for f, value in counters.others.items() if held.get(f, 0) < value}
        counters.restore = lost or _NONE
        counters.others = ({f: value for f, value in held.items() if not f.startswith(mine)} | lost) or _NONE
        counters.total_of_others = _sums(counters.others) or _NONE
        counters.exchanged = True
        self.merged += 1

    def remember(self, key: str, stored: Mapping[str, int], *, expires_s: float) -> None:
        """Begin with what a store held before this process was there."""
        counters = self._at(key, expires_s, -_REMEMBERED_S)
        counters.others = dict(stored) or _NONE
        counters.total_of_others = _sums(counters.others) or _NONE

    def exchange_all(self) -> None:
        """Have the next exchange take every key: the store was away, and may come back with less than it had."""
        for counters in self._keys.values():
            counters.exchanged = False

    def forget(self, keys: Iterable[str]) -> None:
        """Drop keys, whatever they hold."""
        for key in keys:
            self._keys.pop(key, None)

    def forget_expired(self, wall_s: float, now_s: float) -> None:
        """Drop keys whose time has passed, and that nobody has asked for in a day: the clock may be set back.

        Parameters
        ----------
        wall_s : Unix seconds
        now_s : seconds of a clock that nobody sets
        """
        self.forget(
            [
                key
                for key, counters in self._keys.items()
                if counters.expires_s <= wall_s and now_s - counters.used_s >= _REMEMBERED_S
            ]
        )

    def _at(self, key: str, expires_s: float, now_s: float) -> _OneKey:
        counters = self._keys.get(key)
        if counters is None:
            counters = self._keys[key] = _OneKey(expires_s)
            self.opened += 1
        counters.expires_s = max(expires_s, counters.expires_s)
        counters.used_s = now_s
        return counters


def key_of(*names: object) -> str:
    """A key made of names, so that no two lists of names make one key."""
    return _MARK.join([str(name).replace("%", "%25").replace(_MARK, "%7C") for name in names])


def sound(stored: Mapping[str, object]) -> tuple[dict[str, int], int]:
    """The fields of a store that can be believed, and how many could not.

    Parameters
    ----------
    stored : values as numbers, or as the digits a Redis holds
    """
    found = {}
    for name, value in islice(stored.items(), _MAX_FIELDS):
        number = _whole(value)
        worker, mark, counter = name.partition(_MARK)
        if number is not None and worker and mark and counter and len(name) <= _MAX_FIELD_CHARS:
            found[name] = number
    return found, len(stored) - len(found)


def _whole(value: object) -> int | None:
    if isinstance(value, str):
        value = int(value) if len(value) <= _MAX_DIGITS and value.isascii() and value.isdigit() else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MAX_COUNT else None


def _net(shares: Mapping[str, int], name: str) -> int:
    """One process's share of a counter less what it took back of it."""
    back = shares.get(name + _BACK)
    return shares.get(name, 0) if back is None else max(shares.get(name, 0) - back, 0)


def _sums(fields: Mapping[str, int]) -> dict[str, int]:
    """Net values by counter; what is taken back counts against its own process's share only."""
    found: dict[str, int] = {}
    for name, value in fields.items():
        counter = name.partition(_MARK)[2]
        if not counter.endswith(_BACK):
            found[counter] = found.get(counter, 0) + max(value - fields.get(name + _BACK, 0), 0)
    return found
