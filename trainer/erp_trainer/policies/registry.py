"""PURE. Every policy there is. A new one is a module of its own and a line here.

Where a bundle can hold it, its predictor is a module of `litellm_erp.bundle.stored`; of a linear policy, a name in
`litellm_erp.bundle.policy_files.LINEAR`.
"""

from __future__ import annotations

from erp_trainer.policies.base import PolicySpec
from erp_trainer.policies.benchmark import BENCHMARK
from erp_trainer.policies.cascade import AUTOMIX, FRUGALGPT
from erp_trainer.policies.erp import BEST, PAPER
from erp_trainer.policies.pairwise import PAIRWISE
from erp_trainer.policies.rankings import LOG_LIKELIHOOD, REWARD_RANKING
from erp_trainer.policies.zooter import ZOOTER
from litellm_erp.errors import FitError

# In the order in which they are listed to people.
POLICIES: tuple[PolicySpec, ...] = (
    BEST,
    PAPER,
    ZOOTER,
    BENCHMARK,
    PAIRWISE,
    FRUGALGPT,
    AUTOMIX,
    REWARD_RANKING,
    LOG_LIKELIHOOD,
)
# Names of those that a bundle can hold.
SERVED: tuple[str, ...] = tuple(dict.fromkeys(policy.name for policy in POLICIES if policy.servable))


def served(name: str) -> PolicySpec:
    """A policy that a bundle can hold; of several presets the first.

    Raises
    ------
    FitError : there is none of that name
    """
    if name not in SERVED:
        raise FitError(f"no policy {name!r} that a bundle can hold; expected one of {', '.join(SERVED)}")
    return next(policy for policy in POLICIES if policy.name == name)
