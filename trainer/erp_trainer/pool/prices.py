"""IO. Prices of pool models: what a file states, and what LiteLLM's price map knows about the rest.

A price that is found nowhere stays unknown. It is never zero, because a free model would win every comparison.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from erp_trainer.pool.litellm_map import per_mtok, price_map
from erp_trainer.pool.price_names import SELF_HOSTED, PriceIndex
from erp_trainer.words import short
from litellm_erp.choice.cost import UNKNOWN_PRICE, Price
from litellm_erp.errors import PricesError
from litellm_erp.yaml_file import read_yaml

# Looking for names like one takes time, and a list of a hundred is read by nobody.
_MOST_SUGGESTED = 10


def load_prices(path: str | Path) -> dict[str, Price]:
    """Read a YAML map from model to ``{input_usd_per_mtok, output_usd_per_mtok}`` or ``{relative_cost}``.

    Returns
    -------
    dict from model to `Price`, USD per million tokens

    Raises
    ------
    PricesError : not a readable YAML map, an unknown key, a negative or non-numeric price, or both kinds at once;
        the message names the file and the model
    """
    path = Path(path)
    loaded = read_yaml(path, PricesError)
    if not isinstance(loaded, dict):
        raise PricesError(
            f"{path}: found {_kind(loaded)}; expected a map such as "
            "`gpt-4o-mini: {input_usd_per_mtok: 0.15, output_usd_per_mtok: 0.6}`"
        )
    return {name: _price(path, name, entry) for name, entry in loaded.items()}


def resolve_prices(
    models: Sequence[str], stated: Mapping[str, Price], *, warn: Callable[[str], None]
) -> dict[str, Price]:
    """Price every pool model: stated prices first, then LiteLLM's price map, which is read without network.

    Parameters
    ----------
    models : the pool
    stated : from `load_prices`; empty where there is no file
    warn : called with one line about each model whose cost stays unknown, and each price nobody needs

    Returns
    -------
    dict from every pool model to its `Price`; `Price.known` is false where no cost can be computed

    Raises
    ------
    PricesError : some of the pool's prices are relative and some are in USD
    """
    for name in sorted(set(stated) - set(models)):
        warn(f"a price is stated for {short(name)!r}, which is not a model of the outcomes; it is ignored")
    mine = {name: stated.get(name, UNKNOWN_PRICE) for name in models}
    relative = [name for name, price in mine.items() if price.relative_cost is not None]
    in_usd = [name for name, price in mine.items() if price.relative_cost is None and price != UNKNOWN_PRICE]
    if relative and in_usd:
        raise PricesError(
            f"prices of two kinds in one pool: {relative[0]!r} has a relative_cost and {in_usd[0]!r} is in USD; "
            "costs of different units cannot be compared. State one kind for all models"
        )
    if not relative:
        mine = {name: price if price.known else _completed(name, price) for name, price in mine.items()}
    suggestions = 0
    for name, price in mine.items():
        if not price.known:
            places = [*(["the price file"] if stated else []), *([] if relative else ["LiteLLM's price map"])]
            where = " or ".join(places)
            near = [] if relative or suggestions == _MOST_SUGGESTED else _index().near(name)
            suggestions += bool(near)
            perhaps = f" (which has {' and '.join(near)})" if near else ""
            warn(f"no price for {short(name)!r} in {where}{perhaps}; its cost is unknown. State it with --prices FILE")
    return mine


def _price(path: Path, name: Any, entry: Any) -> Price:
    if not isinstance(name, str) or not name.strip():
        raise PricesError(f"{path}: found the model name {name!r}; expected text. Put numbers in quotes")
    where = f"{path}: model {name!r}"
    if not isinstance(entry, dict):
        raise PricesError(
            f"{where}: found {_kind(entry)}; expected {{input_usd_per_mtok, output_usd_per_mtok}} or {{relative_cost}}"
        )
    if odd := [key for key in entry if not isinstance(key, str)]:
        raise PricesError(f"{where}: unknown key {odd[0]!r}; expected text")
    price = Price.from_json(entry, where=where)
    if price == UNKNOWN_PRICE:
        raise PricesError(f"{where}: no price is stated; leave the model out if its price is unknown")
    return price


def _kind(value: Any) -> str:
    return "an empty file" if value is None else f"a {type(value).__name__}"


def _completed(name: str, price: Price) -> Price:
    listed = _listed_price(name)
    stated = price.to_json()
    # A cached price belongs to the input price that stands beside it.
    own = ["cached_input_usd_per_mtok"] if "input_usd_per_mtok" in stated else []
    return Price(**{key: usd for key, usd in listed.to_json().items() if key not in own} | stated)


@functools.cache
def _index() -> PriceIndex:
    return PriceIndex(price_map())


def _listed_price(name: str) -> Price:
    key = _index().key(name)
    entry = {} if key is None else price_map()[key]
    if entry.get("litellm_provider") in SELF_HOSTED:
        return UNKNOWN_PRICE
    # The map's zero means that nobody entered a price.
    input_usd, output_usd, cached_usd = (
        per_mtok(usd) if isinstance(usd := entry.get(key), (int, float)) and usd > 0 else None
        for key in ("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost")
    )
    return Price(input_usd, output_usd, cached_input_usd_per_mtok=cached_usd)


def price_template(models: Sequence[str]) -> str:
    """A price file, to be filled in, of models whose price is unknown."""
    lines = ["# USD per million tokens; take out the models that you do not want to price.\n"]
    for name in models:
        near = _index().near(name)
        hint = f"  # in LiteLLM's price map: {', '.join(near)}" if near else ""
        lines.append(f"{json.dumps(name)}: {{input_usd_per_mtok: null, output_usd_per_mtok: null}}{hint}\n")
    return "".join(lines)
