"""A bundle measured on a run's test prompts, beside every baseline and rival: from files to the payload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from erp_trainer.bundles.records import penalties_of
from erp_trainer.bundles.training_data import table_of
from erp_trainer.evaluation import payload as payloads
from erp_trainer.evaluation.contenders import Contender, baselines, rivals_of
from erp_trainer.learning.bootstrap import Resamples
from erp_trainer.learning.embed import embed_run
from erp_trainer.learning.ridge import Penalties
from erp_trainer.learning.training_table import Table
from erp_trainer.outcomes.run import Run
from erp_trainer.outcomes.table import OutcomesTable
from erp_trainer.policies.base import Choose, Tuning, routed
from erp_trainer.policies.frontier import default_lambdas
from erp_trainer.policies.registry import POLICIES
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.ranking import Scores, score, trust
from litellm_erp.embedding import Embedder
from litellm_erp.errors import RunError

# A long table is measured at every other λ of the bundle's frontier.
_MANY_PROMPTS = 20_000


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure.

    Attributes
    ----------
    lambdas : where policies are listed, the first being the λ asked; empty takes 0 and points down the frontier
    rivals : compare with the other policies, fitted on the same train split
    leave_one_task_out, price_of_adding : measure these too, which fits many times
    seed : of resamples and folds
    """

    lambdas: tuple[float, ...] = ()
    rivals: bool = True
    leave_one_task_out: bool = False
    price_of_adding: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Evaluation:
    """The arrays behind a payload.

    Attributes
    ----------
    test, train : tables of the pool models that have test outcomes
    prompt_ids, prompts : of the test rows
    scores : the bundle's predictions on the test rows, for all of its models
    measured : shape (M,), int; which of the bundle's models ``test`` has, in its order
    lambdas : where policies are listed; the first is the λ asked
    grid : λ of the curves, ascending, with all of ``lambdas`` and 0
    contenders : the bundle first
    left_out : test prompts whose text occurs in train
    samples : median number of samples behind a test outcome
    """

    bundle: Bundle
    options: Options
    test: Table
    train: Table
    prompt_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    scores: Scores
    measured: np.ndarray
    lambdas: tuple[float, ...]
    grid: tuple[float, ...]
    left_out: int
    samples: int

    def choice(self, lambda_: float, *, safety: bool = True) -> np.ndarray:
        """The bundle's first choice per test prompt among the models recorded there, shape (P,)."""
        return self._choose(self.test, lambda_, safety=safety)

    def _choose(self, table: Table, lambda_: float, *, safety: bool = True) -> np.ndarray:
        return self.choose_by(table, self.predicted_PM, self.mean_reward_M, lambda_, safety=safety)

    def choose_by(
        self, table: Table, predicted_PM: np.ndarray, mean_reward_M: np.ndarray, lambda_: float, *, safety: bool = True
    ) -> np.ndarray:
        """First choices by other predictions, leaning towards other means, with the bundle's costs and trust."""
        return table.choose(
            predicted_PM,
            lambda_,
            mean_reward_M=mean_reward_M if safety and self.bundle.manifest.safety else None,
            trust=trust(self.bundle, self.scores, lambda_)[:, None],
            expected_cost_PM=self.scores.cost[:, self.measured],
        )

    @property
    def predicted_PM(self) -> np.ndarray:
        """What the bundle expects each measured model to earn, before safety, shape (P, M)."""
        return self.scores.expected_reward[:, self.measured]

    @property
    def mean_reward_M(self) -> np.ndarray:
        """Mean training rewards of the measured models, as the bundle has them, shape (M,)."""
        return self.bundle.mean_reward_M[self.measured]

    @property
    def penalties(self) -> Penalties:
        """Ridge penalties of the bundle's probes."""
        return penalties_of(self.bundle.manifest)

    @property
    def std_error_PM(self) -> np.ndarray:
        """Standard error of those predictions against an observed mean, shape (P, M)."""
        return self.bundle.uncertainty.std_error(self.scores.leverage)[:, self.measured]

    @cached_property
    def contenders(self) -> tuple[Contender, ...]:
        """The bundle, then its rivals, the baselines and the single models."""
        name = self.bundle.manifest.policy
        found = [self._contender(name, name, self._choose)]
        if self.bundle.manifest.safety:
            found.append(self._contender(f"{name}-no-safety", f"{name} --no-safety", self._unsafe))
        return (*found, *self._rivals[0], *baselines(self.test, self.train, name, self._choose))

    def _contender(self, key: str, label: str, choose: Choose) -> Contender:
        return Contender(key, label, "bundle", True, routed(choose), self.predicted_PM, servable=True)

    @property
    def missing_rivals(self) -> dict[str, str]:
        """Policies that could not be fitted, and why."""
        return self._rivals[1]

    @cached_property
    def _rivals(self) -> tuple[list[Contender], dict[str, str]]:
        if not self.options.rivals:
            return [], {}
        manifest = self.bundle.manifest
        return rivals_of(manifest.policy, manifest.preset, self.tuning, self.test)

    @cached_property
    def tuning(self) -> Tuning:
        """The rivals' options, chosen once on train."""
        return Tuning(POLICIES, self.train, self.options.seed)

    def _unsafe(self, table: Table, lambda_: float) -> np.ndarray:
        return self._choose(table, lambda_, safety=False)

    @cached_property
    def resamples(self) -> Resamples:
        """The resamples that all intervals share."""
        return Resamples.draw(self.test.groups_P, seed=self.options.seed)

    def payload(self) -> dict[str, Any]:
        """The whole result; docs/evaluation.md lists its keys."""
        return payloads.of(self)


