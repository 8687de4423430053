"""PURE. Counters that several processes keep together: each adds to its own share, and shares are merged by maximum.

A counter's value is the sum of every process's share. A share only grows and has one writer, so sending it twice,
late, or out of order changes nothing, and whoever saw a share can restore it to a store that lost it. That is what
lets spend be counted once although answers of a store get lost (a grow-only counter, Shapiro et al. 2011).

Amounts are whole numbers; money is counted in nano-dollars.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

NANO = 1_000_000_000
_MARK = "|"


@dataclass(slots=True)
class _Counters:
    """The counters under one key: by name, this process's share, what the store is known to hold of it, the others'."""

    expires_s: float
    own: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)
    total_of_others: dict[str, int] = field(default_factory=dict)
    restore: dict[str, int] = field(default_factory=dict)
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
    """

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.processes = 1
        self.apart = False
        self.merged = 0
        self._keys: dict[str, _Counters] = {}

    def add(self, key: str, name: str, amount: int, *, expires_s: float, now_s: float) -> None:
        """Add to this process's share; a key is forgotten at ``expires_s`` (Unix seconds)."""
        counters = self._at(key, expires_s, now_s)
        counters.own[name] = counters.own.get(name, 0) + amount

    def total(self, key: str, name: str) -> int:
        """Value of one counter, as far as this process knows; while the store is away, as :meth:`expected`."""
        if self.apart:
            return self.expected(key, name)
        counters = self._keys.get(key)
        return 0 if counters is None else counters.total_of_others.get(name, 0) + counters.own.get(name, 0)

    def expected(self, key: str, name: str) -> int:
        """Value of one counter by now: since the last exchange, the others are taken to go on as this one did."""
        counters = self._keys.get(key)
        if counters is None:
            return 0
        own = counters.own.get(name, 0)
        unseen = own - counters.sent.get(name, 0)
        return counters.total_of_others.get(name, 0) + own + (self.processes - 1) * unseen

    def totals(self, key: str) -> dict[str, int]:
        """Every counter under a key, by name."""
        counters = self._keys.get(key)
        names = () if counters is None else dict.fromkeys((*counters.own, *counters.total_of_others))
        return {name: self.total(key, name) for name in names}

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
                found[key] = (counters.expires_s, counters.restore | own)
        return found

    def merge(self, key: str, stored: Mapping[str, int]) -> None:
        """Take in what the store holds under a key after an exchange; what it has lost is sent again by the next."""
        counters = self._keys.get(key)
        if counters is None:
            return
        mine = f"{self.worker}{_MARK}"
        counters.sent = {f.removeprefix(mine): value for f, value in stored.items() if f.startswith(mine)}
        lost = {f: value for f, value in counters.others.items() if stored.get(f, 0) < value}
        counters.restore = lost
        counters.others = {f: value for f, value in stored.items() if not f.startswith(mine)} | lost
        counters.total_of_others = _sums(counters.others.items())
        counters.exchanged = True
        self.merged += 1

    def exchange_all(self) -> None:
        """Have the next exchange take every key: the store was away, and may come back with less than it had."""
        for counters in self._keys.values():
            counters.exchanged = False

    def forget_expired(self, now_s: float) -> None:
        """Drop keys whose time has passed."""
        for key in [key for key, counters in self._keys.items() if counters.expires_s <= now_s]:
            del self._keys[key]

    def _at(self, key: str, expires_s: float, now_s: float) -> _Counters:
        counters = self._keys.get(key)
        if counters is None:
            counters = self._keys[key] = _Counters(expires_s)
        counters.used_s = now_s
        return counters


def _sums(fields: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, value in fields:
        counter = name.partition(_MARK)[2]
        found[counter] = found.get(counter, 0) + value
    return found
