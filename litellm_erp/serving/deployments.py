"""LiteLLM's deployments seen as pool models: names, prices, capabilities, windows; and which of them are left in.

A pool model is chosen, not a deployment: what is left are its replicas, which LiteLLM balances as always.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from litellm_erp import effort
from litellm_erp.choice.cost import Price
from litellm_erp.errors import SettingsError
from litellm_erp.telemetry import Once

Deployment = dict[str, Any]
# What LiteLLM's model map says of a model: prices and supports_* flags; None where it does not know it.
ModelInfo = Callable[[str], Mapping[str, Any] | None]

CAPABILITIES = ("supports_vision", "supports_function_calling", "supports_response_schema")
# What requests are made of, first: asking whether a dict is a Mapping costs a walk through Python's abstract classes.
_MAPPING = (dict, Mapping)
_IMAGE_PARTS = frozenset({"image_url", "image", "input_image"})
NO_PRICES = (
    "every price is zero or unknown, so λ can do nothing; state input_cost_per_token and output_cost_per_token in "
    "litellm_params, or fit with --prices"
)
# Tokenizers differ: a prompt this much smaller than a window, by LiteLLM's count, fits it by any upstream's.
COUNT_MARGIN = 1.1
_once = Once()
# A window outweighs a capability: a prompt that is too long fails for certain.
_PER_WINDOW_TIER = 3


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One deployment as the router sees it, or one arm of it; compared by identity: hundreds are a quick key.

    Attributes
    ----------
    id : LiteLLM's deployment id
    pool_model : the arm, or ``model_info.erp_model``, else the deployment's ``model_name``
    price : the deployment's own; None where it states none
    map_price : from LiteLLM's price map; None where it has none
    capabilities : one of True, False, None (not known) per name in ``CAPABILITIES``
    access_groups : LiteLLM access groups of the deployment
    max_input_tokens, max_output_tokens : inf where not known
    parameters : of an arm, sent with each call of it; None of a deployment, which is called as it is
    arms : of a deployment that stands for several pool models
    """

    id: str
    model_name: str
    pool_model: str
    price: Price | None
    map_price: Price | None
    capabilities: tuple[bool | None, ...]
    access_groups: tuple[str, ...]
    max_input_tokens: float = math.inf
    max_output_tokens: float = math.inf
    parameters: Mapping[str, Any] | None = None
    arms: tuple[Member, ...] = ()

    @property
    def each(self) -> tuple[Member, ...]:
        """The pool models that it stands for, as members: its arms, or itself."""
        return self.arms or (self,)


