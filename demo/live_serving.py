"""IO. Questions through the running proxy: who answered, whether it was right, and traffic that never pauses."""

import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle

import httpx
from typing_extensions import Self

from demo.live_pool import GROUP
from demo.live_questions import RIGHT, Question
from demo.proxy_process import ProxyProcess
from litellm_erp.errors import ServingError

AT_ONCE = 4
_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client got for one question.

    Attributes
    ----------
    model, reason, bundle, expected : of the ``x-erp-…`` headers
    error : "" where all went well
    """

    prompt_id: str
    model: str
    reason: str
    bundle: str
    expected: str
    text: str
    right: bool
    error: str = ""


def ask(client: httpx.Client, key: str, question: Question) -> Reply:
    """Ask one question of the group."""
    body = {"model": GROUP, "messages": [{"role": "user", "content": question.prompt}]}
    try:
        answer = client.post("/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"})
    except httpx.HTTPError as e:
        return _failed(question, f"{type(e).__name__}: {e}")
    if answer.status_code != 200:
        return _failed(question, f"HTTP {answer.status_code}: {' '.join(answer.text.split())[:300]}")
    text = answer.json()["choices"][0]["message"]["content"] or ""
    named = [answer.headers.get(f"x-erp-{name}", "") for name in ("model", "reason", "bundle", "expected-reward")]
    return Reply(question.prompt_id, *named, text, is_right(question, text))


def is_right(question: Question, text: str) -> bool:
    """By the pool file's verifier."""
    return re.search(RIGHT.replace("{reference}", re.escape(question.reference)), text) is not None


def ask_all(proxy: ProxyProcess, asked: Sequence[Question]) -> list[Reply]:
    """Ask every question once, a few at a time, in their order."""
    with (
        httpx.Client(base_url=proxy.base_url, trust_env=False, timeout=_TIMEOUT_S) as client,
        ThreadPoolExecutor(AT_ONCE) as threads,
    ):
        return list(threads.map(lambda question: ask(client, proxy.master_key, question), asked))


class Traffic:
    """One client that asks one question after the other for as long as the ``with`` block lasts.

    Attributes
    ----------
    replies : so far
    """

    def __init__(self, proxy: ProxyProcess, asked: Sequence[Question]) -> None:
        self.replies: list[Reply] = []
        self._proxy = proxy
        self._asked = cycle(asked)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def wait_for(self, condition: Callable[[Reply], bool], what: str, deadline_s: float) -> None:
        """Wait for a reply that is so.

        Raises
        ------
        ServingError : none was within the deadline
        """
        seen, end = 0, time.monotonic() + deadline_s
        while time.monotonic() < end:
            new = self.replies[seen:]
            seen += len(new)
            if any(condition(reply) for reply in new):
                return
            time.sleep(0.1)
        raise ServingError(f"{what}: not so after {deadline_s:g} s and {seen} requests")

    def _run(self) -> None:
        with httpx.Client(base_url=self._proxy.base_url, trust_env=False, timeout=_TIMEOUT_S) as client:
            while not self._ended.is_set():
                self.replies.append(ask(client, self._proxy.master_key, next(self._asked)))


def _failed(question: Question, error: str) -> Reply:
    return Reply(question.prompt_id, "", "", "", "", "", False, error)
