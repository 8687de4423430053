"""Does LiteLLM pick what is left in for it? Asked of the real router at start, without calling any model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from litellm import Router
from litellm.integrations.custom_logger import CustomLogger

from litellm_erp.proxy.litellm_request import CLIENT_METADATA_KEY
from litellm_erp.proxy.litellm_router import version
from litellm_erp.serving.deployments import Deployment, MemberTable
from litellm_erp.telemetry import logger

# By chance alone a router of two models would follow all of them once in a million times.
_PICKS = 20
_forced: ContextVar[str | None] = ContextVar("litellm_erp_self_test", default=None)


class Forcing(CustomLogger):  # type: ignore[misc]
    """A callback that leaves in what a self-test forces, for a router that nothing else decides for."""

    def __init__(self, members: MemberTable) -> None:
        super().__init__()
        self._members = members

    async def async_filter_deployments(
        self, model: str, healthy_deployments: list[Any], *args: Any, **kwargs: Any
    ) -> list[Any]:
        """The deployments of the forced model."""
        wanted = forced()
        return healthy_deployments if wanted is None else left_in(healthy_deployments, self._members, wanted)


def left_in(deployments: Sequence[Deployment], members: MemberTable, model: str) -> list[Deployment]:
    """The deployments that a pool model is served by."""
    return [d for d in deployments if model in _models(d, members)]


def _models(deployment: Deployment, members: MemberTable) -> frozenset[str]:
    return frozenset([member.pool_model for member in members.member(deployment).each])


def forced() -> str | None:
    """The pool model that is to be left in whatever the request says; None outside a self-test."""
    return _forced.get()


@contextmanager
def _forcing(model: str) -> Iterator[None]:
    token = _forced.set(model)
    try:
        yield
    finally:
        _forced.reset(token)


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What a router did with synthetic picks.

    Attributes
    ----------
    picks, right : how many were made, and how many of them gave a deployment of the model that was left in
    problem : why nothing could be picked; "" where it could
    """

    picks: int = 0
    right: int = 0
    problem: str = ""

    @property
    def conclusive(self) -> bool:
        """Whether anything was picked."""
        return self.picks > 0

    @property
    def followed(self) -> bool:
        """Whether every pick was as decided."""
        return self.conclusive and self.right == self.picks

    def log(self, group: str) -> None:
        """One line."""
        if self.followed:
            logger.info("group %r: LiteLLM %s follows what is decided", group, version())
        elif self.conclusive:
            logger.error("group %r: %s", group, self.text())

    def text(self) -> str:
        """What it means, for whoever operates the proxy."""
        if self.problem:
            return f"the self-test could not pick a deployment ({self.problem})"
        return (
            f"LiteLLM {version()} does NOT follow what is decided: {self.picks - self.right} of "
            f"{self.picks} synthetic picks went elsewhere, so requests are not routed. Use a version of LiteLLM that "
            "this plugin was tried on (README), or report this one"
        )


async def run(
    router: Router, group: str, deployments: Sequence[Deployment], members: MemberTable, picks: int = _PICKS
) -> SelfTest:
    """Have a router pick for each pool model in turn, the model being the only one left in.

    Parameters
    ----------
    deployments : of the group

    Returns
    -------
    SelfTest; inconclusive where fewer than two pool models of the group can be picked
    """
    served = {_models(deployment, members) for deployment in deployments}
    # Arms of one deployment are told apart by what is sent, and nothing is sent here.
    models = deque(sorted(frozenset[str]().union(*served)) if len(served) >= 2 else ())
    right, made, problem = 0, 0, ""
    while len(models) >= 2 and made < picks:
        try:
            with _forcing(models[0]):
                picked = await _pick(router, group)
        except Exception as e:
            # What cools down, is limited or is another team's says nothing of LiteLLM; the other models do.
            models.popleft()
            problem = type(e).__name__
            continue
        right += models[0] in _models(picked, members)
        made += 1
        models.rotate(-1)
    return SelfTest(made, right) if made == picks else SelfTest(problem=problem)


async def _pick(router: Router, group: str) -> Deployment:
    picked: Any = await router.async_get_available_deployment(
        model=group, request_kwargs={CLIENT_METADATA_KEY: {}}, messages=[{"role": "user", "content": "."}]
    )
    return picked if isinstance(picked, dict) else picked.model_dump()
