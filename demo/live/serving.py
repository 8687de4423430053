"""IO. Questions through the running proxy: who answered, whether it was right, and traffic that never pauses."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

from typing_extensions import Self

from demo import asking
from demo.live.pool import GROUP
from demo.live.questions import RIGHT, Question
from demo.proxy_process import ProxyProcess
from litellm_erp.errors import ServingError

_AT_ONCE = 4
_TIMEOUT_S = 600.0
_NAMED = ("model", "reason", "bundle", "expected-reward")


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


def _reply(question: Question, reply: asking.ChatAnswer) -> Reply:
    model, reason, bundle, expected = (reply.headers.get(name, "") for name in _NAMED)
    # By the pool file's verifier.
    right = re.search(RIGHT.replace("{reference}", re.escape(question.reference)), reply.text) is not None
    return Reply(question.prompt_id, model, reason, bundle, expected, reply.text, right, reply.error)


def ask_questions(proxy: ProxyProcess, asked: Sequence[Question]) -> list[Reply]:
    """Ask every question once, a few at a time, in their order."""

    async def ask() -> list[asking.ChatAnswer]:
        async with asking.client_of(proxy.base_url, _TIMEOUT_S) as client:
            pairs = [(question.prompt, proxy.master_key) for question in asked]
            return await asking.ask_each(client, GROUP, pairs, _AT_ONCE)

    return list(map(_reply, asked, asyncio.run(ask())))


class Traffic:
    """One client that asks one question after the other for as long as the ``with`` block lasts.

    Attributes
    ----------
    replies : so far
    """

    def __init__(self, proxy: ProxyProcess, asked: Sequence[Question]) -> None:
        self.replies: list[Reply] = []
        self._proxy = proxy
        self._asked = asked
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask_on()), name="traffic")

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

    async def _ask_on(self) -> None:
        async with asking.client_of(self._proxy.base_url, _TIMEOUT_S) as client:
            for question in cycle(self._asked):
                if self._ended.is_set():
                    return
                reply = await asking.ask(client, GROUP, question.prompt, self._proxy.master_key)
                self.replies.append(_reply(question, reply))
