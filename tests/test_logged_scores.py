"""Logged answers scored afterwards: kept where asked on every route, drawn at random, in the bundle's unit, once."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from demo.proxy_process import ProxyProcess, StubProcess
from erp_trainer.cli import cli
from erp_trainer.console import silent
from erp_trainer.logged.log import read_log
from erp_trainer.logged.score import Sample, Scale, scale_of, score_log
from erp_trainer.pool.pool import RewardSpec
from erp_trainer.rewards.combining import Normalisation
from erp_trainer.rewards.registry import load_reward_model
from litellm_erp.decision_log.record import Feedback, Record, parse_line
from litellm_erp.errors import DecisionLogError, SettingsError
from litellm_erp.proxy.answers.litellm_answer import answer_text
from tests.conftest import StartProxy
from tests.harness import GROUP, MODELS, TEXT_ROUTES, Json, ask, proxy_config, write_keys
from tests.logs import decision, feedback, write
from tests.planted import prompt_of
from tests.pools import group_settings, wait_until

REDACTION = "tests.test_logged_scores:redacted"
JUDGE = """
import math

def length(pairs):
    return [math.nan if "odd" in pair.prompt else float(len(pair.response)) for pair in pairs]

def vowels(pairs):
    return [float(sum(c in "aeiou" for c in pair.response)) for pair in pairs]

def dies(pairs):
    if any("fatal" in pair.prompt for pair in pairs):
        raise RuntimeError("no more memory")
    return length(pairs)
"""


def redacted(text: str) -> str:
    if "secret" in text:
        raise ValueError(text)
    return text.replace("big", "Big")


def specs(folder: Path, *names: str, **options: Any) -> tuple[RewardSpec, ...]:
    (folder / "judge.py").write_text(JUDGE)
    return tuple(RewardSpec("callable", name, 1.0, {"callable": f"judge:{name}", **options}, folder) for name in names)


def reward_of(made: tuple[RewardSpec, ...], **scales: Json) -> Json:
    """What a bundle's manifest says that it was fitted on."""
    identities = {spec.name: load_reward_model(spec).identity() for spec in made}
    plain = {"mean": 0.0, "std": 1.0, "weight": 1.0}
    return {"unit": "u", "identities": identities, "normalisation": {s.name: scales.get(s.name, plain) for s in made}}


def scale(folder: Path, *names: str, **scales: Json) -> Scale:
    made = specs(folder, *names)
    return scale_of(reward_of(made, **scales), folder, made, folder / "pool.yaml")


def logged(i: int, **changed: Any) -> Json:
    return decision(f"r{i}", account="team:a", prompt=f"prompt {i}", answer="a" * (i % 7), **changed)


def score(log: Path, at: Scale, share: float = 1.0, **sample: Any) -> Json:
    return score_log([log], at, Sample(share, **sample), silent)


