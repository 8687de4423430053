"""What clients send that no documentation has: values of other types, odd numbers, bytes that are no JSON. Pure."""

import copy
import json
import random
from collections.abc import Sequence
from typing import Any

LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# Replaced in the bytes, because no JSON writer makes them.
_DEEP, _DIGITS = '"@@deep"', '"@@digits"'
_NUMBERS = (
    *(0, -1, 1, 2, 7, 0.5, -0.5, 1e308, 10**9, 10**400, -(10**400)),
    *(float("nan"), float("inf"), True, "7", "1e999", ""),
)
_ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 10**400, float("nan"), "", "x", "\ud800", "a\x00b", "模型😀", "y" * 5000),
    *([], {}, [None], ["x"], [[["x"]]], [1, 2, 3], {"a": {"b": None}}, {"type": ["x"]}, {"": 0}, "@@deep", "@@digits"),
)


def bend(rng: random.Random, body: Any, optional: Sequence[str]) -> Any:
    """The body with one thing wrong.

    Parameters
    ----------
    optional : fields that any body may have
    """
    way = rng.random()
    if way < 0.2:
        body[rng.choice((*LIMITS, "n", "best_of", "temperature", "top_p", "logprobs", "seed"))] = rng.choice(_NUMBERS)
        return body
    if way < 0.35:
        body[rng.choice(optional)] = _odd(rng)
        return body
    places = [place for place in _places(body) if place[-1] != "model" or rng.random() < 0.15]
    if not places:
        return body
    *above, last = rng.choice(places)
    parent = body
    for step in above:
        parent = parent[step]
    if way < 0.5:
        del parent[last]
    elif way < 0.6:
        parent[last] = [parent[last]]
    elif way < 0.65 and isinstance(parent[last], list):
        parent[last] = parent[last] * 20
    else:
        parent[last] = _odd(rng)
    return body


def _odd(rng: random.Random) -> Any:
    # A copy, because the next bend may go into it.
    return copy.deepcopy(rng.choice(_ODD))


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a body below its root; a few of each list."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:4]) if isinstance(value, list) else ()
    return [place for key, item in items for place in ((*path, key), *_places(item, (*path, key)))]


def odd_headers(rng: random.Random) -> dict[str, bytes]:
    """One or two headers that steer, or that no client should send."""
    lambdas = (
        b"0.5",
        b"0",
        b"-1",
        b"nan",
        b"1e999",
        b"",
        b"x" * 3000,
        b"\xff\xfe",
        b"0.5;drop",
        "λ".encode(),
        b"9" * 400,
    )
    types = (b"text/plain", b"application/x-www-form-urlencoded", b"application/json; charset=latin-1")
    others = (
        ("x-erp-lambda", rng.choice(lambdas)),
        ("x-erp-lambda", rng.choice(lambdas)),
        ("x-litellm-tags", rng.choice((b"a", b"a,b", b"nowhere"))),
        ("x-litellm-num-retries", rng.choice((b"0", b"1"))),
        ("x-erp-model", b"model-002"),
        ("content-type", rng.choice(types)),
        ("anthropic-beta", b"context-1m-2025-08-07"),
    )
    return dict(rng.sample(others, rng.choice((1, 1, 2))))


def written(rng: random.Random, body: Any) -> bytes:
    """The body as JSON; what no JSON writer makes, nesting without end and numbers of 5,000 digits, goes in here."""
    depth = rng.choice((50, 500, 5000, 100_000))
    nested = "[" * depth + "]" * depth
    return json.dumps(body).replace(_DEEP, nested).replace(_DIGITS, "9" * 5000).encode()


def broken(rng: random.Random, raw: bytes) -> bytes:
    """Bytes that are no JSON object."""
    cut = rng.randrange(1, max(2, len(raw)))
    none = (b"", b"null", b"[]", b'"x"', b"7")
    return rng.choice((*none, raw[:cut], raw + b"}", b"\xef\xbb\xbf" + raw, raw[:cut] + b"\xff" + raw[cut:]))
