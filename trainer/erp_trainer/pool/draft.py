"""From a LiteLLM proxy config to a first pool.yaml, with a comment wherever a decision is left to its owner.

Secrets stay where they are: a reference (``os.environ/…``) is copied, a key written into the config is not, and a
reference to a variable of its own takes its place.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from erp_trainer.pool.litellm_map import per_mtok, price_map
from erp_trainer.pool.pool import Sampling
from erp_trainer.pool.prices import resolve_prices
from erp_trainer.pool.proxy_config import ProxyConfig, info_of, parse_config
from litellm_erp.choice.cost import UNKNOWN_PRICE, Price
from litellm_erp.config_file import REFERENCE, is_reference, read_config
from litellm_erp.effort import PARAMETERS, arms_of, checked, effort_of, limit_of
from litellm_erp.errors import SettingsError

# LiteLLM's prefixes for servers that speak OpenAI's protocol; behind them stands the name the server knows.
_SERVER_PREFIXES = ("openai/", "hosted_vllm/", "vllm/", "custom_openai/", "text-completion-openai/")
_CHAT_MODES = ("chat", "completion", "responses")
# What a pool file does not need: LiteLLM's own routing, limits and prices.
_EXPECTED_PARAMS = {
    "model", "api_base", "base_url", "api_key", "input_cost_per_token", "output_cost_per_token", "rpm", "tpm", "order",
    "weight", "timeout", "stream_timeout", "max_retries", "max_parallel_requests", "tags", "max_budget",
    "budget_duration",
}  # fmt: skip


@dataclass(frozen=True)
class Drafted:
    """A pool model found in a config.

    Attributes
    ----------
    notes : comments to write above it
    """

    name: str
    model: str
    engine: str
    api_base: str | None
    api_key: str | None
    price: Price
    parameters: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Draft:
    """A pool file not yet written: its text, its models, what was left out and why."""

    text: str
    models: tuple[str, ...]
    left_out: Mapping[str, str]


def example_prompts() -> str:
    """JSON lines: questions whose answers are numbers, from easy to hard, so that a draft runs before it is edited."""
    rows = []
    for i in range(1, 61):
        low, high = 7 * i + 3, 13 * i + 8
        rows.append({"prompt": f"What is {low} plus {high}?", "category": "sums", "reference": str(low + high)})
        rows.append({"prompt": f"What is {low} times {i}?", "category": "products", "reference": str(low * i)})
    return "".join(json.dumps(row) + "\n" for row in rows)


def draft(config: Path, group: str | None = None, prompts: str = "prompts.jsonl") -> Draft:
    """Write the text of a pool file from a LiteLLM config.

    Parameters
    ----------
    group : keep to the members of this routing group
    prompts : name of the prompt file beside the pool file

    Raises
    ------
    SettingsError : not a LiteLLM config, no such group, or no chat model in it; names the file
    """
    proxy = parse_config(read_config(config).document)
    members = None if group is None else _members(proxy, group, config)
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    left_out: dict[str, str] = {}
    for entry in proxy.model_list:
        alias = str(entry["model_name"])
        if members is not None and alias not in members:
            continue
        arms = arms_of(info_of(entry), f"{config}: {alias}: model_info", SettingsError)
        for name in arms or (str(info_of(entry).get("erp_model") or alias),):
            if reason := _unusable(alias, entry):
                left_out[name] = reason
            else:
                by_name.setdefault(name, []).append(entry)
    if not by_name:
        raise SettingsError(f"{config}: model_list has no chat model to sample; expected at least one deployment")
    models = [_drafted(name, entries) for name, entries in by_name.items()]
    return Draft(_text(config, models, left_out, prompts), tuple(by_name), left_out)


def _members(proxy: ProxyConfig, group: str, config: Path) -> set[str]:
    found = {str(listed.get("group_name")): listed["models"] for listed in proxy.groups}
    if group not in found:
        raise SettingsError(f"{config}: no routing group {group!r}; found {', '.join(found) or 'none'}")
    return {str(name) for name in found[group]}


def _unusable(alias: str, entry: Mapping[str, Any]) -> str | None:
    model = str(entry["litellm_params"]["model"])
    if "*" in alias or "*" in model:
        return "a wildcard names no single model"
    listed = price_map()
    mode = info_of(entry).get("mode") or (listed.get(model) or listed.get(model.partition("/")[2]) or {}).get("mode")
    return None if mode is None or mode in _CHAT_MODES else f"its mode is {mode}"


def _drafted(name: str, entries: list[Mapping[str, Any]]) -> Drafted:
    params, notes = entries[0]["litellm_params"], []
    arms = arms_of(info_of(entries[0]), name, SettingsError)
    parameters = arms[name] if name in arms else _own_parameters(params)
    if len(entries) > 1:
        notes.append(f"the first of {len(entries)} deployments; one is enough to sample from")
    stated = str(params["model"])
    base = params.get("api_base") or params.get("base_url")
    prefix = next((p for p in _SERVER_PREFIXES if stated.startswith(p)), "")
    server = base is not None and (bool(prefix) or "/" not in stated)
    variable = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_") or "MODEL"
    price = _stated_price(entries) or UNKNOWN_PRICE
    if not price.known:
        price = resolve_prices([stated], {}, warn=lambda message: None)[stated]
        if price.known:
            notes.append("the price is from LiteLLM's price map")
    if extra := sorted(str(key) for key in params if key not in (*_EXPECTED_PARAMS, *parameters)):
        notes.append(f"not copied: litellm_params {', '.join(extra)}; set them by environment or sampling where needed")
    return Drafted(
        name=name,
        model=stated.removeprefix(prefix) if server else stated,
        engine="server" if server else "litellm",
        api_base=_base(base, f"{variable}_API_BASE", notes),
        api_key=_key(params.get("api_key"), f"{variable}_API_KEY", notes),
        price=price,
        parameters=parameters,
        notes=notes,
    )


def _own_parameters(params: Mapping[str, Any]) -> dict[str, Any]:
    """What a deployment itself sends with each request; nothing where a pool file cannot say it so."""
    stated = {key: params[key] for key in PARAMETERS if params.get(key) is not None}
    try:
        return checked(stated, "litellm_params", SettingsError)
    except SettingsError:
        return {}


def _key(found: object, variable: str, notes: list[str]) -> str | None:
    if found is None:
        return None
    if is_reference(found):
        return str(found)
    notes.append(f"the config holds the key itself; it was not copied: export {variable}")
    return REFERENCE + variable


def _base(found: object, variable: str, notes: list[str]) -> str | None:
    if found is None:
        return None
    text = str(found)
    url = urlsplit(text)
    if url.username or url.password or url.query:
        notes.append(f"the config's api_base holds a secret; it was not copied: export {variable}")
        return REFERENCE + variable
    return text


def _stated_price(entries: list[Mapping[str, Any]]) -> Price | None:
    for entry in entries:
        for source in (entry["litellm_params"], info_of(entry)):
            numbers = [_stated_per_mtok(source.get(f"{side}_cost_per_token")) for side in ("input", "output")]
            if None not in numbers:
                return Price(*numbers)
    return None


def _stated_per_mtok(value: Any) -> float | None:
    """USD per million tokens; YAML reads 2e-7 as text."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return per_mtok(number) if math.isfinite(number) and number >= 0 else None


