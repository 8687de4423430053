"""PURE. Whether a model has become worse than its probe expects, from feedback one at a time.

A sum of log-likelihood ratios of "worse by ``DROP``" against "as expected", never below 0 (CUSUM): with residual r − ER
and the standard error s that the probe has for one answer,

    S ← max(0, S − DROP/s² · (r − ER) − DROP²/2s²)

An alarm is S above a threshold from which, were nothing wrong, ``EVERY`` feedbacks pass between two alarms on average.

Source: Page (1954); that no rule is quicker at the same rate of false alarms: Lorden (1971); the threshold: Siegmund
(1985), with k = DROP/2s as the mean shift. That s is each answer's own is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# In reward units where rewards lie between 0 and 1; others scale it by what they spread.
DROP = 0.1
# Of normal noise; rewards of 0 and 1 are skewed, and ring up to eight times as often (docs/log/drift.md).
EVERY = 800_000.0
# One reward counts no further than so many standard errors: rare failures are far away whenever they come.
FURTHEST = 4.0
_OVERSHOOT = 1.166
_SMALLEST = 1e-9


@dataclass(frozen=True, slots=True)
class Drift:
    """What is remembered of one model's feedback.

    Attributes
    ----------
    drop : the loss to be noticed, in reward units
    total : S above
    n, shift2 : how many feedbacks, and the sum of their (drop/s)²
    """

    drop: float = DROP
    total: float = 0.0
    n: int = 0
    shift2: float = 0.0

    def heard(self, reward: float, expected: float, std_error: float) -> Drift:
        """With one more feedback; one that is no number, or of which no standard error is known, changes nothing.

        Parameters
        ----------
        std_error : of one answer's reward against the prediction, its noise included; above 0
        """
        if not (math.isfinite(reward) and math.isfinite(expected) and _SMALLEST < std_error < math.inf):
            return self
        shift = self.drop / std_error
        away = max(-FURTHEST, min(FURTHEST, (reward - expected) / std_error))
        total = max(0.0, self.total - shift * away - shift * shift / 2)
        return Drift(self.drop, total, self.n + 1, self.shift2 + shift * shift)

    @property
    def drifted(self) -> bool:
        """Whether it is time to ring."""
        return self.n > 0 and self.total > threshold(math.sqrt(self.shift2 / self.n))


def threshold(shift: float, every: float = EVERY) -> float:
    """What the sum must exceed.

    Parameters
    ----------
    shift : drop over standard error, as it is on average
    every : feedbacks between two false alarms, on average

    Source: Siegmund (1985), (exp(x) − x − 1) / (shift²/2) = every, with x = threshold + 1.166 · shift.
    """
    wanted = every * shift * shift / 2
    x = math.log1p(wanted)
    for _ in range(20):  # converges from below in a handful of steps
        x = math.log1p(wanted + x)
    return max(x - _OVERSHOOT * shift, math.log(2.0))
