"""Whether what is decided serves: always, never (shadow), or for a share of users.

The share is a salted hash of who asks, so that all workers agree and nobody's conversation changes sides; a greater
percentage keeps those who are routed already. Whoever may choose a session's or a user's name may choose a side with
it, which is why neither side loosens a budget or an allow list.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

ModeName = Literal["route", "shadow", "percent"]
MODE_KEYS = frozenset({"mode", "baseline"})


@dataclass(frozen=True, slots=True)
class Mode:
    """How much of what is decided serves.

    Attributes
    ----------
    percent : of sessions or users whom decisions serve; only for ``percent``
    baseline : the pool model that serves the others; None leaves them to LiteLLM's own order
    salt : of the hash; None takes the group's name
    """

    name: ModeName = "route"
    percent: float = 100.0
    baseline: str | None = None
    salt: str | None = None

    def __repr__(self) -> str:
        # Whoever knows the salt can work out names of the side that they want.
        return f"Mode(name={self.name!r}, percent={self.percent:g}, baseline={self.baseline!r})"

    @property
    def share(self) -> float:
        """Probability that a decision serves."""
        return {"route": 1.0, "shadow": 0.0}.get(self.name, self.percent / 100.0)

    def routes(self, group: str, account: str, who: str) -> bool:
        """Whether a decision serves this session or user of an account."""
        if self.name != "percent":
            return self.name == "route"
        text = "\0".join((self.salt or group, account, who))
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2.0**64

    def to_json(self) -> dict[str, Any] | str:
        """As it stands in settings, without the salt."""
        return {"percent": self.percent} if self.name == "percent" else self.name


ROUTE = Mode()
