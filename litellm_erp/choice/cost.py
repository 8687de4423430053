"""PURE. What a request is expected to cost: token counts times prices.

Costs are USD per request, float64, NaN where a price is unknown (never zero). A pool whose prices are
``relative_cost`` (the paper's cost proportional to parameters) has that number as its cost instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from litellm_erp.errors import PricesError
from litellm_erp.shown import is_finite_number, shown

DEFAULT_OUTPUT_TOKENS = 256
# Far above any price, and far below where its products with token counts and λ overflow.
LARGEST_PRICE = 1e15
_FIELDS = ("input_usd_per_mtok", "output_usd_per_mtok", "cached_input_usd_per_mtok", "relative_cost")


@dataclass(frozen=True, slots=True)
class Price:
    """Price of one pool model: USD per million tokens, or a relative cost per request.

    Attributes
    ----------
    cached_input_usd_per_mtok : of input that the provider reads from its prompt cache; None where that is not stated,
        and cached input costs what any does
    """

    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None
    cached_input_usd_per_mtok: float | None = None
    relative_cost: float | None = None

    @property
    def cache_saves_usd_per_mtok(self) -> float:
        """What a million tokens from the prompt cache cost less than others; at least 0."""
        if self.input_usd_per_mtok is None or self.cached_input_usd_per_mtok is None or self.relative_cost is not None:
            return 0.0
        return max(0.0, self.input_usd_per_mtok - self.cached_input_usd_per_mtok)

    @property
    def known(self) -> bool:
        """Whether a request's cost can be computed from this price."""
        per_token = self.input_usd_per_mtok is not None and self.output_usd_per_mtok is not None
        return per_token or self.relative_cost is not None

    @classmethod
    def from_json(cls, value: object, *, where: str) -> Price:
        """Read and check a price.

        Raises
        ------
        PricesError : no map, unknown key, a number that is negative or not finite, or both kinds of price at once
        """
        if not isinstance(value, Mapping):
            raise PricesError(f"{where}: found {shown(value)}; expected a map of {', '.join(_FIELDS)}")
        unknown = sorted(set(value) - set(_FIELDS))
        if unknown:
            raise PricesError(f"{where}: unknown key {shown(unknown[0])}; expected {', '.join(_FIELDS)}")
        numbers: dict[str, float] = {}
        for key, raw in value.items():
            if raw is None:
                continue
            if isinstance(raw, bool) or not isinstance(raw, (int, float)):
                raise PricesError(f"{where}: {key} is {shown(raw)}; expected a number")
            if not is_finite_number(raw) or not 0 <= raw <= LARGEST_PRICE:
                raise PricesError(
                    f"{where}: {key} is {shown(raw)}; expected a finite number of at least 0, and at most "
                    f"{LARGEST_PRICE:g}"
                )
            numbers[key] = float(raw)
        if "relative_cost" in numbers and len(numbers) > 1:
            raise PricesError(f"{where}: both a relative_cost and USD prices are stated; keep one kind")
        return cls(**numbers)

    def to_json(self) -> dict[str, float]:
        """The stated fields only."""
        return {key: getattr(self, key) for key in _FIELDS if getattr(self, key) is not None}


UNKNOWN_PRICE = Price()


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices of M models as arrays, so that a request's costs are three vector operations.

    ``fixed_M`` is a cost that does not depend on the request (``relative_cost``, or the ``paper`` preset's
    constant cost per model); where it is NaN the token prices count. ``cache_saves_M`` is what a token costs less
    that comes from the prompt cache.
    """

    input_M: np.ndarray
    output_M: np.ndarray
    fixed_M: np.ndarray
    cache_saves_M: np.ndarray

    @classmethod
    def from_prices(cls, prices: Sequence[Price]) -> PriceTable:
        """Arrays of shape (M,) in the order of ``prices``; USD per token."""

        def column(name: str, scale: float) -> np.ndarray:
            values = [getattr(price, name) for price in prices]
            return np.array([np.nan if v is None else v * scale for v in values], dtype=np.float64)

        return cls(
            column("input_usd_per_mtok", 1e-6),
            column("output_usd_per_mtok", 1e-6),
            column("relative_cost", 1.0),
            column("cache_saves_usd_per_mtok", 1e-6),
        )

    def expected_cost(self, input_tokens: float | np.ndarray, output_tokens: float | np.ndarray) -> np.ndarray:
        """Expected cost of a request at every model.

        Parameters
        ----------
        input_tokens : scalar or shape (P, 1), of the full prompt
        output_tokens : scalar, shape (M,) or (P, M), expected

        Returns
        -------
        shape (M,) or (P, M), USD per request (or relative cost); NaN where unknown

        Source: ours; arXiv 2603.20217 takes c(i) constant per model.
        """
        by_tokens = self.input_M * input_tokens + self.output_M * output_tokens
        return np.where(np.isnan(self.fixed_M), by_tokens, self.fixed_M)
