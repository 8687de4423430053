"""What an answer cost, from whatever LiteLLM reports of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litellm_erp.budgets.amounts import amount
from litellm_erp.choice.cost import Price
from litellm_erp.serving.deployments import Member
from litellm_erp.serving.group import RoutedGroup

# What metadata are made of, first: asking whether a dict is a Mapping costs a walk through Python's abstract classes.
MAPPING = (dict, Mapping)
_MAX_TOKENS = 1e9
_MAX_ID_CHARS = 200
_NOT_PYDANTIC = object()


def cost_of(kwargs: Mapping[str, Any], response: Any, member: Member | None, group: RoutedGroup | None) -> float | None:
    """USD: what LiteLLM says, else tokens times our prices; LiteLLM loses prices it knew on some routes.

    Returns
    -------
    None where a price is known but neither a cost nor tokens that make sense were reported: the estimate stands
    """
    said, (tokens_in, tokens_out) = amount(kwargs.get("response_cost")), _tokens(kwargs, response)
    # A cost that was made of nonsense is none.
    if said and tokens_in is not None and tokens_out is not None:
        return said
    if kwargs.get("cache_hit") is True or member is None:
        return 0.0
    price = price_of(member, group)
    if price is None:
        return 0.0
    if tokens_in is None or tokens_out is None or tokens_in + tokens_out == 0:
        return None
    return usd_of(price, tokens_in, tokens_out)


def price_of(member: Member, group: RoutedGroup | None) -> Price | None:
    """Of a token: the deployment's own, else the bundle's, else the map's; None where it is not known."""
    price = member.price or (None if group is None else group.state.price_of(member.pool_model)) or member.map_price
    known = price is not None and price.input_usd_per_mtok is not None and price.output_usd_per_mtok is not None
    return price if known else None


def usd_of(price: Price, tokens_in: float, tokens_out: float) -> float | None:
    """USD of so many tokens at a price that is known."""
    return amount((tokens_in * (price.input_usd_per_mtok or 0) + tokens_out * (price.output_usd_per_mtok or 0)) / 1e6)


def _tokens(kwargs: Mapping[str, Any], response: Any) -> tuple[float | None, float | None]:
    """Tokens of the prompt and of the answer; None where what was said makes no sense, 0 where nothing was."""
    found = kwargs.get("standard_logging_object")
    logged = found if isinstance(found, MAPPING) else {}
    usage = field_of(response, "usage")
    return (
        _said(logged.get("prompt_tokens"), field_of(usage, "prompt_tokens"), field_of(usage, "input_tokens")),
        _said(logged.get("completion_tokens"), field_of(usage, "completion_tokens"), field_of(usage, "output_tokens")),
    )


def _said(*told: object) -> float | None:
    """The most of what was told; None where one makes no sense, a sign that the others do not either."""
    most = 0.0
    for value in told:
        if value is not None:
            number = amount(value, _MAX_TOKENS)
            if number is None:
                return None
            most = max(most, number)
    return most


def field_of(holder: Any, name: str) -> Any:
    """An item of a map, or an attribute of whatever else; None where there is none."""
    if isinstance(holder, MAPPING):
        return holder.get(name)
    extra: Any = getattr(holder, "__pydantic_extra__", _NOT_PYDANTIC)
    if extra is _NOT_PYDANTIC:
        return getattr(holder, name, None)
    # Asked for an attribute that it lacks, a model of pydantic's takes longer than all the rest of counting.
    found = vars(holder).get(name)
    return (extra or {}).get(name) if found is None else found


def answer_id(response: Any) -> str:
    """What tells one answer from another; "" where it has no name."""
    found = field_of(response, "id")
    return found[:_MAX_ID_CHARS] if isinstance(found, str) else ""
