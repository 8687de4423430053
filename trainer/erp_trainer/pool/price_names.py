"""PURE. A pool model's entry in LiteLLM's price map, by whatever name it goes.

Names differ by case, punctuation, and who is named in front: ``google/gemini-2.5-pro``, ``gemini/gemini-2.5-pro`` and
``Gemini-2.5-Pro`` are one model at one price. ``together_ai/…`` and ``fireworks_ai/…`` are not: each host of open
weights has a price of its own, so a host is never guessed. What only says which offer it is (``:free``, ``us.``,
``-v1:0``, ``@20250514``, ``-latest``, ``models/``) is left away where that leaves one price.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

Entries = Mapping[str, Mapping[str, Any]]

# What a vendor is called in front of a name to the providers whose entries are the vendor's own price.
_OWN = {
    "google": ("gemini", "vertex_ai"),
    "gemini": ("gemini", "vertex_ai"),
    "openai": ("openai", "text-completion-openai"),
    "azure": ("azure",),
    "anthropic": ("anthropic",),
    "claude": ("anthropic",),
    "mistralai": ("mistral",),
    "mistral": ("mistral",),
    "deepseek-ai": ("deepseek",),
    "deepseek": ("deepseek",),
    "x-ai": ("xai",),
    "xai": ("xai",),
    "cohere": ("cohere",),
    "ai21labs": ("ai21",),
    "ai21": ("ai21",),
    "moonshotai": ("moonshot",),
    "moonshot": ("moonshot",),
    "z-ai": ("zai",),
    "zai": ("zai",),
    "qwen": ("dashscope",),
    "alibaba": ("dashscope",),
    "amazon": ("amazon_nova", "bedrock"),
    "aws": ("bedrock",),
    "perplexity": ("perplexity",),
    "perplexity-ai": ("perplexity",),
    "minimaxai": ("minimax",),
}
# For a name with nobody in front.
_FIRST_PARTY = ("openai", "anthropic", "gemini", "vertex_ai", "mistral", "xai", "deepseek", "cohere", "moonshot", "zai")
# Of these there are no open weights, so that whoever resells them names the same model.
_CLOSED = frozenset({"openai", "anthropic", "google", "gemini", "x-ai", "xai"})
# The first word of a name that says whose it is.
_SAYS = {"claude": "anthropic", "gpt": "openai", "gemini": "google", "grok": "x-ai"}
# Steps of a path that name no vendor.
_DETOURS = re.compile(
    r"models|publishers|converse|invoke|litellm_proxy|openrouter|vertex_ai|bedrock|[a-z]{2}(-gov)?-[a-z]+-\d"
)
_OFFER = re.compile(r":(free|beta|thinking)$")
_REGION = re.compile(r"^(us|eu|apac|au|jp|ca|global)\.(?=[a-z0-9]+\.)")
_DOTTED = re.compile(r"^(anthropic|amazon|meta|mistral|cohere|deepseek|ai21|openai|qwen|google|moonshot)\.(?=[a-z])")
_VERSION = re.compile(r"-v\d+:\d+$")
_DATE = re.compile(r"[-@](20\d\d)-?(\d\d)-?(\d\d)$")
_UNDATED = re.compile(r"-20\d{6}$|-latest$|-00\d$")
# Their zero is no price: what they serve, somebody serves for themselves.
SELF_HOSTED = frozenset({"huggingface", "ollama", "ollama_chat", "lemonade", "hosted_vllm", "vllm", "lm_studio"})


class PriceIndex:
    """Finds entries by name.

    Parameters
    ----------
    entries : LiteLLM's price map
    """

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._by_plain: dict[str, list[str]] = {}
        for key in entries:
            self._by_plain.setdefault(_plain(key.rpartition("/")[2]), []).append(key)
        self._whole = {_plain(key): key for key in reversed(list(entries))}
        self._by_bare: dict[str, list[str]] = {}
        self._by_undated: dict[str, list[str]] = {}
        for key in entries:
            bare = _bare(key)[1]
            self._by_bare.setdefault(bare, []).append(key)
            self._by_undated.setdefault(_UNDATED.sub("", bare), []).append(key)

    def key(self, name: str) -> str | None:
        """The entry that is certainly this model's, None where there is none or several at different prices."""
        if name in self._entries:
            return name
        if (whole := self._whole.get(_plain(name))) is not None:
            return whole
        front, _, rest = name.strip().partition("/")
        if front.casefold() in SELF_HOSTED:
            return None
        if rest in self._entries and self._is_by(rest, _OWN.get(front.casefold(), (front.casefold(),))):
            return rest
        vendor, _, tail = name.strip().rpartition("/")
        vendor = vendor.rpartition("/")[2].casefold()
        providers = _OWN.get(vendor, (vendor,)) if vendor else _FIRST_PARTY
        same = self._by_plain.get(_plain(tail), [])
        for provider in providers:
            found = [key for key in same if self._is_by(key, (provider,))]
            if self._at_one_price(found):
                return min(found, key=len)
        return self._bare_key(name)

    def _bare_key(self, name: str) -> str | None:
        """The entry of the name without what only says which offer it is; with its date first, then without."""
        vendor, bare = _bare(name)
        providers = _OWN.get(vendor, (vendor,)) if vendor else _FIRST_PARTY
        undated = _UNDATED.sub("", bare)
        for index, tail in ((self._by_bare, bare), (self._by_bare, undated), (self._by_undated, undated)):
            priced = [key for key in index.get(tail, []) if any(_price_of(self._entries[key]))]
            for provider in providers:
                found = [key for key in priced if self._is_by(key, (provider,))]
                if self._at_one_price(found):
                    return min(found, key=len)
            named = [key for key in priced if vendor in _CLOSED and _bare(key)[0] in ("", vendor, *providers)]
            if self._at_one_price(named):
                return min(named, key=len)
        return None

    def _at_one_price(self, keys: list[str]) -> bool:
        return len({_price_of(self._entries[key]) for key in keys}) == 1

    def _is_by(self, key: str, providers: tuple[str, ...]) -> bool:
        # Google's are vertex_ai-language-models and the like.
        return str(self._entries[key].get("litellm_provider", "")).startswith(providers)

    def near(self, name: str) -> list[str]:
        """Entries with names like this one, for a message; at most two."""
        plain = _plain(name.rpartition("/")[2])
        same = self._by_plain.get(plain)
        if same:
            return sorted(same, key=len)[:2]
        candidates = [each for each in self._by_plain if each[:3] == plain[:3]]
        found = difflib.get_close_matches(plain, candidates, n=2, cutoff=0.75)
        longer = [each for each in candidates if each.startswith(plain)]
        return [min(self._by_plain[each], key=len) for each in _first_of(longer + found, 2)]


def _first_of(names: Iterable[str], most: int) -> list[str]:
    return list(dict.fromkeys(names))[:most]


def _plain(name: str) -> str:
    """A name as it is compared; slashes stay, because they say whose it is."""
    return name.strip().casefold().replace(".", "-").replace("_", "-").replace(" ", "-")


def _bare(name: str) -> tuple[str, str]:
    """Whose a name says it is, "" where it does not, and the rest without offer, region, version, and dates' dashes."""
    *steps, tail = name.strip().casefold().split("/")
    tail = _REGION.sub("", _OFFER.sub("", tail))
    dotted = _DOTTED.match(tail)
    vendors = [step for step in steps if step and not _DETOURS.fullmatch(step)]
    vendor = dotted.group(1) if dotted else vendors[-1] if vendors else ""
    tail = _VERSION.sub("", tail[dotted.end() :] if dotted else tail)
    bare = _plain(_DATE.sub(r"-\1\2\3", tail))
    return vendor or _SAYS.get(bare.partition("-")[0], ""), bare


def _price_of(entry: Mapping[str, Any]) -> tuple[Any, Any]:
    return entry.get("input_cost_per_token"), entry.get("output_cost_per_token")
