"""``python -m bench.drift``: false alarms of drift, and how many feedbacks pass until a worse model is noticed."""

from __future__ import annotations

from itertools import product

import numpy as np

from litellm_erp.drift.residuals import DROP, FURTHEST, threshold


def alarms(
    rng: np.random.Generator, kind: str, std_error: float, drop: float, streams: int, steps: int
) -> tuple[int, np.ndarray]:
    """How often streams ring (each begins anew after it), and when each rings first; ``steps`` where it never does.

    Parameters
    ----------
    kind : ``normal`` noise, or ``binary`` rewards of which the standard error is that of a coin
    """
    total, first = np.zeros(streams), np.full(streams, steps)
    shift, rung = DROP / std_error, 0
    most = threshold(shift)
    for step in range(steps):
        if kind == "normal":
            away = rng.normal(-drop / std_error, 1.0, streams)
        else:
            mean = 0.5 + np.sqrt(max(0.25 - std_error**2, 0.0))
            away = ((rng.random(streams) < mean - drop) - mean) / std_error
        away = away.clip(-FURTHEST, FURTHEST)
        total = np.maximum(0.0, total - shift * away - shift * shift / 2)
        ringing = total > most
        rung += int(ringing.sum())
        first = np.where(ringing & (first == steps), step + 1, first)
        total[ringing] = 0.0
    return rung, first


def main() -> None:
    """Print a table."""
    rng = np.random.default_rng(0)
    print("| rewards | standard error | false alarms per 100,000 | median until noticed | within 300 |")
    print("|---|---|---|---|---|")
    for kind, std_error in product(("normal", "binary"), (0.2, 0.3, 0.4)):
        streams, steps = 2000, 10_000
        rung, _ = alarms(rng, kind, std_error, 0.0, streams, steps)
        _, first = alarms(rng, kind, std_error, DROP, 2000, 2000)
        rate = 1e5 * rung / streams / steps
        soon = (first <= 300).mean()
        print(f"| {kind} | {std_error} | {rate:.2f} | {np.median(first):.0f} | {soon:.1%} |", flush=True)


if __name__ == "__main__":
    main()