class MemberTable:
    """Members by deployment id, read once per deployment and again when LiteLLM replaces it.

    Parameters
    ----------
    windows : the input window that LiteLLM takes a provider's model to have where a deployment states none

    Attributes
    ----------
    has_arms : whether any deployment so far stands for several pool models
    """

    def __init__(self, model_info: ModelInfo, windows: Callable[[str], object] = lambda model: None) -> None:
        self._model_info = model_info
        self._windows = windows
        self._members: dict[str, tuple[object, object, Member]] = {}
        self.has_arms = False

    def member(self, deployment: Deployment) -> Member:
        """The member that a deployment is; as fast as a dict look-up after the first time."""
        params, info = deployment.get("litellm_params"), deployment.get("model_info")
        own = info.get("id") if isinstance(info, dict) else None
        # LiteLLM gives every deployment an id; what has none yet is told apart by where it lies.
        key = str(id(deployment)) if own is None else str(own)
        known = self._members.get(key)
        if known is not None and known[0] is params and known[1] is info:
            return known[2]
        # LiteLLM may hand out copies; equal content is the same deployment all the same.
        same = known is not None and known[0] == params and known[1] == info
        member = known[2] if known is not None and same else self._read(key, deployment)
        self._members[key] = (params, info, member)
        return member

    def by_id(self, deployment_id: str, arms: Mapping[str, Member] = MappingProxyType({})) -> Member | None:
        """A member seen before, or None.

        Parameters
        ----------
        arms : those that deployments were called as, see ``Note.arms``
        """
        if arms and deployment_id in arms:
            return arms[deployment_id]
        known = self._members.get(deployment_id)
        return None if known is None else known[2]

    def _read(self, key: str, deployment: Deployment) -> Member:
        params = deployment.get("litellm_params") or {}
        info = deployment.get("model_info") or {}
        mapped_name = info.get("base_model") or params.get("base_model") or params.get("model")
        mapped_name = str(mapped_name or "")
        known = self._model_info(mapped_name) or {}
        model_name = str(deployment.get("model_name", ""))
        access = info.get("access_groups")
        member = Member(
            id=key,
            model_name=model_name,
            pool_model=str(info.get("erp_model") or model_name),
            price=_token_price(params) or _token_price(info),
            map_price=_token_price(known),
            capabilities=tuple(_flag(info.get(name), known.get(name), bool(known)) for name in CAPABILITIES),
            access_groups=tuple(str(name) for name in access) if isinstance(access, (list, tuple)) else (),
            max_input_tokens=_limit(
                info.get("max_input_tokens"), known.get("max_input_tokens"), self._windows(mapped_name)
            ),
            max_output_tokens=_limit(info.get("max_output_tokens"), known.get("max_output_tokens")),
        )
        return member if info.get(effort.ARMS_KEY) is None else self._with_arms(member, info)

    def _with_arms(self, member: Member, info: Mapping[str, Any]) -> Member:
        try:
            stated = effort.arms_of(info, f"deployment {member.id!r}: model_info", SettingsError)
        except SettingsError as e:
            # What is wrong in a config is told at start; a deployment that comes later goes on as it is.
            _once.warn(str(e))
            return member
        self.has_arms = True
        arms = tuple(replace(member, pool_model=name, parameters=own) for name, own in stated.items())
        plain = next((arm.pool_model for arm in arms if not arm.parameters), member.pool_model)
        return replace(member, pool_model=plain, arms=arms)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request asks of a deployment.

    Attributes
    ----------
    capabilities : which of ``CAPABILITIES`` it uses
    input_tokens : of the whole request; 0 where every window is surely wide enough, inf where nobody could count them
    answer_tokens : room that it asks for its answer; 0 where it names no limit
    """

    capabilities: tuple[bool, ...] = (False,) * len(CAPABILITIES)
    input_tokens: float = 0.0
    answer_tokens: float = 0.0

    @property
    def is_demanding(self) -> bool:
        """Whether deployments can differ in how well they serve the request."""
        return self.input_tokens > 0 or True in self.capabilities

    def tier(self, member: Member) -> int:
        """0 where a deployment serves the request for certain; more, the less likely it does."""
        worst = 0
        for wanted, has in zip(self.capabilities, member.capabilities, strict=True):
            if wanted and has is not True:
                worst = max(worst, 1 if has is None else 2)
        return worst + _PER_WINDOW_TIER * self.window_tier(member)

    def window_tier(self, member: Member) -> int:
        """0 where the request fits a deployment's window with its answer, 1 where it is close, 2 where it does not."""
        if self.input_tokens <= 0:
            return 0
        if math.isfinite(self.input_tokens) and self.input_tokens > member.max_input_tokens:
            return 2
        needed = self.input_tokens * COUNT_MARGIN + self.answer_tokens
        fits = member.max_input_tokens == math.inf or needed <= member.max_input_tokens
        return 0 if fits and self.answer_tokens <= member.max_output_tokens else 1


NO_NEEDS = Needs()


def capabilities_used(messages: object, request: Mapping[str, Any]) -> tuple[bool, ...]:
    """Which of ``CAPABILITIES`` a request uses: images, tools, a response format."""
    schema = request.get("response_format")
    text = request.get("text")
    if schema is None and text is not None and isinstance(text, Mapping):
        schema = text.get("format")
    kind = schema.get("type") if schema is not None and isinstance(schema, Mapping) else None
    structured = isinstance(kind, str) and kind in ("json_schema", "json_object")
    turns = messages or request.get("messages") or request.get("input")
    return (_has_image(turns), bool(request.get("tools") or request.get("functions")), structured or callable(schema))