def evaluation_of(
    run: Run,
    bundle: Bundle,
    embedder: Embedder,
    options: Options = Options(),
    advance: Callable[[int], None] = lambda steps: None,
) -> Evaluation:
    """Everything that is measured, before it is measured; the bundle is not changed.

    Test prompts whose text also occurs in train are left out and counted.

    Raises
    ------
    RunError : the run has no test prompts, or none of a pool model's outcomes
    """
    outcomes = run.outcomes()
    if missing := sorted(set(bundle.models) - set(outcomes.models)):
        raise RunError(f"{run.path}: no outcomes of pool model {missing[0]!r}; evaluate on a run that has them")
    embedded = embed_run(run, outcomes, embedder, advance)
    everything = table_of(outcomes, embedded, run.prices(), bundle.manifest.expected_output_tokens)
    everything = everything.columns([outcomes.models.index(name) for name in bundle.models])
    splits = np.array(outcomes.splits)
    answered = ~np.isnan(everything.rewards_PM).all(axis=1)
    train = everything.rows((splits == "train") & answered)
    seen = np.isin(everything.groups_P, train.groups_P)
    held_out = (splits == "test") & ~seen & answered
    if not held_out.any():
        raise RunError(f"{run.path}: no test prompt that is not in train too; import outcomes with a test split")
    test = everything.rows(held_out)
    # A model added with a part of the prompts may have no test outcomes; it cannot be measured here.
    measured = np.flatnonzero(~np.isnan(test.rewards_PM).all(axis=0))
    test, train = test.columns(measured.tolist()), train.columns(measured.tolist())
    scores = score(bundle, test.embeddings_PD, embedded.input_tokens_P[held_out][:, None], prices=bundle.prices())
    lambdas = tuple(options.lambdas) or tuple(default_lambdas(bundle.frontier))
    rows = np.flatnonzero(held_out).tolist()
    return Evaluation(
        bundle=bundle,
        options=options,
        test=test,
        train=train,
        prompt_ids=tuple(outcomes.prompt_ids[row] for row in rows),
        prompts=tuple(outcomes.prompts[row] for row in rows),
        scores=scores,
        measured=measured,
        lambdas=lambdas,
        grid=_grid(bundle, lambdas, len(test)),
        left_out=int(((splits == "test") & seen).sum()),
        samples=_samples(outcomes, held_out),
    )


def evaluate(
    run: Run,
    bundle: Bundle,
    embedder: Embedder,
    lambdas: Sequence[float] = (),
    advance: Callable[[int], None] = lambda steps: None,
) -> dict[str, Any]:
    """The payload of ``evaluation_of`` with its options as they are."""
    return evaluation_of(run, bundle, embedder, Options(lambdas=tuple(lambdas)), advance).payload()


def _grid(bundle: Bundle, lambdas: Sequence[float], prompts: int) -> tuple[float, ...]:
    step = 1 if prompts <= _MANY_PROMPTS else 2
    return tuple(sorted({0.0, *lambdas, *bundle.frontier.lambda_L[::step].tolist()}))


def _samples(outcomes: OutcomesTable, rows: np.ndarray) -> int:
    counts = outcomes.n_samples_PM[rows]
    return int(np.median(counts[counts > 0]))
