"""The demo on a few prompts, checked against its own files and the vendored outcomes, not against its code."""

import json
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
import yaml

from demo.prepare import EXAMPLE, PROXY_CONFIG
from demo.proxy_process import REPOSITORY, free_port
from demo.sending import ask_all
from erp_trainer.outcomes.run import open_run
from litellm_erp.bundle.load import load_bundle
from litellm_erp.goals.curve import Mixture
from litellm_erp.goals.goal import Goal
from litellm_erp.goals.solve import solve

N_PROMPTS = 12
COMMAND = [sys.executable, "-m", "demo", "--out"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one small run of the demo; its printout is in ``printed.txt``."""
    folder = tmp_path_factory.mktemp("demo")
    command = [*COMMAND, str(folder), "--prompts", str(N_PROMPTS)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    (folder / "printed.txt").write_text(done.stdout, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def served(out: Path) -> list[dict[str, Any]]:
    return read_lines(out / "served.jsonl")


@pytest.fixture(scope="module")
def summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    """The vendored rows by prompt id."""
    return {row["prompt_id"]: row for row in pq.read_table(EXAMPLE / "outcomes.parquet").to_pylist()}


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def prices() -> dict[str, dict[str, float]]:
    return yaml.safe_load((EXAMPLE / "prices.yaml").read_text(encoding="utf-8"))


@pytest.mark.proxy
def test_every_request_succeeds_and_the_stub_was_asked_once_for_each(out: Path, summary: dict[str, Any]) -> None:
    assert summary["requests"] == {"sent": 4 * N_PROMPTS, "failed": 0, "not as decided": 0}
    assert len(read_lines(out / "stub.jsonl")) == 4 * N_PROMPTS


@pytest.mark.proxy
def test_headers_name_the_model_that_the_stub_saw(out: Path, served: list[dict[str, Any]]) -> None:
    assert len(served) == 4 * N_PROMPTS
    assert [line["header_model"] for line in served] == [line["stub_model"] for line in served]
    frontier = load_bundle(out / "bundle").frontier
    mixtures = {"research": Mixture.of(0.0), "support": solve(Goal("min_quality", 1.0), frontier).mixture}
    for line in served:
        mixture = mixtures[line["team"]]
        assert mixture.low * 0.999 <= float(line["headers"]["lambda"]) <= mixture.high * 1.001


@pytest.mark.proxy
def test_the_stub_log_has_as_many_requests_for_each_model_as_served_jsonl(
    out: Path, served: list[dict[str, Any]]
) -> None:
    in_log = sorted(record["model"] for record in read_lines(out / "stub.jsonl"))
    assert in_log == sorted(line["stub_model"] for line in served)


@pytest.mark.proxy
@pytest.mark.parametrize("team", ["research", "support"])
@pytest.mark.parametrize("safety", [True, False])
def test_erp_rows_follow_from_served_jsonl_and_the_vendored_outcomes(
    team: str,
    safety: bool,
    served: list[dict[str, Any]],
    summary: dict[str, Any],
    outcomes: dict[str, dict[str, Any]],
) -> None:
    mine = [line for line in served if line["team"] == team and line["safety"] is safety]
    name = f"ERP λ={mine[0]['lambda']:.3g} ({team})" + ("" if safety else ", no safety")
    row = summary["policies"][name]
    rewards = [outcomes[line["prompt_id"]][line["stub_model"]] for line in mine]
    costs = [cost_usd(line) for line in mine]
    assert row["reward"] == pytest.approx(sum(rewards) / N_PROMPTS)
    assert row["cost_usd"] == pytest.approx(sum(costs) / N_PROMPTS)
    asked = [line["stub_model"] for line in mine]
    assert row["share"] == pytest.approx({model: asked.count(model) / N_PROMPTS for model in row["share"]})


def cost_usd(line: dict[str, Any]) -> float:
    price = prices()[line["stub_model"]]
    tokens_in, tokens_out = line["input_tokens"], line["output_tokens"]
    return (price["input_usd_per_mtok"] * tokens_in + price["output_usd_per_mtok"] * tokens_out) / 1e6


@pytest.mark.proxy
def test_baselines_follow_from_the_same_prompts(
    served: list[dict[str, Any]], summary: dict[str, Any], outcomes: dict[str, dict[str, Any]]
) -> None:
    sent = [outcomes[name] for name in {line["prompt_id"] for line in served}]
    train = [row for row in outcomes.values() if row["split"] == "train"]
    best = max(prices(), key=lambda model: sum(row[model] for row in train))
    policies = summary["policies"]
    expected = {
        f"best single model: {best}": [row[best] for row in sent],
        "random (expectation)": [sum(row[model] for model in prices()) / len(prices()) for row in sent],
        "oracle": [max(row[model] for model in prices()) for row in sent],
    }
    for name, rewards in expected.items():
        assert policies[name]["reward"] == pytest.approx(sum(rewards) / N_PROMPTS)
    assert all(policy["reward"] <= policies["oracle"]["reward"] + 1e-9 for policy in policies.values())
    assert all(sum(policy["share"].values()) == pytest.approx(1) for policy in policies.values())


@pytest.mark.proxy
def test_no_prompt_that_is_sent_occurs_in_train(out: Path, served: list[dict[str, Any]]) -> None:
    found = open_run(out / "run").outcomes()
    texts = {
        name: " ".join(text.split()).casefold() for name, text in zip(found.prompt_ids, found.prompts, strict=True)
    }
    train = {name for name, split in zip(found.prompt_ids, found.splits, strict=True) if split == "train"}
    sent = {line["prompt_id"] for line in served}
    assert not sent & train
    assert not {texts[name] for name in sent} & {texts[name] for name in train}


@pytest.mark.proxy
def test_printout_has_every_policy_and_fits_120_columns(out: Path, summary: dict[str, Any]) -> None:
    printed = (out / "printed.txt").read_text(encoding="utf-8")
    assert max(map(len, printed.splitlines())) <= 120
    assert all(name.partition(":")[0] in printed for name in summary["policies"])


@pytest.mark.proxy
def test_an_interrupt_stops_everything(tmp_path: Path) -> None:
    command = [*COMMAND, str(tmp_path)]
    asked = tmp_path / "stub.jsonl"
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as demo:
        while not (asked.exists() and asked.stat().st_size):
            assert demo.poll() is None
            time.sleep(0.05)
        started = children_of(demo.pid)
        demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=300)
    assert (demo.returncode, errors) == (130, "interrupted; everything it started is stopped\n")
    assert len(started) == 2  # the stub and the proxy
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


@pytest.mark.proxy
def test_the_proxy_can_be_kept_up_to_try_things_on(out: Path) -> None:
    with subprocess.Popen([*COMMAND, str(out), "--serve"], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        said = ""
        while "Its log:" not in said:
            line = demo.stdout.readline()
            assert line, said
            said += line
        base_url = re.findall(r"http://127.0.0.1:\d+", said)[-1]
        headers = {"Authorization": "Bearer sk-admin"}
        teams = httpx.get(f"{base_url}/erp/teams", headers=headers, trust_env=False, timeout=60)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 130
    assert {each["team"] for each in teams.json()["teams"]} >= {"research", "support"}


def children_of(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone meanwhile
            # A program's name stands in brackets and may hold anything.
            its_parent = int(path.read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            found += [int(path.parent.name)] if its_parent == parent else []
    return found


async def test_a_proxy_that_is_gone_is_a_failed_request_and_not_a_crash() -> None:
    answers = await ask_all(f"http://127.0.0.1:{free_port()}", "erp-auto", ["hello"], ["research"], lambda steps: None)
    assert [(answer.team, answer.error.partition(":")[0]) for answer in answers] == [("research", "ConnectError")]


def test_the_proxy_config_states_the_prices_of_the_data() -> None:
    config = yaml.safe_load(PROXY_CONFIG.read_text(encoding="utf-8"))
    stated = {
        entry["model_name"]: [float(entry["litellm_params"][f"{side}_cost_per_token"]) for side in ("input", "output")]
        for entry in config["model_list"]
    }
    assert stated == {
        model: pytest.approx([price["input_usd_per_mtok"] / 1e6, price["output_usd_per_mtok"] / 1e6])
        for model, price in prices().items()
    }