def narrowed(
    members: Sequence[Member],
    models: Sequence[str],
    failed: Collection[str] = (),
    needs: Needs | None = None,
) -> list[int]:
    """Which deployments to leave in: the replicas of the first pool model that has one which has not failed.

    Of its replicas those that serve the request best. Where none surely has room for it, wider windows of other
    models stay in too, so that whoever counts more exactly later finds something left.

    Parameters
    ----------
    models : pool models, best first
    failed : ids of deployments that failed in this request; they come last, also among themselves by rank, but before
        what has no room for the request: asked again they may serve it

    Returns
    -------
    positions, never empty unless ``models`` has none of the deployments
    """
    if not failed and (needs is None or not needs.is_demanding):
        # Nearly every request: replicas of a model serve it all alike.
        left = ([i for i, member in enumerate(members) if member.pool_model == model] for model in models)
        return next(filter(None, left), [])
    place = {model: i for i, model in enumerate(models)}
    ranked = [
        (
            (needs is not None and needs.window_tier(member) == 2, member.id in failed, place[member.pool_model]),
            needs.tier(member) if needs else 0,
            i,
        )
        for i, member in enumerate(members)
        if member.pool_model in place
    ]
    if not ranked:
        return []
    best, tier, _ = min(ranked)
    kept = [i for rank, own, i in ranked if (rank, own) == (best, tier)]
    if needs is not None and needs.window_tier(members[kept[0]]) == 1:
        widest = max(members[i].max_input_tokens for i in kept)
        kept += [i for (_, gone, _), _, i in ranked if not gone and members[i].max_input_tokens > widest]
    return kept


def pool_price(members: Sequence[Member]) -> Price | None:
    """Price of a pool model from its replicas: the mean of those that state one, as LiteLLM balances them."""
    stated = [member.price for member in members if member.price is not None]
    if not stated:
        return None
    cached = [usd for price in stated if (usd := price.cached_input_usd_per_mtok) is not None]
    return Price(
        float(np.mean([price.input_usd_per_mtok for price in stated])),
        float(np.mean([price.output_usd_per_mtok for price in stated])),
        cached_input_usd_per_mtok=float(np.mean(cached)) if len(cached) == len(stated) else None,
    )


def served_price(recorded: Price, members: Sequence[Member]) -> Price:
    """Price that counts for a pool model: its replicas' own, else the bundle's, else that of LiteLLM's map."""
    mapped = next((member.map_price for member in members if member.map_price is not None), None)
    return pool_price(members) or (recorded if recorded.known else mapped or recorded)


def _token_price(source: Mapping[str, Any]) -> Price | None:
    numbers = [source.get(key) for key in ("input_cost_per_token", "output_cost_per_token")]
    if all(number is None for number in numbers):
        return None
    try:
        input_usd, output_usd = (float(number or 0.0) * 1e6 for number in numbers)
    except (TypeError, ValueError):
        return None
    valid = np.isfinite([input_usd, output_usd]).all() and min(input_usd, output_usd) >= 0
    return Price(input_usd, output_usd, cached_input_usd_per_mtok=_cached_price(source)) if valid else None


def _cached_price(source: Mapping[str, Any]) -> float | None:
    """USD per million tokens that come from the prompt cache; None where no price that makes sense is stated."""
    try:
        usd = float(source["cache_read_input_token_cost"]) * 1e6
    except (KeyError, TypeError, ValueError):
        return None
    return usd if math.isfinite(usd) and usd >= 0 else None


def _limit(*stated: object) -> float:
    """The first that is a whole number of tokens."""
    for value in stated:
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return float(min(value, 10**12))
    return math.inf


def _flag(own: object, mapped: object, in_map: bool) -> bool | None:
    if isinstance(own, bool):
        return own
    # LiteLLM's map leaves out what a model cannot do.
    return bool(mapped) if in_map else None


def _has_image(turns: object) -> bool:
    if not isinstance(turns, (list, tuple)):
        return False
    for turn in turns:
        content = turn.get("content") if isinstance(turn, _MAPPING) else None
        if isinstance(content, (list, tuple)) and any(_is_image(part) for part in content):
            return True
    return False


def _is_image(part: object) -> bool:
    kind = part.get("type") if isinstance(part, Mapping) else None
    return isinstance(kind, str) and kind in _IMAGE_PARTS
