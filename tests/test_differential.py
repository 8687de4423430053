"""A slice of ``python -m bench.differential``: what clients send, hostile or not, does no worse with the plugin."""

import asyncio
from contextlib import ExitStack

import httpx
import pytest

from bench.differential.comparing import PLUGIN, AnswerKind, measure, read
from bench.differential.report import findings, frames
from bench.differential.requests import request
from bench.differential.routes import GROUP
from bench.differential.servers import start

PAIRS, SEED = 150, 1


@pytest.mark.proxy
def test_requests_of_any_kind_do_no_worse_with_the_plugin_than_without(tmp_path):
    with ExitStack() as stack:
        started = start(tmp_path, stack)
        results = asyncio.run(measure(started, PAIRS, SEED))
        log = started[0][1].log_text()
    assert [result.sent.number for result in results if result.is_fault] == [], "\n".join(findings(results))
    assert frames(log) == 0
    answers = [result.answers[PLUGIN] for result in results]
    # It shows nothing where nothing is served, or nothing is refused.
    assert PAIRS / 4 < sum(answer.outcome.status == 200 for answer in answers) < PAIRS
    assert sum("model" in answer.erp for answer in answers) > PAIRS / 4
    assert len({result.sent.route for result in results}) > 15


def test_the_requests_of_a_seed_are_always_the_same():
    there = [request(3, number) for number in range(200)]
    back = [request(3, number) for number in reversed(range(200))]
    assert there == back[::-1]
    assert there != [request(4, number) for number in range(200)]
    assert sum(GROUP.encode() in sent.body + sent.path.encode() for sent in there) > 100


def answered(status=200, text='{"choices": [{"text": "answer from model-001"}]}', **headers):
    return read(httpx.Response(status, text=text, headers={"content-type": "application/json"} | headers))


def test_another_model_than_the_one_named_is_seen():
    assert answered(**{"x-erp-model": "model-001", "x-erp-reason": "routed"}).mismatch == ""
    assert "says model-002" in answered(**{"x-erp-model": "model-002", "x-erp-reason": "routed"}).mismatch
    assert answered(**{"x-erp-reason": "fallback:error"}).mismatch
    stream = 'data: {"choices": [{"delta": {"content": " model-001"}}]}\n\n'
    assert answered(text=stream, **{"content-type": "text/event-stream", "x-erp-model": "model-002"}).mismatch


def test_an_error_inside_a_stream_is_another_outcome_than_a_stream():
    fine, broken = (
        answered(text=f"data: {event}\n\n", **{"content-type": "text/event-stream"}).outcome
        for event in ('{"choices": []}', '{"error": {"type": "server_error", "message": "litellm.APIError: x"}}')
    )
    assert fine == AnswerKind(200, "stream")
    assert broken == AnswerKind(200, "stream with error server_error APIError")
