"""PURE. Where processes meet to share counters: what a store is asked for, and the one that is kept in memory.

A store holds shares by key and field, the greatest that anybody sent, and the gauges that each process sent last. To
keep counters elsewhere, write a class with the members of :class:`CounterStore`, and choose it in
``serving/sharing.py``; ``shared_counters.py`` asks for nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from litellm_erp.budgets.counters import DAY_S

# By key: when it may be forgotten (Unix seconds), and shares by field.
Shares = Mapping[str, tuple[float, Mapping[str, int]]]
HEARD_OF_S = 15.0


@dataclass(slots=True)
class Answer:
    """What a store holds after an exchange.

    Attributes
    ----------
    shares : by key and field; as it was found there
    gauges : sums over the other processes
    workers : processes that were heard of lately, this one included
    problems : what could not be used, and what to do
    anew : whether the store has lost all it held
    """

    shares: dict[str, Mapping[str, object]] = field(default_factory=dict)
    gauges: dict[str, int] = field(default_factory=dict)
    workers: int = 1
    problems: list[str] = field(default_factory=list)
    anew: bool = False


class CounterStore(Protocol):
    """Where processes meet.

    Attributes
    ----------
    name : how warnings call it
    every_s : seconds between exchanges
    """

    name: str
    every_s: float

    def reset(self) -> None:
        """Connect anew: another event loop runs."""

    async def exchange(self, worker: str, shares: Shares, gauges: Mapping[str, int], wall_s: float) -> Answer:
        """Send shares and gauges, and bring what all have; raises where the store is away.

        Parameters
        ----------
        worker : the process that asks
        gauges : its values by name; asked for are the sums over the others
        wall_s : Unix seconds
        """


class MemoryStore:
    """Counters of processes that are one: of a simulation, or of a test.

    Attributes
    ----------
    keys : [when it may be forgotten, shares by field], by key
    workers : [gauges, when it was heard of], by process
    """

    name = "memory"
    every_s = 1.0

    def __init__(self, keys: dict[str, Any] | None = None, workers: dict[str, Any] | None = None) -> None:
        self.keys = {} if keys is None else keys
        self.workers = {} if workers is None else workers

    def reset(self) -> None:
        """Nothing is held open."""

    async def exchange(self, worker: str, shares: Shares, gauges: Mapping[str, int], wall_s: float) -> Answer:
        """Send shares and gauges, and bring what all have."""
        return self.meet(worker, shares, gauges, wall_s)

    def meet(self, worker: str, shares: Shares, gauges: Mapping[str, int], wall_s: float) -> Answer:
        """As :meth:`exchange`, for whoever does not wait."""
        for key, (expires_s, fields) in shares.items():
            held = self.keys.setdefault(key, [0.0, {}])
            held[0] = max(held[0], expires_s)
            held[1].update({f: v for f, v in fields.items() if v > held[1].get(f, -1)})
        # A day late, because clocks are set back.
        self.keys = {key: held for key, held in self.keys.items() if held[0] + DAY_S > wall_s}
        self.workers = {**self.workers, worker: [dict(gauges), wall_s]}
        self.workers = {n: told for n, told in self.workers.items() if abs(wall_s - told[1]) <= HEARD_OF_S}
        others = [values for name, (values, _) in self.workers.items() if name != worker]
        return Answer(
            {key: self.keys[key][1] for key in shares if key in self.keys},
            {name: sum(values.get(name, 0) for values in others) for name in gauges},
            len(self.workers),
        )
