"""Which models of a group have drifted, for whom, and what they are worth until they are refitted.

Each account's feedback on a model has a sum of its own, and all accounts' together have one. An account's own sum
quarantines a model for that account. For all it is quarantined where the pooled sum would ring without whichever
account speaks against it most: nobody alone takes a model from others, whatever they send.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from litellm_erp.bundle.bundle import Bundle
from litellm_erp.drift.expected import Residual, fit_of
from litellm_erp.drift.residuals import FURTHEST, Drift, threshold

_MOST_OWN = 5_000
_MOST_POOLED = 1_000
_MOST_ACCOUNTS = 200
_OTHERS = ""
_S = TypeVar("_S", bound="Sum")


@dataclass(slots=True)
class Sum:
    """What feedback says of one fit of a model.

    Attributes
    ----------
    rung : whether it has drifted; stays so
    n, away : feedbacks, and the sum of their residuals as shares of the span, since its evidence last stood at 0, or
        since it did before it rang
    """

    drift: Drift = field(default_factory=Drift)
    rung: bool = False
    n: int = 0
    away: float = 0.0

    def hear(self, found: Residual) -> bool:
        """Take in one residual; True where it rings now for the first time."""
        before = self.drift
        self.drift = before.heard(found.away, 0.0, found.std_error)
        if self.drift is before:
            return False
        self._count(found.account, self.drift.total - before.total)
        if self.drift.total == 0.0 and not self.rung:
            self.n, self.away = 0, 0.0
        else:
            self.n += 1
            self.away += max(-FURTHEST * found.std_error, min(FURTHEST * found.std_error, found.away))
        if self.rung or self._score() <= 1.0:
            return False
        self.rung = True
        return True

    @property
    def loss(self) -> float:
        """By how much the model is worse than expected, on average, as a share of the span; at least 0."""
        return max(0.0, -self.away / self.n) if self.n else 0.0

    @property
    def score(self) -> float:
        """Evidence over what it takes to ring; stays at 1 or above once it has rung."""
        return max(1.0, self._score()) if self.rung else self._score()

    def _score(self) -> float:
        return self._evidence() / threshold(math.sqrt(self.drift.shift2 / self.drift.n)) if self.drift.n else 0.0

    def _evidence(self) -> float:
        return self.drift.total

    def _count(self, account: str, evidence: float) -> None:
        """Whose evidence it is."""


@dataclass(slots=True)
class PooledSum(Sum):
    """All accounts' feedback.

    Attributes
    ----------
    by_account : each one's part of the evidence since that last stood at 0
    """

    by_account: dict[str, float] = field(default_factory=dict)

    def _evidence(self) -> float:
        return max(0.0, self.drift.total - max(self.by_account.values(), default=0.0))

    def _count(self, account: str, evidence: float) -> None:
        if self.drift.total == 0.0:
            self.by_account.clear()
            return
        if account not in self.by_account and len(self.by_account) >= _MOST_ACCOUNTS:
            # Together they are one, who alone rings nothing.
            account = _OTHERS
        self.by_account[account] = self.by_account.get(account, 0.0) + evidence


class DriftTable:
    """What feedback says of one group's models.

    Attributes
    ----------
    any : whether any model has drifted for anybody; all that a request has to look at while nothing has
    """

    def __init__(self) -> None:
        self.any = False
        self._pooled: OrderedDict[str, PooledSum] = OrderedDict()
        self._own: OrderedDict[tuple[str, str], Sum] = OrderedDict()
        self._rung: dict[str, set[str]] = {}
        self._fits: tuple[str, Mapping[str, str]] | None = None

    def hear(self, found: Residual) -> list[tuple[str, float]]:
        """Take in one residual.

        Returns
        -------
        (account, loss as a share of the span) of each sum that rings now for the first time; "" for all accounts
        """
        pooled = _kept(self._pooled, found.fitted, PooledSum(), _MOST_POOLED)
        own = _kept(self._own, (found.account, found.fitted), Sum(), _MOST_OWN)
        ringing = [(account, s.loss) for account, s in (("", pooled), (found.account, own)) if s.hear(found)]
        if ringing:
            self.any = True
            self._rung = {"": {fitted for fitted, s in self._pooled.items() if s.rung}}
            for (account, fitted), s in self._own.items():
                if s.rung:
                    self._rung.setdefault(account, set()).add(fitted)
        return ringing

    def losses(self, bundle: Bundle, account: str) -> dict[str, float]:
        """Models of a bundle that have drifted for an account or for all: by how much, as a share of the span.

        Parameters
        ----------
        account : a digest
        """
        fits, found = self._fits_of(bundle), {}
        for fitted in self._rung.get("", set()) | self._rung.get(account, set()):
            if (model := fits.get(fitted)) is None:
                continue
            own, pooled = self._own.get((account, fitted)), self._pooled.get(fitted)
            losses = [s.loss for s in (pooled, own) if s is not None and s.rung]
            if losses:
                found[model] = max(losses)
        return found

    def shown(self, bundle: Bundle) -> Iterator[tuple[str, str, Sum]]:
        """(account, model, its sum) of the fits that a bundle has; account "" for all."""
        fits = self._fits_of(bundle)
        yield from (("", fits[fitted], s) for fitted, s in list(self._pooled.items()) if fitted in fits)
        yield from ((account, fits[fitted], s) for (account, fitted), s in list(self._own.items()) if fitted in fits)

    def _fits_of(self, bundle: Bundle) -> Mapping[str, str]:
        """Models by their fits."""
        if self._fits is None or self._fits[0] != bundle.id:
            self._fits = bundle.id, {fit: model for model in bundle.models if (fit := fit_of(bundle, model))}
        return self._fits[1]


_K = TypeVar("_K")


def _kept(held: OrderedDict[_K, _S], key: _K, new: _S, most: int) -> _S:
    """What stands under a key, which becomes the newest; the oldest goes where there are too many."""
    found = held.pop(key, new)
    held[key] = found
    while len(held) > most:
        held.popitem(last=False)
    return found