def scores(folder: Path) -> list[Feedback]:
    found = [parse_line(line) for path in folder.glob("scores-*.jsonl") for line in path.read_bytes().splitlines()]
    return [entry for entry in found if isinstance(entry, Feedback)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    write(folder / "decisions-1.jsonl", [logged(i) for i in range(400)])
    return folder


def test_a_share_is_drawn_by_seed_alone_a_larger_one_adds_to_it_and_nothing_is_scored_twice(
    log: Path, tmp_path: Path
) -> None:
    at = scale(tmp_path, "length")
    first = score(log, at, 0.1)
    drawn = {entry.request_id for entry in scores(log)}
    # Four standard deviations of a tenth of 400.
    assert 16 <= first["scored"] == len(drawn) <= 64
    assert score(log, at, 0.1)["scored"] == 0
    again = score(log, at, 0.3)
    assert again["scored_before"] == first["scored"]
    assert drawn < {entry.request_id for entry in scores(log)}
    assert len(scores(log)) == first["scored"] + again["scored"]
    assert Sample(0.1, 1).has(("r1", None)) == Sample(0.1, 1).has(("r1", None))
    assert {i for i in range(400) if Sample(0.1, 1).has((f"r{i}", "team:a"))} != {int(r[1:]) for r in drawn}


def test_a_reward_is_in_the_bundles_unit_by_the_constants_that_the_bundle_keeps(log: Path, tmp_path: Path) -> None:
    of_length = {"mean": 2.0, "std": 4.0, "weight": 0.75}
    at = scale(tmp_path, "length", "vowels", length=of_length, vowels={"mean": 1.0, "std": 2.0, "weight": 0.25})
    score(log, at, 0.2)
    for entry in scores(log):
        n = int(entry.request_id[1:]) % 7
        assert entry.reward == pytest.approx(0.75 * (n - 2) / 4 + 0.25 * (n - 1) / 2)
        assert (entry.source, entry.account, entry.by) == ("score", "team:a", at.key)


def test_readers_join_scores_and_a_person_counts_first_whoever_spoke_first(log: Path, tmp_path: Path) -> None:
    at = scale(tmp_path, "length")
    score(log, at)
    found = read_log([log])
    assert found.counts["sources"] == {"score": 400}
    assert found.reward_P[found.request_ids.index("r6")] == 6.0
    write(log / "feedback-1.jsonl", [feedback("r6", 0.25, time=1.79e9) | {"account": "team:a"}])
    both = read_log([log])
    assert both.reward_P[both.request_ids.index("r6")] == 0.25
    only = read_log([log], sources=["score"])
    assert only.reward_P[only.request_ids.index("r6")] == 6.0


def test_whether_somebody_has_spoken_does_not_decide_what_is_scored(log: Path, tmp_path: Path) -> None:
    write(log / "feedback-1.jsonl", [feedback(f"r{i}", 0.0) for i in range(0, 400, 2)])
    score(log, scale(tmp_path, "length"), 0.2)
    assert {entry.request_id for entry in scores(log)} == {
        f"r{i}" for i in range(400) if Sample(0.2).has((f"r{i}", "team:a"))
    }


def test_what_cannot_be_scored_is_counted_by_why(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    odd = [
        logged(0, failed=True, served=None),
        logged(1, served=None),
        logged(2) | {"prompt": None},
        logged(3) | {"answer": None},
        logged(4) | {"prompt": "odd"},
        logged(5) | {"answer": ""},
        logged(6) | {"answer": "b" * 80_000},
        logged(6) | {"answer": "of the same id"},
    ]
    write(folder / "decisions-1.jsonl", odd)
    found = score(folder, scale(tmp_path, "length"))
    assert {name: found[name] for name in ("failed", "served_elsewhere", "without_prompt", "without_answer")} == (
        dict.fromkeys(("failed", "served_elsewhere", "without_prompt", "without_answer"), 1)
    )
    assert (found["requests"], found["scorable"], found["scored"], found["cut"]) == (7, 3, 2, 1)
    assert found["skipped"] == {"nan reward": 1}
    assert {entry.request_id: entry.reward for entry in scores(folder)} == {"r5": 0.0, "r6": 80_000.0}


def test_a_reward_model_that_fails_keeps_what_was_scored_and_the_rest_is_scored_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    monkeypatch.setattr("erp_trainer.rewards.stage._FIRST_CHUNK", 10)
    monkeypatch.setattr("erp_trainer.rewards.stage._LARGEST_CHUNK", 10)
    path = write(folder / "decisions-1.jsonl", [logged(i) | {"prompt": "fatal" if i == 35 else "p"} for i in range(50)])
    at = scale(tmp_path, "dies")
    with suppress(Exception):
        score(folder, at)
    assert len(scores(folder)) == 30
    path.write_text(path.read_text().replace("fatal", "p"))
    assert score(folder, at)["scored"] == 20
    assert len({entry.request_id for entry in scores(folder)}) == len(scores(folder)) == 50


def test_a_log_without_texts_says_what_to_switch_on(tmp_path: Path) -> None:
    path = write(tmp_path / "decisions-1.jsonl", [decision(f"r{i}", prompt="p") for i in range(3)])
    with pytest.raises(DecisionLogError, match="prompts: true, answers: true"):
        score(path, scale(tmp_path, "length"))


def test_scores_of_other_reward_models_are_never_added_to(log: Path, tmp_path: Path) -> None:
    score(log, scale(tmp_path, "length"), 0.1)
    with pytest.raises(DecisionLogError, match="scores-"):
        score(log, scale(tmp_path, "vowels"), 0.1)


@pytest.mark.parametrize("changed", ["model", "options", "reference", "missing", "unsaid"])
def test_reward_models_that_are_not_the_bundles_are_refused(tmp_path: Path, changed: str) -> None:
    made = specs(tmp_path, "length", **({"needs_reference": True} if changed == "reference" else {}))
    reward = reward_of(made)
    if changed == "model":
        reward["identities"]["length"]["source"] = "another"
    if changed == "options":
        made = specs(tmp_path, "length", version="2")
    if changed == "missing":
        made = specs(tmp_path, "vowels")
    if changed == "unsaid":
        reward, made = {"unit": "reward", "normalisation": "none"}, specs(tmp_path, "length", "vowels")
    with pytest.raises(SettingsError, match=r"pool|length|rewards"):
        scale_of(reward, tmp_path, made, tmp_path / "pool.yaml")


def test_a_bundle_of_imported_rewards_takes_one_reward_model_on_trust(tmp_path: Path) -> None:
    made = specs(tmp_path, "length")
    found = scale_of({"unit": "reward", "normalisation": "none"}, tmp_path, made, tmp_path / "pool.yaml")
    assert not found.checked
    assert found.normalisation == {"length": Normalisation(0.0, 1.0, 1.0)}


TEXT, THOUGHT = {"type": "text", "text": "yes"}, {"type": "thinking", "thinking": "hm"}
CALL = {"type": "tool_use", "name": "f", "input": {}}
MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "yes"}]}


