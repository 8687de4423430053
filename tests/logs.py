"""Decision logs written by a policy whose probabilities are known, from outcomes that are on record."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

MODELS = ("big", "mid", "small")
PRICES = {"big": 1e-3, "mid": 2e-4, "small": 2e-5}


def decision(request_id: str, **changed: Any) -> dict[str, Any]:
    """One answered request, as the proxy logs it."""
    candidates = {
        name: {"expected_reward": reward, "std_error": 0.05, "expected_cost_usd": PRICES[name]}
        for name, reward in {"big": 0.9, "mid": 0.8, "small": 0.6}.items()
    }
    return {
        "v": 1,
        "kind": "decision",
        "time": 1_780_000_000.0,
        "request_id": request_id,
        "group": "erp-auto",
        "team": None,
        "mode": "route",
        "arm": "route",
        "bundle": "b1",
        "lambda": 0.25,
        "reason": "routed",
        "candidates": candidates,
        "chosen": "mid",
        "served": "mid",
        "propensity": {"mid": 1.0},
        "input_tokens": 100,
        "output_tokens": 50,
        "cost_usd": 2.4e-4,
        "latency_s": 0.5,
        "failed": False,
        "followed": True,
        **changed,
    }


def feedback(request_id: str, reward: float, source: str = "api", time: float = 1_780_000_100.0) -> dict[str, Any]:
    """What somebody thought of an answer."""
    return {
        "v": 1, "kind": "feedback", "time": time, "request_id": request_id, "reward": reward, "source": source
    }  # fmt: skip


def write(path: Path, lines: Iterable[Mapping[str, Any]]) -> Path:
    """Write lines as a log's file."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


class World:
    """Prompts whose rewards at three models are known, and what a router expects of them."""

    def __init__(self, n: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        hard = rng.random(n)
        self.expected = np.column_stack([0.95 - 0.1 * hard, 0.95 - 0.4 * hard, 0.9 - 0.8 * hard])
        self.rewards = np.clip(self.expected + rng.normal(0, 0.1, self.expected.shape), 0, 1)
        self.costs = np.array([PRICES[name] for name in MODELS]) * rng.uniform(0.8, 1.2, (n, 1))
        self.real_over_expected = 1.5
        self.rng = rng

    def chosen(self, lambda_: float) -> np.ndarray:
        """The model of the highest utility, by request."""
        return np.asarray((self.expected - lambda_ * 1000 * self.costs).argmax(axis=1))

    def lines(self, mode: str, propensity: np.ndarray, share_of_feedback: float = 0.5) -> list[dict[str, Any]]:
        """A log: ``propensity`` (requests × models) serves, routing at λ = 0.25 is what was chosen."""
        n = len(self.rewards)
        served = (self.rng.random((n, 1)) > propensity.cumsum(axis=1)).sum(axis=1).clip(max=2)
        routed = self.chosen(0.25)
        found = []
        for i in range(n):
            candidates = {
                name: {
                    "expected_reward": self.expected[i, m], "std_error": 0.1, "expected_cost_usd": self.costs[i, m]
                }
                for m, name in enumerate(MODELS)
            }  # fmt: skip
            name = MODELS[served[i]]
            found.append(
                decision(
                    f"r{i}",
                    mode=mode,
                    time=1_780_000_000.0 + i,
                    candidates=candidates,
                    chosen=MODELS[served[i] if mode == "route" else routed[i]],
                    served=name,
                    propensity={m: p for m, p in zip(MODELS, propensity[i].tolist(), strict=True) if p > 0},
                    cost_usd=self.costs[i, served[i]] * self.real_over_expected,
                )
            )
            if self.rng.random() < share_of_feedback:
                found.append(feedback(f"r{i}", self.rewards[i, served[i]]))
        return found
