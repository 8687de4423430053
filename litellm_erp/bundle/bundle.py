"""A loaded bundle, as everything that ranks, solves or reports takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from litellm_erp.bundle.features import Features
from litellm_erp.bundle.frontier import Frontier
from litellm_erp.bundle.manifest import Manifest
from litellm_erp.bundle.predictors import Predictor
from litellm_erp.bundle.probe import Probes, Uncertainty
from litellm_erp.choice.cost import Price, PriceTable
from litellm_erp.effort import limit_of


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded bundle, read only.

    Attributes
    ----------
    path : the folder it was loaded from
    id : the first 12 hex digits of the manifest's sha256
    probes : one linear score per model; constants where the policy predicts with something else
    features : memberships that the predictor of an ERP bundle looks at beside them; None where it has none
    predictor : what predicts: the probes, or what the policy's own files hold
    output_tokens : a second head per model; its intercept is the stand-in where none was fitted
    mean_reward_M, tie_order_M : shape (M,), what ``decision.rank`` needs beside predictions
    """

    path: Path
    id: str
    manifest: Manifest
    probes: Probes
    predictor: Predictor
    output_tokens: Probes
    features: Features | None
    uncertainty: Uncertainty
    frontier: Frontier
    mean_reward_M: np.ndarray
    tie_order_M: np.ndarray

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the M pool models."""
        return tuple(model.name for model in self.manifest.models)

    @property
    def cost_scale(self) -> float:
        """Costs per unit of λ: 1000 for USD per request, 1 for relative cost."""
        return 1000.0 if self.manifest.cost_kind == "usd" else 1.0

    @property
    def longest_M(self) -> np.ndarray | None:
        """Shape (M,), the most output tokens that a model's own limit allows, inf without; None where none has."""
        limits = [limit_of(model.parameters or {}) for model in self.manifest.models]
        return None if not any(limits) else np.array([limit or np.inf for limit in limits])

    def prices(self, overrides: Mapping[str, Price] | None = None) -> PriceTable:
        """Prices of the M pool models; an override replaces the recorded price of its model.

        A constant cost stands where there is no price, and, of the ``paper`` preset, in the place of one.
        """
        overrides = overrides or {}
        table = PriceTable.from_prices([overrides.get(m.name, m.price) for m in self.manifest.models])
        recorded = [m.constant_cost_usd for m in self.manifest.models]
        constant = np.array([np.nan if usd is None else usd for usd in recorded])
        if self.manifest.preset != "paper":
            constant[[overrides.get(m.name, m.price).known for m in self.manifest.models]] = np.nan
        return replace(table, fixed_M=np.where(np.isnan(constant), table.fixed_M, constant))

    def embedder_directory(self) -> Path | None:
        """The folder of the bundle's own embedder, where it carries one."""
        return self.path / "embedder" if self.manifest.embedder_files else None
