"""PURE. What is compared: a policy, fitted, with what it chooses on the test prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from erp_trainer.learning.outcome import Outcome
from erp_trainer.learning.training_table import Table

Kind = Literal["bundle", "rival", "baseline", "single", "bound"]


@dataclass(frozen=True, slots=True)
class Contender:
    """One policy in an evaluation.

    Attributes
    ----------
    key : its name in the payload, such as ``erp`` or ``single:gpt-4``
    label : what people read
    kind : ``bundle`` is what is evaluated, ``rival`` another learned policy, ``baseline`` one that is not learned,
        ``single`` always one model, ``bound`` what no router can do (it looks at test rewards, or pays for every model)
    by_lambda : whether it chooses otherwise at another λ
    outcome : from the test table and λ to what it earns and costs; only a ``bound`` looks at the rewards to choose
    scores_PM : shape (P, M), what it believes each model earns on each test prompt, comparable between models of a
        prompt; None where it has no such thing
    pair_probability : from models a and b (columns) to its probability that b earns more than a, shape (P,)
    servable : whether a bundle can hold it
    """

    key: str
    label: str
    kind: Kind
    by_lambda: bool
    outcome: Callable[[Table, float], Outcome]
    scores_PM: np.ndarray | None = None
    pair_probability: Callable[[int, int], np.ndarray] | None = None
    servable: bool = False
