"""What a call cost, from what is reported of it."""

from __future__ import annotations

from dataclasses import dataclass

from litellm_erp.budgets.amounts import amount
from litellm_erp.choice.cost import Price
from litellm_erp.serving.deployments import Member


@dataclass(frozen=True, slots=True)
class FinishedCall:
    """What is reported of a call that brought an answer.

    Attributes
    ----------
    deployment_id : which answered; "" where that is not said
    group : the model group that was asked last; None where that is not said
    cached : whether it came from a cache, and so from no deployment
    id : what tells it from others; "" where it has no name
    usd : what it is said to have cost; None where nothing that makes sense is said
    tokens_in, tokens_out : of the prompt and of the answer; None where what is said makes no sense, 0 for nothing
    """

    deployment_id: str = ""
    group: str | None = None
    cached: bool = False
    id: str = ""
    usd: float | None = None
    tokens_in: float | None = 0.0
    tokens_out: float | None = 0.0


def cost_of(
    call: FinishedCall, member: Member | None, bundle_price: Price | None, *, estimated: bool = False
) -> float | None:
    """USD: what is said, else tokens times our prices; LiteLLM loses prices it knew on some routes.

    Parameters
    ----------
    bundle_price : see :func:`token_price`
    estimated : whether requests of this model have an estimate although it has no price: what was recorded of it

    Returns
    -------
    None where the estimate stands: a price is known but neither a cost nor tokens that make sense were reported, or
    none is known and there is an estimate all the same
    """
    tokens_in, tokens_out = call.tokens_in, call.tokens_out
    # A cost that was made of nonsense is none.
    if call.usd and tokens_in is not None and tokens_out is not None:
        return call.usd
    if call.cached or member is None:
        return 0.0
    price = token_price(member, bundle_price)
    if price is None:
        return None if estimated else 0.0
    if tokens_in is None or tokens_out is None or tokens_in + tokens_out == 0:
        return None
    return usd_of(price, tokens_in, tokens_out)


def token_price(member: Member, bundle_price: Price | None) -> Price | None:
    """The deployment's own price, else the bundle's, else the map's; None where none is known by token."""
    price = member.price or bundle_price or member.map_price
    known = price is not None and price.input_usd_per_mtok is not None and price.output_usd_per_mtok is not None
    return price if known else None


def usd_of(price: Price, tokens_in: float, tokens_out: float) -> float | None:
    """USD of so many tokens at a price that is known."""
    return amount((tokens_in * (price.input_usd_per_mtok or 0) + tokens_out * (price.output_usd_per_mtok or 0)) / 1e6)