_POOL_FILE = """\
# A pool: what `erp-train run` makes a bundle of. Drafted from {config}; read it before running it.

run: ./run                      # prompts, samples and scores; a run that stops is continued from here
bundle: ./bundle                # what erp_settings of the proxy config names

# Everything here works offline but the two lines marked HUB, which download from the Hugging Face hub.
# The file beside this one holds example questions with answers: put your own there. Your traffic is better:
#   prompts: {{source: litellm-log, path: spend_logs.jsonl, limit: 2000}}
#   prompts: {{source: questions.csv, column: question, reference_column: answer}}
# HUB: 1,000 prompts each of chat, instruction following, math and code:
#   prompts: {{source: open-perfectblend, per_category: 1000, seed: 0}}
prompts: {{source: {prompts}}}

# K responses per prompt and model. Cost is prompts × models × K × max_tokens: try limit and k: 4 first.
sampling: {{{sampling}}}

models:
{models}

# What a response is worth: here 1 where its last number is the prompt's reference. Several are combined by weight.
# HUB: a reward model, for prompts without references:
#   - {{kind: text-pair, model: OpenAssistant/reward-model-deberta-v3-large-v2, weight: 1.0}}
rewards:
  - {{kind: exact-match, extract: "(-?[0-9]+)", weight: 1.0}}

embedder: static                # or a sentence-transformers id, or the URL of an embedding server
# preset paper: β = 1, one cost per model, no safety. refit_all: choose on train, then fit what is served on all prompts
fit: {{preset: best, refit_all: false}}
"""


def _text(config: Path, models: list[Drafted], left_out: Mapping[str, str], prompts: str) -> str:
    lines = [line for model in models for line in _model_lines(model)]
    lines += [f"  # left out: {name} ({reason})" for name, reason in left_out.items()]
    sampling = ", ".join(f"{key}: {value}" for key, value in Sampling().to_json().items())
    shown = {"config": config.name, "prompts": _scalar(prompts), "sampling": sampling}
    return _POOL_FILE.format(models="\n".join(lines), **shown)


def _model_lines(model: Drafted) -> list[str]:
    lines = [f"  # {' '.join(note.split())}" for note in model.notes]
    lines += [f"  {_scalar(model.name)}:", f"    model: {_scalar(model.model)}", f"    engine: {model.engine}"]
    effort, limit = effort_of(model.parameters), limit_of(model.parameters)
    lines += [f"    {key}: {json.dumps(value)}" for key, value in effort.items()]
    if limit is not None:
        lines.append(f"    max_tokens: {limit}")
    elif effort:
        lines += [
            "    # thinking counts as output: without a limit of its own, that of the sampling above may cut it short",
            "    sampling: {max_tokens: null}",
        ]
    if model.api_base is not None:
        lines.append(f"    api_base: {_scalar(model.api_base)}")
    if model.api_key is not None:
        lines.append(f"    api_key: {_scalar(model.api_key)}")
    if model.price.known:
        stated = ", ".join(f"{key}: {value!r}" for key, value in model.price.to_json().items())
        lines.append(f"    price: {{{stated}}}")
    else:
        lines += [
            "    # no price in the config or in LiteLLM's price map; without one, cost cannot count:",
            "    # price: {input_usd_per_mtok: 0.0, output_usd_per_mtok: 0.0}",
        ]
    return lines


def _scalar(text: str) -> str:
    dumped = yaml.safe_dump(text, allow_unicode=True, width=10**9).strip()
    return dumped.removesuffix("\n...").strip()