@pytest.mark.parametrize(
    ("response", "kept"),
    [
        ({"content": [THOUGHT, TEXT]}, "yes"),
        ({"content": [TEXT, CALL]}, None),
        ({"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}, {"text": "yes"}]}}]}, "yes"),
        ({"candidates": [{"content": {"parts": [{"functionCall": {}}]}}]}, None),
        ({"candidates": [{"content": {}}, {"content": {}}]}, None),
        ({"output": [{"type": "reasoning"}, MESSAGE]}, "yes"),
        ({"output": [MESSAGE, {"type": "function_call"}]}, None),
        ({"choices": [{"message": {"content": [TEXT, {"type": "image_url"}]}}]}, None),
        ({"choices": [{"message": {"content": "y", "audio": {"id": "a"}}}]}, None),
        ({"choices": [{"text": "y" * 20}]}, "y" * 10),
        ({"choices": []}, None),
        ({"choices": 7}, None),
        ({"output": [7]}, None),
        ("yes", None),
        (None, None),
    ],
)
def test_an_answer_is_its_text_and_nothing_else(response: object, kept: str | None) -> None:
    assert answer_text(response, 10) == kept


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scored") / "erp_decisions"


@pytest.fixture(scope="module")
def proxy(
    start_module_proxy: StartProxy,
    stub_process: StubProcess,
    planted_bundle: Path,
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> ProxyProcess:
    settings = {
        "groups": {GROUP: group_settings(planted_bundle)},
        "decision_log": {"path": str(folder), "prompts": True, "answers": True, "redact": REDACTION},
    }
    keys = {"sk-research": {"team_id": "research"}}
    config = proxy_config(stub_process, erp_settings=settings)
    return start_module_proxy(config, env=write_keys(tmp_path_factory.mktemp("keys") / "keys.json", keys))


def records(folder: Path) -> Iterator[Record]:
    for path in folder.glob("decisions-*.jsonl"):
        for line in path.read_bytes().splitlines():
            if isinstance(entry := parse_line(line), Record):
                yield entry


def record_of(folder: Path, request_id: str) -> Record:
    wait_until(lambda: any(record.request_id == request_id for record in records(folder)), 20.0)
    [found] = [record for record in records(folder) if record.request_id == request_id]
    return found


def asked(proxy: ProxyProcess, name: str, prompt: str = "hello", **options: Any) -> None:
    answer = ask(proxy, prompt, headers={"x-litellm-call-id": name}, **options)
    assert answer.status == 200, answer.text


@pytest.mark.proxy
@pytest.mark.parametrize(("route", "stream"), [*TEXT_ROUTES, ("google", False), ("google-stream", False)])
def test_answers_are_kept_on_every_route_streams_too(
    proxy: ProxyProcess, folder: Path, route: str, stream: bool
) -> None:
    name = f"{route}-{stream}"
    asked(proxy, name, route=route, stream=stream)
    record = record_of(folder, name)
    # The redaction has seen it.
    assert record.answer == f"answer from {record.served}".replace("big", "Big")
    assert record.prompt == "hello"


@pytest.mark.proxy
def test_a_conversation_is_kept_as_an_outcomes_table_has_it(proxy: ProxyProcess, folder: Path) -> None:
    turns = [("system", "Be brief."), ("user", "Hi big"), ("assistant", "Hello."), ("user", "And now?")]
    wanted = [{"role": role, "content": text.replace("big", "Big")} for role, text in turns]
    messages = [{"role": role, "content": text} for role, text in turns]
    spoken = messages[1:]
    asked(proxy, "talk-chat", messages=messages)
    asked(proxy, "talk-messages", route="messages", system="Be brief.", messages=spoken)
    asked(proxy, "talk-responses", route="responses", instructions="Be brief.", input=spoken)
    for name in ("talk-chat", "talk-messages", "talk-responses"):
        assert json.loads(record_of(folder, name).prompt or "") == wanted, name
    asked(proxy, "talk-secret", messages=[*messages, {"role": "assistant", "content": "a secret"}, messages[1]])
    assert record_of(folder, "talk-secret").prompt is None


@pytest.mark.proxy
def test_an_answer_that_is_not_one_text_is_not_kept_and_no_request_fails(
    proxy: ProxyProcess, stub: StubProcess, folder: Path
) -> None:
    asked(proxy, "two", n=2)
    assert record_of(folder, "two").answer is None
    asked(proxy, "hidden", "a secret")
    hidden = record_of(folder, "hidden")
    assert (hidden.prompt, hidden.answer is None) == (None, False)
    for mode, kept in {"tools": None, "refusal": "I'm sorry, I can't help with that.", "thought": ""}.items():
        for model in MODELS:
            stub.set_mode(model, mode)
        asked(proxy, mode)
        assert record_of(folder, mode).answer == kept, mode
    stub.reset()


@pytest.mark.proxy
def test_answers_of_a_proxy_are_scored_reported_and_learned_from(
    proxy: ProxyProcess, folder: Path, planted_bundle: Path, tmp_path: Path
) -> None:
    for i in range(60):
        asked(proxy, f"scored-{i}", f"question {i} {prompt_of('poetry', i)}", stream=i % 2 == 0)
    record_of(folder, "scored-59")
    bundle = tmp_path / "bundle"
    shutil.copytree(planted_bundle, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["reward"] |= reward_of(specs(tmp_path, "length"), length={"mean": 0.0, "std": 20.0, "weight": 1.0})
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    models = {name: {"api_base": "http://127.0.0.1:9/v1", "model": name} for name in MODELS}
    document = {
        "run": "run",
        "bundle": "bundle",
        "prompts": {"source": "prompts.jsonl"},
        "models": models,
        "rewards": [{"kind": "callable", "name": "length", "callable": "judge:length"}],
    }
    (tmp_path / "pool.yaml").write_text(yaml.safe_dump(document))

    def run(*arguments: object) -> Json:
        done = CliRunner().invoke(cli, [*map(str, arguments), "--json"])
        assert done.exit_code == 0, done.output
        found: Json = json.loads(done.stdout)
        return found

    found = run("score", tmp_path / "pool.yaml", "--log", folder, "--share", 1)
    assert found["scored"] >= 60
    assert found["checked"]
    report = run("report", "--log", folder, "--feedback", "score")
    assert report["counts"]["sources"] == {"score": found["scored"]}
    [served] = [each for each in report["targets"] if each["key"] == "served"]
    means = [(of["scored"], of["mean_reward"]) for of in found["models"].values()]
    assert not served["measured"]["refused"], served["measured"]
    assert served["measured"]["ips"]["mean"] == pytest.approx(
        sum(n * mean for n, mean in means) / found["scored"], abs=0.05
    )
    assert run("update", bundle, "--log", folder)["feedback"] == found["scored"]
