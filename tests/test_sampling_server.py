"""Sampling from servers: a real stub process on the other side, whatever it does."""

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.proxy_process import StubProcess, free_port
from erp_trainer.pool.pool import PoolModel, Sampling
from erp_trainer.prompts.prompt_set import Prompt
from erp_trainer.sampling.base import derive_seed
from erp_trainer.sampling.driver import apportion
from erp_trainer.sampling.litellm_engine import LiteLLMEngine
from erp_trainer.sampling.pacing import Concurrency, RequestPace
from erp_trainer.sampling.server import ServerEngine
from erp_trainer.sampling.stage import sample_parts, sample_pool_model
from litellm_erp.errors import SamplingError, SettingsError

FAST = RequestPace(backoff_s=0.01, max_backoff_s=0.05)
PROMPTS = [Prompt(f"p{i}", f"question number {i}") for i in range(20)]
ENGINES = {"server": ServerEngine, "litellm": LiteLLMEngine}


@pytest.fixture(scope="module")
def stub_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubProcess]:
    log = tmp_path_factory.mktemp("stub") / "stub.log"
    with StubProcess(["small", "big"], log_path=log) as process:
        yield process


@pytest.fixture
def server(stub_server: StubProcess) -> StubProcess:
    stub_server.reset()
    return stub_server


def pool_model(server: StubProcess, engine: str = "server", **changes) -> PoolModel:
    name = "openai/small" if engine == "litellm" else "small"
    model = PoolModel("small", name, Sampling(k=4), engine, server.api_base("small"), "os.environ/STUB_KEY")
    return dataclasses.replace(model, **changes)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("STUB_KEY", "sk-stub")


def sample(run: Path, model: PoolModel, prompts=PROMPTS, pace: RequestPace = FAST):
    engine = ENGINES[model.engine](model, pace)
    return sample_pool_model(run, prompts, model, engine=engine)


def records(run: Path, model: PoolModel) -> dict:
    return {record["prompt_id"]: record for record in sample_parts(run, model)}


@pytest.fixture(params=["server", "litellm"])
def engine(request) -> str:
    return request.param


def test_every_prompt_is_asked_once_for_all_its_samples(tmp_path, server, engine):
    model = pool_model(server, engine)
    summary = sample(tmp_path, model)
    asked = server.requests()
    assert [call["choices"] for call in asked] == [4] * len(PROMPTS)
    assert (summary.sampled, summary.failed, summary.empty) == (20, 0, 0)
    assert summary.output_tokens == sum(4 * call["completion_tokens"] for call in asked)


def test_a_record_holds_everything_that_was_asked_and_answered(tmp_path, server):
    model = pool_model(server)
    sample(tmp_path, model, PROMPTS[:1])
    (call,), (record,) = server.requests(), sample_parts(tmp_path, model)
    sampled = {"text": "answer from small", "finish_reason": "stop", "input_tokens": 5,
               "output_tokens": call["completion_tokens"], "seed": derive_seed(0, "p0", 0)}  # fmt: skip
    assert record == {
        "prompt_id": "p0", "prompt": PROMPTS[0].digest, "model": "small", "samples": [sampled] * 4,
        "engine": "server", "engine_version": "stub",
        "sampling": {"k": 4, "temperature": 1.0, "top_p": 1.0, "max_tokens": 512, "seed": 0},
    }  # fmt: skip
    assert call["seed"] == derive_seed(0, "p0", 0)


def test_a_prompt_whose_text_changed_is_asked_again_and_its_old_record_counts_no_more(tmp_path, server):
    model = pool_model(server)
    sample(tmp_path, model)
    changed = [dataclasses.replace(PROMPTS[0], prompt="something else"), *PROMPTS[1:]]
    summary = sample(tmp_path, model, changed)
    assert (summary.sampled, summary.resumed, len(server.requests())) == (20, 19, 21)
    old, *_, new = (r for r in sample_parts(tmp_path, model) if r["prompt_id"] == "p0")
    assert [changed[0].is_asked_in(r) for r in (old, new)] == [False, True]


def test_a_system_prompt_comes_first_and_makes_other_samples(tmp_path, server):
    plain, terse = pool_model(server), pool_model(server, system_prompt="You are terse.")
    for model in (plain, terse):
        sample(
            tmp_path,
            model,
            [Prompt("p", [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}])],
        )
    first, second = server.requests()
    assert second["prompt_tokens"] > first["prompt_tokens"]
    assert sample_parts(tmp_path, plain).key != sample_parts(tmp_path, terse).key


def test_where_and_how_a_model_is_served_is_not_part_of_the_key(tmp_path, server):
    model = pool_model(server)
    moved = dataclasses.replace(model, api_base="http://elsewhere/v1", engine="vllm", timeout_s=1.0)
    assert sample_parts(tmp_path, model).key == sample_parts(tmp_path, moved).key


