"""An SVG of a simulated month: λ above, what was spent of each window below."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.pacing.month import DAY_S, DAYS, START_S, Month

_WIDTH, _HEIGHT, _LEFT, _GAP = 960, 160, 60, 50


def write_plot(path: Path, drawn: Month, lambda_R: np.ndarray, spent_R: np.ndarray, budget_usd: float) -> None:
    """Draw the requests of a month; at most one point every ten minutes."""
    step = np.unique(((drawn.at_R - START_S) // 600).astype(int), return_index=True)[1]
    x = _LEFT + (drawn.at_R[step] - START_S) / (DAYS * DAY_S) * _WIDTH
    finite = lambda_R[np.isfinite(lambda_R)]
    top = float(np.log10(finite.max() + 0.01))
    low = float(np.log10(finite.min() + 0.01))
    level = (np.log10(np.minimum(lambda_R[step], finite.max()) + 0.01) - low) / max(top - low, 1e-9)
    spent = spent_R[step] / budget_usd
    rows = [
        _panel(0, x, level, "λ, log scale", (f"{10**low - 0.01:.2g}", f"{10**top - 0.01:.2g}"), "#3b6fb6"),
        _panel(_HEIGHT + _GAP, x, np.minimum(spent, 1.05), "spent of the day's budget", ("0", "100%"), "#b65c3b"),
    ]
    days = "".join(
        f'<text x="{_LEFT + d / DAYS * _WIDTH:.0f}" y="{2 * _HEIGHT + _GAP + 40}">day {d + 1}</text>'
        for d in range(0, DAYS, 5)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH + _LEFT + 20} {2 * _HEIGHT + _GAP + 50}" '
        'font-family="sans-serif" font-size="12" fill="#444">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(rows)}{days}</svg>\n',
        encoding="utf-8",
    )


def _panel(y: int, x: np.ndarray, value: np.ndarray, title: str, ends: tuple[str, str], colour: str) -> str:
    bottom = y + 20 + _HEIGHT
    points = " ".join(f"{a:.1f},{bottom - b * _HEIGHT:.1f}" for a, b in zip(x, value, strict=True))
    return (
        f'<text x="{_LEFT}" y="{y + 14}">{title}</text>'
        f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">{ends[0]}</text>'
        f'<text x="{_LEFT - 6}" y="{y + 30}" text-anchor="end">{ends[1]}</text>'
        f'<path d="M{_LEFT} {y + 20}V{bottom}H{_LEFT + _WIDTH}" fill="none" stroke="#999"/>'
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1"/>'
    )
