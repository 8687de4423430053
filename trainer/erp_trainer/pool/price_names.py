"""PURE. A pool model's entry in LiteLLM's price map, by whatever name it goes.

Names differ by case, punctuation, and who is named in front: ``google/gemini-2.5-pro``, ``gemini/gemini-2.5-pro`` and
``Gemini-2.5-Pro`` are one model at one price. ``together_ai/…`` and ``fireworks_ai/…`` are not: each host of open
weights has a price of its own, so a host is never guessed.
"""

from __future__ import annotations

import difflib
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
            if len({_price_of(self._entries[key]) for key in found}) == 1:
                return min(found, key=len)
        return None

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


def _price_of(entry: Mapping[str, Any]) -> tuple[Any, Any]:
    return entry.get("input_cost_per_token"), entry.get("output_cost_per_token")
