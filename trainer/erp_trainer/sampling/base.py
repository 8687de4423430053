"""What an engine is asked, what it gives back, and where seeds come from."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from erp_trainer.pool.pool import Sampling


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """``n`` responses to one prompt.

    Attributes
    ----------
    messages : what the model is sent, its system prompt included
    n : how many responses; the K of ``sampling``, or 1 where all K would be the same
    digest : `Prompt.digest`
    """

    prompt_id: str
    messages: list[dict[str, Any]]
    n: int
    sampling: Sampling
    digest: str = ""

    @property
    def seed(self) -> int:
        """What is sent where all ``n`` are asked for at once; the engine derives the others from it."""
        return self.seed_of(0)

    def seed_of(self, sample: int) -> int:
        """What is sent where sample number ``sample`` is asked for on its own."""
        return derive_seed(self.sampling.seed or 0, self.prompt_id, sample)


@dataclass(frozen=True, slots=True)
class Response:
    """One sample.

    Attributes
    ----------
    text : may be empty
    finish_reason : "stop", "length", or the engine's own word
    input_tokens, output_tokens : None where the engine does not say
    seed : of the request that it came in, None where the engine takes none; samples that share one differ in their
        place in the record
    adjusted : parameters that were not sent as configured, because the provider refuses them: the name that each was
        sent under, None where it was left out
    """

    text: str
    finish_reason: str
    input_tokens: int | None
    output_tokens: int | None
    seed: int | None
    adjusted: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skip:
    """The model can never answer this prompt; ``reason`` begins with its kind: ``context: …``, ``policy: …``."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """This prompt got no answer this time; nothing is recorded, so the next run asks it again."""

    reason: str


Result = list[Response] | Skip | Failure
Results = Generator[tuple[SampleRequest, Result], None, None]


class Engine(ABC):
    """Something that samples one pool model.

    Attributes
    ----------
    name, version : recorded with every sample
    """

    name: str
    version: str

    @abstractmethod
    def sample(self, requests: Iterable[SampleRequest]) -> Results:
        """Every request with what came of it, in the order in which they are finished; closing it stops the work.

        A list of fewer responses than were asked for lacks those that could not be used.

        Raises
        ------
        SamplingError : no request of this model can be answered any more
        """

    def close(self) -> None:  # noqa: B027  some hold nothing
        """Free everything that it holds: memory, processes, connections."""


def derive_seed(run_seed: int, prompt_id: str, sample: int) -> int:
    """31 bits of SHA-256: the same in every process, whatever else is sampled and in whatever order.

    31, because some servers keep seeds in a signed 32-bit integer.
    """
    digest = hashlib.sha256(f"{run_seed}\0{prompt_id}\0{sample}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def too_long(input_tokens: int, context: int) -> Skip:
    """What the engines say of a prompt that leaves no room for a response.

    One that leaves some, but less than ``max_tokens``, is answered as far as there is room, as vLLM's server does it.
    """
    return Skip(f"context: {input_tokens} prompt tokens leave no room for a response in {context}")