@pytest.mark.parametrize("mode", ["refuse_n", "one_choice"])
def test_a_server_with_one_choice_is_asked_k_times_with_seeds_of_their_own(tmp_path, server, engine, mode):
    server.set_mode("small", mode)
    model = pool_model(server, engine)
    assert sample(tmp_path, model).sampled == 20
    record = records(tmp_path, model)["p3"]
    assert [s["seed"] for s in record["samples"]] == [derive_seed(0, "p3", i) for i in range(4)]
    wasted = [call for call in server.requests() if "n" in call["keys"]]
    assert len(wasted) <= FAST.start


def test_at_temperature_0_one_response_stands_for_all(tmp_path, server):
    model = pool_model(server, sampling=Sampling(k=4, temperature=0.0))
    sample(tmp_path, model)
    assert len(server.requests()) == 20
    assert not any("n" in call["keys"] for call in server.requests())
    assert all(len(record["samples"]) == 4 for record in sample_parts(tmp_path, model))


def test_a_prompt_longer_than_the_context_is_skipped_counted_and_not_asked_again(tmp_path, server, engine):
    server.set_mode("small", "context:20")
    model = pool_model(server, engine)
    prompts = [*PROMPTS, Prompt("long", "word " * 100)]
    first = sample(tmp_path, model, prompts)
    assert (first.sampled, first.failed, dict(first.skipped)) == (20, 0, {"context": 1})
    assert records(tmp_path, model)["long"]["skipped"].startswith("context: ")
    server.reset()
    again = sample(tmp_path, model, prompts)
    assert (again.resumed, dict(again.skipped), server.requests()) == (21, {"context": 1}, [])


def test_a_prompt_that_no_json_can_carry_is_skipped_and_counted(tmp_path, server):
    summary = sample(tmp_path, pool_model(server), [*PROMPTS, Prompt("broken", "half an emoji: \ud83d")])
    assert (summary.sampled, dict(summary.skipped)) == (20, {"text": 1})


def test_empty_responses_are_kept_and_counted(tmp_path, server, engine):
    server.set_mode("small", "empty")
    model = pool_model(server, engine)
    assert sample(tmp_path, model).empty == 80
    assert records(tmp_path, model)["p0"]["samples"][0]["text"] == ""


def test_a_server_that_stumbles_costs_nothing(tmp_path, server, engine):
    server.set_mode("small", "fail:9")
    summary = sample(tmp_path, pool_model(server, engine))
    assert (summary.sampled, summary.failed) == (20, 0)


def test_a_server_that_stays_broken_is_given_up_and_what_is_recorded_stays(tmp_path, server, engine):
    model = pool_model(server, engine)
    sample(tmp_path, model, PROMPTS[:5])
    server.set_mode("small", "500")
    with pytest.raises(SamplingError, match=r"6 times.*5 of 20 prompts are recorded; run the same command again"):
        sample(tmp_path, model)
    server.set_mode("small", "ok")
    assert sample(tmp_path, model).resumed == 5


@pytest.mark.parametrize("mode", ["429", "hang", "close"])
def test_a_server_that_never_answers_is_given_up_after_a_bounded_number_of_requests(tmp_path, server, engine, mode):
    server.set_mode("small", mode)
    pace = dataclasses.replace(FAST, busy_attempts=3, attempts=3)
    with pytest.raises(SamplingError, match="3 times"):
        sample(tmp_path, pool_model(server, engine, timeout_s=0.3), pace=pace)
    assert len(server.requests()) <= 20 * 3


def test_one_prompt_that_gets_no_answer_is_counted_and_asked_again_next_time(tmp_path, server):
    model = pool_model(server)
    pace = dataclasses.replace(FAST, start=1, ceiling=1, attempts=1)
    server.set_mode("small", "fail:1")
    first = sample(tmp_path, model, pace=pace)
    assert (first.sampled, first.failed) == (19, 1)
    assert first.failures[0].startswith("p0: 500: small is set to fail")
    again = sample(tmp_path, model)
    assert (again.sampled, again.resumed, again.failed) == (20, 19, 0)


def test_a_server_that_is_killed_half_way_is_one_clear_error_and_a_new_one_continues(tmp_path):
    with StubProcess(["small"], log_path=tmp_path / "stub.log") as process:
        process.set_mode("small", "slow:0.05")
        model = pool_model(process)
        arrived = []

        def advance(prompts: int) -> None:
            arrived.append(prompts)
            if sum(arrived) == 5:
                process.kill()

        with pytest.raises(SamplingError, match=r"small: http://127.*of 20 prompts are recorded; run the same command"):
            sample_pool_model(tmp_path, PROMPTS, model, advance, engine=ServerEngine(model, FAST))
    before = set(records(tmp_path, model))
    assert len(before) >= 5
    with StubProcess(["small"], log_path=tmp_path / "stub.log") as process:
        assert sample(tmp_path, pool_model(process)).resumed == len(before)
        assert len(process.requests()) == 20 - len(before)


