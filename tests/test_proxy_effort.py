"""One deployment as several pool models: a real proxy sends the chosen effort, and says that it did."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from click.testing import CliRunner

from demo.proxy_process import ProxyProcess, StubProcess
from erp_trainer.cli import cli
from tests.conftest import StartProxy
from tests.harness import GROUP, TEXT_ROUTES, Answer, Json, ask, proxy_config
from tests.planted import planted_rows, prompt_of, write_outcomes
from tests.pools import add_group, erp_settings, group_settings, wait_until

# What the planted outcomes call their models, and what they are here.
NAMES = {"small": "small", "mid": "big-low", "big": "big-high"}
KINDS = {"small": "arithmetic", "big-low": "code", "big-high": "poetry"}
ARMS = {"big-low": {"reasoning_effort": "low"}, "big-high": {"reasoning_effort": "high"}}
KEY = "sk-research"
EFFORT_ROUTES = [(route, stream) for route, stream in TEXT_ROUTES if route != "completions"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("efforts")
    rows = [row | {"model": NAMES[row["model"]]} for row in planted_rows()]
    outcomes = write_outcomes(folder / "outcomes.jsonl", rows)
    price = {name: {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 4.0} for name in NAMES.values()}
    (folder / "prices.yaml").write_text(yaml.safe_dump(price), encoding="utf-8")
    for command in (
        ["import", outcomes, "--out", folder / "run", "--prices", folder / "prices.yaml"],
        ["fit", folder / "run", "--out", folder / "bundle"],
    ):
        done = CliRunner().invoke(cli, [str(part) for part in command])
        assert done.exit_code == 0, done.output
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
    assert set(line["candidates"]) == set(NAMES.values())
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


def test_a_baseline_may_be_an_arm_and_what_is_let_be_is_none(proxy, stub, log):
    baseline = ask(proxy, prompt_of("poetry"), model="erp-base")
    assert told(baseline) == ("big-low", "shadow")
    let_be = ask(proxy, prompt_of("poetry"), model="erp-let-be")
    assert told(let_be) == ("erp-let-be.big", "shadow")
    assert [call["effort"] for call in sent(stub)] == ["low", None]
    line = line_of(log, let_be)
    assert (line["chosen"], line["propensity"]) == ("big-high", {"erp-let-be.big": 1.0})
