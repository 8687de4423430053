"""One deployment as several pool models: a real proxy sends the chosen effort, and says that it did."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from click.testing import CliRunner

from demo.proxy_process import ProxyProcess, StubProcess
from erp_trainer.cli import cli
from tests.conftest import StartProxy
from tests.harness import GROUP, TEXT_ROUTES, Answer, Json, ask, proxy_config, write_config
from tests.planted import prompt_of
from tests.pools import add_group, erp_settings, group_settings, wait_until

# Which of the pool is best at which kind of prompt.
KINDS = {"small": "arithmetic", "big-low": "code", "big-high": "poetry"}
ARMS = {"big-low": {"reasoning_effort": "low"}, "big-high": {"reasoning_effort": "high"}}
KEY = "sk-research"
EFFORT_ROUTES = [(route, stream) for route, stream in TEXT_ROUTES if route != "completions"]


def worth(pairs):
    """The reward of a response: whether who gave it, at that effort, is best at the prompt's kind."""
    said = {"answer from big at effort low": "big-low", "answer from big at effort high": "big-high"}
    return [0.9 if KINDS[said.get(pair.response, "small")] == pair.reference else 0.3 for pair in pairs]


def write_pool(folder: Path, stub: StubProcess, names: Sequence[str]) -> Path:
    kinds = [tuple(KINDS.values())[i % 3] for i in range(120)]
    rows = [
        {"prompt_id": f"p{i}", "prompt": f"{prompt_of(kind, i)} ({i})", "category": kind, "reference": kind}
        for i, kind in enumerate(kinds)
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    price = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 4.0}
    models = {
        name: {"model": name.partition("-")[0], "api_base": stub.api_base(name.partition("-")[0]), "price": price}
        | ARMS.get(name, {})
        for name in names
    }
    document = {
        "prompts": {"source": "questions.jsonl"},
        "sampling": {"k": 1},
        "models": models,
        "rewards": [{"kind": "callable", "callable": "tests.test_proxy_effort:worth", "needs_reference": True}],
    }
    (folder / "pool.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder / "pool.yaml"


def erp_train(*arguments: object) -> Json:
    done = CliRunner().invoke(cli, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    found: Json = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def bundle(stub_process: StubProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sampled and fitted; the second effort of the model is added later."""
    folder = tmp_path_factory.mktemp("efforts")
    stub_process.reset()
    erp_train("run", write_pool(folder, stub_process, ("small", "big-low")))
    pool = write_pool(folder, stub_process, tuple(KINDS))
    erp_train("add-model", folder / "bundle", "--pool", pool, "--model", "big-high")
    return folder / "bundle"


def config(stub: StubProcess, bundle: Path, **settings: Any) -> Json:
    """A model that thinks, at two efforts, and one that does not."""
    made = proxy_config(stub, members=("small", "big"), erp_settings=erp_settings(bundle, **settings))
    small = next(entry for entry in made["model_list"] if entry["model_name"] == "small")
    small["litellm_params"]["allowed_openai_params"] = ["user", "reasoning_effort"]
    big = next(entry for entry in made["model_list"] if entry["model_name"] == "big")
    big["litellm_params"]["model"] = "hosted_vllm/big"
    big["model_info"]["erp_arms"] = ARMS
    return made


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def proxy(stub_process: StubProcess, bundle: Path, log: Path, start_module_proxy: StartProxy) -> ProxyProcess:
    made = config(stub_process, bundle)
    made["erp_settings"]["decision_log"] = {"path": str(log)}
    made["model_list"].append(made["model_list"][-1] | {"model_name": "plain", "model_info": {"id": "dep-plain"}})
    made["router_settings"] |= {"fallbacks": [{GROUP: ["plain"]}], "num_retries": 1}
    for name, mode in {"erp-base": {"mode": "shadow", "baseline": "big-low"}, "erp-let-be": {"mode": "shadow"}}.items():
        add_group(made, stub_process, name, {"big": ["big"]})
        made["model_list"][-1]["litellm_params"]["model"] = "hosted_vllm/big"
        made["model_list"][-1]["model_info"] = {"id": f"dep-{name}", "erp_arms": ARMS}
        made["erp_settings"]["groups"][name] = group_settings(bundle, **mode)
    made["general_settings"].pop("custom_auth")
    return start_module_proxy(made, env={"LITELLM_MASTER_KEY": KEY})


def sent(stub: StubProcess) -> list[Json]:
    """What the upstream was told of effort, call by call; an effort by whatever name."""
    found = []
    for record in stub.requests():
        effort = dict(record["effort"])
        word = effort.pop("reasoning_effort", None) or effort.pop("reasoning", {}).get("effort")
        found.append({"model": record["model"], "effort": word} | effort)
    return found


def line_of(log: Path, answer: Answer) -> Json:
    """The line of the decision log about an answer, once it is there."""

    def found() -> list[Json]:
        lines = [json.loads(line) for path in log.glob("*.jsonl") for line in path.read_text().splitlines()]
        return [line for line in lines if line["request_id"] == answer.headers["x-litellm-call-id"]]

    wait_until(lambda: bool(found()), 20.0)
    return found()[0]


def told(answer: Answer) -> tuple[str | None, str | None]:
    assert answer.status == 200, answer.text[:500]
    return answer.erp.get("model"), answer.erp.get("reason")


def test_the_bundle_says_what_each_of_its_models_is_sent_with(bundle):
    models = erp_train("inspect", bundle)["models"]
    assert {name: model["parameters"] for name, model in models.items()} == {"small": None, **ARMS}
    shown = CliRunner().invoke(cli, ["inspect", str(bundle)]).output
    assert "big-high: sent with reasoning_effort high" in shown


def test_the_doctor_says_so_where_the_config_sends_something_else(stub, bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("LITELLM_MASTER_KEY", KEY)
    made = config(stub, bundle)
    sound = erp_train("doctor", write_config(tmp_path / "sound.yaml", made))
    assert not [f for f in sound["findings"] if "big-" in f["text"]], sound
    made["model_list"][1]["model_info"]["erp_arms"] = ARMS | {"big-low": {"reasoning_effort": "medium"}}
    made["litellm_settings"]["drop_params"] = True
    found = [f["text"] for f in erp_train("doctor", write_config(tmp_path / "other.yaml", made))["findings"]]
    assert [text for text in found if "knows it with reasoning_effort low" in text]
    assert [text for text in found if "drop_params is on for 'big'" in text]
    made["model_list"][1]["model_info"]["erp_arms"] = ARMS | {"big-low": {"top_k": 1}}
    done = CliRunner().invoke(cli, ["doctor", str(write_config(tmp_path / "bad.yaml", made)), "--json"])
    assert done.exit_code == 1
    assert "unknown parameter 'top_k'" in done.stdout


@pytest.mark.parametrize(("route", "stream"), EFFORT_ROUTES)
def test_each_prompt_gets_the_model_and_the_effort_that_it_is_best_at(proxy, stub, route, stream):
    for name, kind in KINDS.items():
        stub.reset()
        answer = ask(proxy, prompt_of(kind), route=route, stream=stream)
        effort = ARMS.get(name, {}).get("reasoning_effort")
        assert told(answer)[0] == name
        assert [(call["model"], call["effort"]) for call in sent(stub)] == [("big" if effort else "small", effort)]
        assert answer.deployment == ("dep-big" if effort else "dep-small")


@pytest.mark.parametrize("stream", [False, True])
def test_where_a_route_has_no_word_for_effort_no_arm_is_served(proxy, stub, stream):
    assert told(ask(proxy, prompt_of("poetry"), route="completions", stream=stream))[0] == "small"


def test_what_a_client_says_itself_is_what_is_sent_and_what_is_told(proxy, stub):
    assert told(ask(proxy, prompt_of("poetry"), reasoning_effort="low")) == ("big-low", "routed")
    assert told(ask(proxy, prompt_of("poetry"), reasoning_effort="high")) == ("big-high", "routed")
    assert told(ask(proxy, prompt_of("code"), reasoning_effort="minimal")) == ("small", "routed")
    assert [(call["model"], call["effort"]) for call in sent(stub)] == [
        ("big", "low"),
        ("big", "high"),
        ("small", "minimal"),
    ]


def test_where_no_arm_says_what_the_client_says_it_goes_as_it_came_and_is_told_so(proxy, stub):
    # LiteLLM would refuse it for the other model of the group.
    answer = ask(proxy, prompt_of("poetry"), route="responses", reasoning={"effort": "medium"})
    assert told(answer) == ("big", "own-parameters")
    assert [(call["model"], call["effort"]) for call in sent(stub)] == [("big", "medium")]


def test_a_failed_arm_leaves_no_trace_in_the_call_after_it(proxy, stub):
    stub.set_mode("big", "fail:1")
    answer = ask(proxy, prompt_of("poetry"))
    assert told(answer) == ("small", "retry")
    assert [(call["model"], call["effort"]) for call in sent(stub)] == [("big", "high"), ("small", None)]


def test_a_fallback_to_a_plain_deployment_is_plain(proxy, stub):
    stub.set_mode("small", "500")
    stub.set_mode("big", "fail:1")
    answer = ask(proxy, prompt_of("poetry"))
    assert answer.status == 200, answer.text
    assert answer.erp["reason"] == "fallback:other-group"
    assert [call["effort"] for call in sent(stub)] == ["high", None, None]


def test_the_log_and_the_last_decisions_name_the_arm(proxy, log):
    answer = ask(proxy, prompt_of("poetry", 7))
    line = line_of(log, answer)
    assert (line["chosen"], line["served"], line["propensity"]) == ("big-high", "big-high", {"big-high": 1.0})
    assert set(line["candidates"]) == set(KINDS)
    shown = httpx.get(
        f"{proxy.base_url}/erp/decisions", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False, timeout=60
    ).json()["decisions"][0]
    assert (shown["chosen"], shown["served"], shown["followed"]) == ("big-high", "big-high", True)


def test_an_answer_that_called_tools_is_gone_on_with_by_its_own_arm(proxy, stub):
    first = [{"role": "user", "content": prompt_of("code", 3)}]
    assert told(ask(proxy, messages=first))[0] == "big-low"
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    loop = [{"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "7"}]
    loop[1]["tool_call_id"] = "c1"
    poems = " ".join(prompt_of("poetry", i) for i in range(4))
    answer = ask(proxy, messages=[*first, *loop, {"role": "user", "content": poems}])
    assert told(answer) == ("big-low", "sticky")
    assert [call["effort"] for call in sent(stub)] == ["low", "low"]


def test_tools_are_gone_on_with_by_the_same_model_where_the_arm_cannot(proxy, stub):
    first = [{"role": "user", "content": prompt_of("poetry", 5)}]
    assert told(ask(proxy, messages=first))[0] == "big-high"
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    loop = [{"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "7"}]
    loop[1]["tool_call_id"] = "c1"
    then = [*first, *loop]
    assert told(ask(proxy, messages=then, reasoning_effort="low"))[0] == "big-low"
    assert told(ask(proxy, messages=[*first, *loop, *loop], reasoning_effort="medium"))[0] == "big"
    assert [call["effort"] for call in sent(stub)] == ["high", "low", "medium"]


def test_what_refers_to_an_earlier_answer_goes_to_its_deployment_as_the_best_arm_of_it(proxy, stub):
    first = ask(proxy, prompt_of("code", 4), route="responses")
    assert told(first)[0] == "big-low"
    then = ask(proxy, prompt_of("poetry", 4), route="responses", previous_response_id=first.body["id"])
    assert told(then) == ("big-high", "bound")
    sums = ask(proxy, prompt_of("arithmetic", 4), route="responses", previous_response_id=first.body["id"])
    assert told(sums)[0].startswith("big-")
    assert {call["model"] for call in sent(stub)} == {"big"}


def test_a_baseline_may_be_an_arm_and_what_is_let_be_is_none(proxy, stub, log):
    baseline = ask(proxy, prompt_of("poetry"), model="erp-base")
    assert told(baseline) == ("big-low", "shadow")
    let_be = ask(proxy, prompt_of("poetry"), model="erp-let-be")
    assert told(let_be) == ("erp-let-be.big", "shadow")
    assert [call["effort"] for call in sent(stub)] == ["low", None]
    line = line_of(log, let_be)
    assert (line["chosen"], line["propensity"]) == ("big-high", {"erp-let-be.big": 1.0})