def test_an_unreachable_server_is_an_error_that_says_what_to_correct(tmp_path, server):
    model = pool_model(server, api_base=f"http://user:secret@127.0.0.1:{free_port()}/v1")
    with pytest.raises(SamplingError, match=r"small: http://127.*cannot be reached.*models\.small\.api_base") as caught:
        sample_pool_model(tmp_path, PROMPTS, model)
    assert "secret" not in str(caught.value)


def test_a_wrong_model_name_is_an_error_that_lists_what_is_served(tmp_path, server):
    with pytest.raises(SamplingError, match="does not serve 'tiny', it serves small"):
        sample_pool_model(tmp_path, PROMPTS, pool_model(server, model="tiny"))
    assert server.requests() == []


def test_a_model_that_is_unknown_to_litellm_says_how_names_are_written(tmp_path, server):
    with pytest.raises(SamplingError, match="provider/model"):
        sample_pool_model(tmp_path, PROMPTS, pool_model(server, "litellm", model="nobody-knows-this"))


def test_a_missing_key_names_the_variable_before_anything_is_sent(tmp_path, server, engine, monkeypatch):
    monkeypatch.delenv("STUB_KEY")
    with pytest.raises(SettingsError, match="STUB_KEY is not set"):
        sample_pool_model(tmp_path, PROMPTS, pool_model(server, engine))
    assert server.requests() == []


@pytest.mark.parametrize(
    ("mode", "message"), [("401", "refuses the key in os.environ/STUB_KEY"), ("404", "answers 404")]
)
def test_a_refused_key_or_model_is_one_error_and_is_not_tried_again(tmp_path, server, engine, mode, message):
    server.set_mode("small", mode)
    with pytest.raises(SamplingError, match=message):
        sample(tmp_path, pool_model(server, engine))
    assert len(server.requests()) <= FAST.start


def test_a_server_without_a_url_is_a_setting_that_is_missing(tmp_path, server):
    with pytest.raises(SettingsError, match=r"models\.small\.api_base: missing"):
        sample_pool_model(tmp_path, PROMPTS, pool_model(server, api_base=None))


def test_an_iteration_that_is_stopped_stops_the_requests(tmp_path, server):
    server.set_mode("small", "slow:0.05")

    def interrupt(prompts: int) -> None:
        if prompts:
            raise KeyboardInterrupt

    model, prompts = pool_model(server), [Prompt(f"p{i}", f"question number {i}") for i in range(2000)]
    with pytest.raises(KeyboardInterrupt):
        sample_pool_model(tmp_path, prompts, model, interrupt)
    assert len(records(tmp_path, model)) == 1
    assert len(server.requests()) < len(prompts)


def test_concurrency_grows_while_requests_succeed_and_halves_once_per_trouble():
    concurrency = Concurrency(RequestPace(start=4, ceiling=16), timeout_s=100)
    for now in range(40):
        concurrency.succeeded(now, now + 1, concurrency.limit)
    assert concurrency.limit == 16
    for _ in range(16):
        concurrency.congested(50, 51)
    assert concurrency.limit == 8
    concurrency.congested(52, 53)
    assert concurrency.limit == 4
    concurrency.succeeded(54, 55, 4)
    assert concurrency.limit == 4, "after trouble it grows by one a round, not by one a request"


def test_concurrency_does_not_grow_on_slow_answers_or_where_it_was_not_used():
    concurrency = Concurrency(RequestPace(start=4), timeout_s=100)
    concurrency.succeeded(0, 30, 4)
    concurrency.succeeded(0, 1, 2)
    assert concurrency.limit == 4


def test_waits_double_up_to_a_bound():
    pace, rng = RequestPace(), random.Random(0)
    waits = [pace.wait_s(attempt, rng) for attempt in range(12)]
    assert all(0.5 * min(30, 0.5 * 2**i) <= wait <= min(30, 0.5 * 2**i) for i, wait in enumerate(waits))


def test_seeds_depend_on_run_prompt_and_sample_and_on_nothing_else():
    assert derive_seed(0, "p", 0) == 588653706
    seeds = {derive_seed(run, prompt, sample) for run in (0, 1) for prompt in "pq" for sample in range(8)}
    assert len(seeds) == 32
    assert max(seeds) < 2**31


def test_apportioned_tokens_sum_to_the_total():
    assert sum(apportion(101, [3, 0, 50])) == 101
    assert apportion(9, [2, 2, 2]) == [3, 3, 3]
