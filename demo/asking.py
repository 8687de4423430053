"""IO. Prompts through a proxy that routes, and what a client gets back."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

_ERP = "x-erp-"


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """What a client got for one prompt.

    Attributes
    ----------
    id, text : of the answer
    headers : all ``x-erp-*`` headers, without that prefix
    error : "" where all went well
    """

    id: str = ""
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


def client_of(base_url: str, timeout_s: float) -> httpx.AsyncClient:
    """A client that takes nothing from its environment."""
    return httpx.AsyncClient(base_url=base_url, trust_env=False, timeout=timeout_s)


async def ask(client: httpx.AsyncClient, group: str, prompt: str, key: str) -> ChatAnswer:
    """Ask a group for one chat completion; whatever goes wrong is in the answer."""
    body = {"model": group, "messages": [{"role": "user", "content": prompt}]}
    try:
        answer = await client.post("/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"})
    except httpx.HTTPError as error:
        return ChatAnswer(error=f"{type(error).__name__}: {error}")
    if answer.status_code != 200:
        return ChatAnswer(error=f"HTTP {answer.status_code}: {' '.join(answer.text.split())[:300]}")
    found = answer.json()
    headers = {name[len(_ERP) :]: value for name, value in answer.headers.items() if name.startswith(_ERP)}
    return ChatAnswer(str(found["id"]), found["choices"][0]["message"]["content"] or "", headers)


async def ask_each(
    client: httpx.AsyncClient,
    group: str,
    asked: Sequence[tuple[str, str]],
    at_once: int,
    advance: Callable[[int], None] = lambda steps: None,
) -> list[ChatAnswer]:
    """Ask every (prompt, key), a bounded number at a time; answers in their order."""
    free = asyncio.Semaphore(at_once)

    async def one(prompt: str, key: str) -> ChatAnswer:
        async with free:
            answer = await ask(client, group, prompt, key)
            advance(1)
            return answer

    return await asyncio.gather(*(one(*pair) for pair in asked))
