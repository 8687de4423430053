"""PURE. What the costs and rewards of a payload are counted in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from erp_trainer.words import NOTHING, significant


@dataclass(frozen=True, slots=True)
class Units:
    """What the payload's costs and rewards are counted in.

    Attributes
    ----------
    scale : turns a cost per request into what is shown and what λ counts
    cost, reward, gain : axis titles
    cost_short : a column's head
    lambda_ : the unit of λ
    prefix : stands before an amount of money
    """

    scale: float
    cost: str
    cost_short: str
    lambda_: str
    prefix: str
    reward: str
    gain: str

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> Units:
        """Read from an evaluation payload."""
        unit = payload["reward"].get("unit") or "reward"
        named = "" if unit == "reward" else f", {unit}"
        if payload["cost"]["kind"] == "usd":
            words = ("Mean cost, USD per 1,000 requests", "USD / 1,000", "reward per (USD / 1,000 requests)", "$")
        else:
            words = (
                "Mean relative cost per request", "relative cost", "reward per unit of relative cost", ""
            )  # fmt: skip
        return cls(float(payload["cost"]["scale"]), *words, f"Mean reward{named}", f"Reward gained{named}")

    def titles(self) -> dict[str, str]:
        """Axis titles by field, for charts."""
        return {"cost": self.cost, "reward": self.reward, "gain": self.gain}

    def shown(self, cost: float | None) -> float | None:
        """A cost per request on the scale that is shown."""
        return None if cost is None else cost * self.scale

    def money(self, cost: float | None) -> str:
        """A cost per request as text, on the scale that is shown."""
        return NOTHING if cost is None else f"{self.prefix}{significant(cost * self.scale)}"
