"""Requests for every route of the proxy that asks a router for a deployment: as documented, and as clients send them.

Pure: a seed and a number in, bytes out. Each request starts as a valid one; most then get some optional fields, and
about half are bent: a number that is none, a value of another type somewhere in the body, text that no encoding knows,
bytes that are no JSON. No URL in them leaves this machine.
"""

import copy
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from bench.differential.bending import LIMITS, bend, broken, odd_headers, written
from bench.differential.routes import ALIAS, DOOMED, GROUP, MODELS, PREVIOUS, ROUTES, TAGGED, Json

# May use two of the three, and all of the tagged group.
LIMITED_KEY = "sk-limited"
KEYS: dict[str, Json] = {
    "sk-free": {},
    "sk-cheap": {},
    "sk-budget": {},
    LIMITED_KEY: {"models": [GROUP, ALIAS, TAGGED, *MODELS[1:], *(f"{TAGGED}.{name}" for name in MODELS)]},
}

_TOOL = {"name": "weather", "description": "of a town", "parameters": {"type": "object", "properties": {}}}
_DEPLOYMENTS = [f"dep-{name}" for name in MODELS]
_WORDS = (
    *("sum", "the roots", "of a tree", "that parses", "poems", "in German", "and", "proves why"),
    *("模型", "ünï", "😀"),
)
_FORMATS = (
    {"type": "json_object"},
    {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
)
# Fields that any route's body may have; of a tuple, one of its values.
_OPTIONS: dict[str, Any] = {
    **dict.fromkeys(LIMITS, (1, 16, 900)),
    "n": (1, 2, 3, 200),
    "best_of": (1, 2),
    "temperature": (0, 0.7, 2),
    "top_p": 0.9,
    "user": "someone",
    "seed": range(1000),
    "stop": (".", [".", "\n"]),
    "tools": ([_TOOL], [{"type": "function", "function": _TOOL}], [{"type": "function"} | _TOOL]),
    "tool_choice": ("auto", "none", {"type": "auto"}),
    "response_format": _FORMATS,
    "stream_options": {"include_usage": True},
    "metadata": (
        *({"tags": ["a"]}, {"tags": ["b"]}, {"tags": ["nowhere"]}, {"erp": {"lambda": 0.5}}, {"erp": "0.5"}),
        *({"k": "v"}, {"previous_models": [1]}),
    ),
    "litellm_metadata": ({"tags": ["a"]}, {"erp": {"min_quality": 0.9}}, {"litellm_erp": {"model": "x"}}),
    "tags": (["a"], ["b", "a"]),
    "cache": ({"use-cache": True}, {"use-cache": True, "ttl": 60, "namespace": "own"}, {"no-cache": True}),
    "caching": True,
    "store": False,
    "reasoning_effort": "low",
    "logprobs": True,
    "parallel_tool_calls": False,
    "_target_order": (1, 3),
    "_excluded_deployment_ids": lambda rng: rng.sample(_DEPLOYMENTS, rng.choice((1, 2))),
    "_retry_skipped_deployment_ids": tuple([name] for name in _DEPLOYMENTS),
    "model_info": {"id": _DEPLOYMENTS[0]},
    "fallbacks": ([MODELS[1]], [{"model": GROUP}], [ALIAS]),
    "num_retries": (0, 1),
    "timeout": (30, "30"),
    "mock_response": "a mock",
    "mock_testing_fallbacks": True,
    "disable_fallbacks": True,
    "specific_deployment": True,
    "enable_tag_filtering": (True, False),
    "allowed_model_region": "eu",
    "drop_params": True,
    "extra_body": {"a": 1},
    "encoding_format": ("float", "base64"),
    "dimensions": (8, 64),
    "fastest_response": True,
    "erp": {"lambda": 3},
    "unheard_of": {"a": [1, 2]},
}


@dataclass(frozen=True)
class Sent:
    """One request.

    Attributes
    ----------
    bent : whether anything in it is not as the route's documentation has it
    """

    number: int
    route: str
    path: str
    key: str
    body: bytes
    headers: Mapping[str, bytes] = field(default_factory=dict)
    bent: bool = False

    def content(self, previous: Sequence[str]) -> bytes:
        """The body with ids of responses that the proxy it is sent to handed out before."""
        body = self.body
        for i, response_id in enumerate(previous):
            body = body.replace(f"{PREVIOUS}{i}".encode(), response_id.encode())
        return body


def request(seed: int, number: int, *, limited: bool = True) -> Sent:
    """The request of a seed and number.

    Parameters
    ----------
    limited : whether it may come with the key of an allow list
    """
    # A text as the seed, so that neighbours have nothing in common.
    rng = random.Random(f"{seed}/{number}")
    name, route = rng.choices(list(ROUTES.items()), [route.share for route in ROUTES.values()])[0]
    model = _model(rng)
    path = rng.choices(route.paths, [4, *[1] * (len(route.paths) - 1)])[0]
    key = rng.choice([key for key in KEYS if limited or key != LIMITED_KEY])
    headers: dict[str, bytes] = {"content-type": b"application/json"}
    body: Any = {"model": model} | route.body(rng, _text(rng, number))
    if route.streams and rng.random() < 0.35:
        body["stream"] = True
    if rng.random() < 0.6:
        options = _options(rng)
        for option in rng.sample(sorted(options), rng.choice((1, 1, 2, 3))):
            # A copy, because a bend may go into it.
            body.setdefault(option, copy.deepcopy(options[option]))
    if key == LIMITED_KEY or "responses" in name:
        # It would leave out what the allow list has left in, or what an id is bound to: refused, as it should be.
        body.pop("_excluded_deployment_ids", None)
    if str(body.get("previous_response_id", "")).startswith(PREVIOUS):
        # An id belongs to whom it was given.
        key = "sk-free"
    bent = rng.random() < 0.5
    # Tries and times are bounded here, and vectors are no larger than they are.
    optional = sorted(_options(rng).keys() - {"num_retries", "timeout", "dimensions"})
    if bent:
        for _ in range(rng.choice((1, 1, 2, 3))):
            body = bend(rng, body, optional)
    if rng.random() < 0.15:
        headers |= odd_headers(rng)
    if route.file:
        raw, headers["content-type"] = _multipart(*route.file, body)
    else:
        raw = written(rng, body)
    if bent and rng.random() < 0.08:
        raw = broken(rng, raw)
    return Sent(number, name, path.format(model=quote(model, safe=",")), key, raw, headers, bent)


def _model(rng: random.Random) -> str:
    names = {
        GROUP: 62,
        TAGGED: 12,
        ALIAS: 8,
        DOOMED: 3,
        rng.choice(MODELS): 3,
        f"dep-{rng.choice(MODELS)}": 3,
        f"{GROUP},{rng.choice(MODELS)}": 3,
        f"{ALIAS}, {TAGGED}": 1,
        f" {GROUP}": 1,
        "nobody": 1,
    }
    return rng.choices(list(names), list(names.values()))[0]


def _text(rng: random.Random, number: int) -> str:
    words = rng.choices((2, 8, 40, 400, 3000, 130_000), (30, 40, 20, 6, 3, 0.8))[0]
    # The number keeps caches from answering one request with another's answer.
    return f"{number} " + " ".join(rng.choices(_WORDS, k=words))


def _options(rng: random.Random) -> Json:
    return {
        name: rng.choice(value) if isinstance(value, (tuple, range)) else value(rng) if callable(value) else value
        for name, value in _OPTIONS.items()
    }


def _multipart(name: str, kind: str, body: Json) -> tuple[bytes, bytes]:
    boundary = b"differential-boundary"
    parts = [
        (f'name="{quote(str(key))}"', value if isinstance(value, str) else json.dumps(value))
        for key, value in body.items()
    ]
    parts.append((f'name="{name}"; filename="a.bin"\r\ncontent-type: {kind}', "RIFFdata"))
    texts = (f"content-disposition: form-data; {disposition}\r\n\r\n{value}" for disposition, value in parts)
    lines = b"".join(b"--" + boundary + b"\r\n" + text.encode("utf-8", "surrogatepass") + b"\r\n" for text in texts)
    return lines + b"--" + boundary + b"--\r\n", b"multipart/form-data; boundary=" + boundary
