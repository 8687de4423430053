"""Reward models behind a vLLM server, imitated here field by field as vLLM 0.32.0 was seen to answer.

The imitation's tokens are characters, its template ``<role:text>``, its context 200 tokens; a logit is the number of
"!" in the whole input.
"""

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from erp_trainer.rewards.base import Pair, RewardModel
from erp_trainer.rewards.registry import load_reward_model
from litellm_erp.errors import RewardError, SettingsError
from tests.reward_models import spec

CONTEXT = 200
USAGE = {"prompt_tokens": 9, "total_tokens": 9, "completion_tokens": 0, "prompt_tokens_details": None}
Json = dict[str, Any]


class Handler(BaseHTTPRequestHandler):
    """One request to the imitation."""

    protocol_version = "HTTP/1.1"
    server: "VLLM"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/version":
            self.answer({"version": self.server.version})
            return
        self.answer({"object": "list", "data": [{"id": "rm", "object": "model", "max_model_len": CONTEXT}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body))
        if self.server.failures:
            self.answer({"error": {"message": "not now"}}, self.server.failures.pop())
            return
        try:
            self.answer(getattr(self, self.path.strip("/"))(body))
        except PermissionError:
            message = "System role not supported (parameter=messages)"
            self.answer({"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}, 400)
        except OverflowError:
            message = f"This model's maximum context length is {CONTEXT} tokens."
            self.answer({"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}, 400)

    def tokenize(self, body: Json) -> Json:
        ids = [ord(c) for c in body.get("prompt", rendered(body.get("messages", [])))]
        return {"count": len(ids), "max_model_len": CONTEXT, "tokens": ids, "token_strs": None}

    def detokenize(self, body: Json) -> Json:
        return {"prompt": "".join(map(chr, body["tokens"]))}

    def classify(self, body: Json) -> Json:
        logits = [self.reward(rendered(body["messages"]), body)] * self.server.labels
        row = {"index": 0, "label": "LABEL_0", "probs": logits, "num_classes": len(logits)}
        return {"id": "classify-1", "object": "list", "created": 1, "model": "rm", "data": [row], "usage": USAGE}

    def score(self, body: Json) -> Json:
        found = self.reward(f"[{body['text_1']}|{body['text_2']}]", body)
        row = {"index": 0, "object": "score", "score": found}
        return {"id": "score-1", "object": "list", "created": 1, "model": "rm", "data": [row], "usage": USAGE}

    def pooling(self, body: Json) -> Json:
        (ids,) = body["input"]
        rewards = [[self.reward("".join(map(chr, ids[: i + 1])), body)] for i in range(len(ids))]
        row = {"index": 0, "object": "pooling", "data": rewards}
        return {"id": "pooling-1", "object": "list", "created": 1, "model": "rm", "data": [row], "usage": USAGE}

    def reward(self, text: str, body: Json) -> float:
        if len(text) > CONTEXT:
            raise OverflowError
        logit = text.count("!") + self.server.offset
        raw = self.server.identity or body.get(self.server.field) is False
        return float(logit) if raw else 1 / (1 + math.exp(-logit))

    def answer(self, body: Json, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def rendered(messages: list[Json]) -> str:
    if any(m["role"] == "system" for m in messages):
        raise PermissionError
    return "".join(f"<{m['role'][0]}:{m['content']}>" for m in messages)


class VLLM(ThreadingHTTPServer):
    """Counts requests; ``failures`` are statuses to answer with first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, Json]] = []
        self.failures: list[int] = []
        self.labels = 1
        self.version = "0.32.0"
        self.field = "use_activation"
        self.identity, self.offset = False, 0.0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that stop in the middle are part of what is tested."""

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


@pytest.fixture
def vllm() -> Iterator[VLLM]:
    server = VLLM()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def served(vllm: VLLM, kind: str = "pooling-server", **options: Any) -> RewardModel:
    return load_reward_model(spec(kind, **{"api_base": vllm.base, "model": "rm", **options}))


def rewards(model: RewardModel, pairs: list[Pair]) -> list[float]:
    return [scored.reward for scored in model.score(pairs, lambda n: None)]


PAIRS = [Pair("q!", "!" * n) for n in range(20)]


@pytest.mark.parametrize("options", [{"form": "chat"}, {"form": "pair"}])
def test_rewards_are_raw_and_in_order(vllm: VLLM, options: Json) -> None:
    progress: list[int] = []
    found = served(vllm, **options).score(PAIRS, progress.append)
    assert [s.reward for s in found] == [1.0 + n for n in range(20)]
    assert sum(progress) == 20
    assert not any(s.truncated for s in found)


def test_internlm_is_read_at_its_reward_token(vllm: VLLM) -> None:
    model = served(vllm, "internlm", reward_token_id=ord("!"))
    assert rewards(model, PAIRS) == [2.0 + n for n in range(20)]
    assert all(body["input"][0][-1] == ord("!") for path, body in vllm.requests if path == "/pooling")


@pytest.mark.parametrize(
    ("kind", "options", "sent"),
    [
        ("pooling-server", {"form": "pair"}, 190),  # 200 less 4 special tokens and the prompt's 6
        ("pooling-server", {"form": "chat"}, 186),  # 200 less 8 of the template and the prompt's 6
        ("internlm", {}, 185),  # and the reward token
    ],
)
def test_a_long_response_is_cut_by_the_rule_before_it_is_sent(vllm: VLLM, kind: str, options: Json, sent: int) -> None:
    (scored,) = served(vllm, kind, **options).score([Pair("prompt", "!" * 300)], lambda n: None)
    assert scored.truncated
    assert scored.reward == sent


def test_a_system_prompt_goes_before_the_first_question_where_the_template_refuses_the_role(vllm: VLLM) -> None:
    system = Pair([{"role": "system", "content": "s!"}, {"role": "user", "content": "q"}], "r")
    assert rewards(served(vllm), [system]) == [1.0]
    assert vllm.requests[-1][1]["messages"][0] == {"role": "user", "content": "s!\n\nq"}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(vllm: VLLM, status: int) -> None:
    vllm.failures = [status, status]
    assert rewards(served(vllm), PAIRS[:1]) == [1.0]
    assert len(vllm.requests) == 2 + 2 + 1, "refused, a known pair with activation and without, the pair itself"


def test_a_refusal_is_said_in_the_servers_words_at_once(vllm: VLLM) -> None:
    vllm.failures = [404]
    with pytest.raises(RewardError, match=r"/classify refused \(HTTP 404: .*not now"):
        rewards(served(vllm), PAIRS[:1])
    assert len(vllm.requests) == 1


def test_the_first_refusal_ends_the_work_under_way(vllm: VLLM) -> None:
    vllm.failures = [503] * 30 + [404]
    with pytest.raises(RewardError, match="refused"):
        rewards(served(vllm, concurrency=4), PAIRS * 5)
    assert len(vllm.requests) < 10


def test_a_classifier_with_more_labels_is_refused(vllm: VLLM) -> None:
    vllm.labels = 3
    with pytest.raises(SettingsError, match="a reward model is a sequence classifier with one label"):
        rewards(served(vllm), PAIRS[:1])


def test_a_model_that_is_not_served_is_named_with_those_that_are(vllm: VLLM) -> None:
    with pytest.raises(RewardError, match="does not serve 'grm'; it serves rm"):
        rewards(served(vllm, model="grm"), PAIRS[:1])


def test_where_it_is_served_is_not_part_of_its_identity(vllm: VLLM) -> None:
    assert served(vllm).identity() == served(vllm, api_base="http://elsewhere:1").identity()
    assert served(vllm).identity() != served(vllm, form="pair").identity()


@pytest.mark.parametrize("kind", ["pooling-server", "internlm"])
@pytest.mark.parametrize("field", ["activation", "softmax", "nothing of the kind"])
def test_a_server_that_ignores_use_activation_is_refused_before_anything_is_scored(
    vllm: VLLM, kind: str, field: str
) -> None:
    vllm.field, vllm.version = field, "0.10.2"
    with pytest.raises(RewardError, match=r"vLLM 0\.10\.2\) ignores use_activation.*Update vLLM") as refused:
        rewards(served(vllm, kind), PAIRS)
    assert "0.5, " in str(refused.value)
    scoring = [body for path, body in vllm.requests if path in ("/classify", "/pooling")]
    assert len(scoring) == 6, "three known pairs, with it and without"


def test_a_classifier_without_activation_is_raw_and_one_within_0_and_1_says_so(vllm: VLLM) -> None:
    vllm.identity = True
    assert rewards(served(vllm), PAIRS[:3]) == [1.0, 2.0, 3.0]
    vllm.identity, vllm.field = False, "activation"
    assert 0.73 < rewards(served(vllm, bounded=True), PAIRS[:1])[0] < 0.74
    assert served(vllm).identity() == served(vllm, bounded=True).identity()


def test_it_is_found_out_once(vllm: VLLM) -> None:
    model = served(vllm)
    model.check()
    asked = len(vllm.requests)
    rewards(model, PAIRS)
    assert len(vllm.requests) == asked + len(PAIRS)


@pytest.mark.parametrize("base", ["not a url", "http://[::1", "ftp://127.0.0.1"])
def test_an_address_that_is_none_is_one_error_at_once(vllm: VLLM, base: str) -> None:
    with pytest.raises(RewardError, match="is no URL"):
        served(vllm, api_base=base).check()
