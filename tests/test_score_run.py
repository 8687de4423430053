"""The scoring stage and its command, over samples on disk."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from erp_trainer.cli import cli
from erp_trainer.console import columns, progress
from erp_trainer.files.records import Parts
from erp_trainer.pool.pool import RewardSpec, load
from erp_trainer.prompts.prompt_set import Prompt, write_prompt_set
from erp_trainer.rewards.stage import ScoreSummary, score_run
from erp_trainer.sampling.stage import sample_parts
from litellm_erp.errors import RewardError
from tests import reward_models
from tests.reward_models import spec

OWN = """
import pathlib
calls = pathlib.Path(__file__).with_name("calls")

def score(pairs):
    texts = [pair.response for pair in pairs]
    with calls.open("a") as log:
        log.writelines(text + "\\n" for text in texts)
    if "stop" in texts and not pathlib.Path(__file__).with_name("well").exists():
        raise OSError("disk on fire")
    odd = {"nan": float("nan"), "huge": 1e300}
    return [odd.get(text, len(text)) for text in texts]
"""
PROMPTS = [Prompt(f"p{i}", f"question {i}", reference="42", split="test" if i % 2 else "train") for i in range(6)]
LENGTH = spec("callable", "length", callable="own_reward:score")


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a reward function that logs what it is called with."""
    import sys

    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "own_reward.py").write_text(OWN)
    monkeypatch.syspath_prepend(folder)
    sys.modules.pop("own_reward", None)
    return folder


def sampled(run: Path, model: str, texts: dict[str, Sequence[str]], prompts: Sequence[Prompt] = PROMPTS) -> Parts:
    """Samples of one pool model: those of ``texts``, and for other prompts ("yes", "no 42")."""
    parts = Parts(run / "samples", model, {"model": model})
    with parts.writer() as writer:
        for prompt in prompts:
            samples = [{"text": text} for text in texts.get(prompt.prompt_id, ("yes", "no 42"))]
            writer.append({"prompt_id": prompt.prompt_id, "model": model, "samples": samples})
    return parts


def scored(run: Path, parts: dict[str, Parts], *specs: RewardSpec, prompts: Sequence[Prompt] = PROMPTS) -> ScoreSummary:
    return score_run(run, prompts, parts, specs or [LENGTH], progress)


def called_with(own: Path) -> list[str]:
    return (own / "calls").read_text().splitlines() if (own / "calls").exists() else []


def test_every_response_of_every_model_gets_its_own_reward(tmp_path: Path) -> None:
    parts = {"a": sampled(tmp_path, "a", {"p1": ("1", "333")}), "b": sampled(tmp_path, "b", {"p1": ("22", "")})}
    summary = scored(tmp_path, parts)
    scores = summary.scores["length"]
    assert scores["p1", "a"].tolist() == [1, 3]
    assert scores["p1", "b"].tolist() == [2, 0]
    assert len(scores) == 12
    assert (summary.by_reward["length"].responses, summary.by_reward["length"].empty) == (24, 1)


def test_what_is_scored_is_not_scored_again(tmp_path: Path, own: Path) -> None:
    parts = {"a": sampled(tmp_path, "a", {})}
    first = scored(tmp_path, parts)
    n_calls = len(called_with(own))
    second = scored(tmp_path, parts)
    assert len(called_with(own)) == n_calls
    assert second.by_reward["length"].reused == 6
    assert {k: v.tolist() for k, v in second.scores["length"].items()} == {
        k: v.tolist() for k, v in first.scores["length"].items()
    }


def test_another_pool_model_is_scored_alone(tmp_path: Path, own: Path) -> None:
    parts = {"a": sampled(tmp_path, "a", {})}
    scored(tmp_path, parts)
    n_calls = len(called_with(own))
    summary = scored(tmp_path, {**parts, "b": sampled(tmp_path, "b", {})})
    assert len(called_with(own)) == 2 * n_calls
    assert summary.by_reward["length"].reused == 6


def test_an_error_keeps_what_was_done_and_the_next_run_goes_on(tmp_path: Path, own: Path) -> None:
    prompts = [Prompt(f"p{i}", "q") for i in range(100)]
    parts = {"a": sampled(tmp_path, "a", {"p99": ("stop",)}, prompts)}
    with pytest.raises(RewardError, match="disk on fire"):
        scored(tmp_path, parts, prompts=prompts)
    (own / "well").touch()
    summary = scored(tmp_path, parts, prompts=prompts)
    assert 0 < summary.by_reward["length"].reused < 100
    assert summary.by_reward["length"].prompts == 100


def test_other_responses_or_another_prompt_are_scored_anew(tmp_path: Path) -> None:
    parts = {"a": sampled(tmp_path, "a", {})}
    scored(tmp_path, parts)
    sampled(tmp_path, "a", {"p0": ("sampled again",)}, PROMPTS[:1])
    changed = [PROMPTS[0], Prompt("p1", "another question"), *PROMPTS[2:]]
    summary = scored(tmp_path, parts, prompts=changed)
    assert summary.by_reward["length"].reused == 4
    assert summary.scores["length"]["p0", "a"].tolist() == [13]


def test_a_reward_that_no_table_may_hold_is_skipped_when_it_is_given(tmp_path: Path) -> None:
    parts = {"a": sampled(tmp_path, "a", {"p2": ("fine", "huge")})}
    summary = scored(tmp_path, parts)
    assert summary.by_reward["length"].skipped == {"reward larger than 1e+15": 1}


def test_a_nan_skips_its_prompt_and_is_counted(tmp_path: Path) -> None:
    parts = {"a": sampled(tmp_path, "a", {"p2": ("fine", "nan")})}
    for _ in range(2):  # the record counts as much as the event
        summary = scored(tmp_path, parts)
        assert summary.by_reward["length"].skipped == {"nan reward": 1}
        assert ("p2", "a") not in summary.scores["length"]
        assert len(summary.scores["length"]) == 5


def test_what_was_not_sampled_and_what_has_no_reference_is_counted(tmp_path: Path) -> None:
    prompts = [PROMPTS[0], PROMPTS[1], Prompt("p2", "no reference")]
    parts = {"a": sampled(tmp_path, "a", {}, [PROMPTS[0], prompts[2]])}
    with parts["a"].writer() as writer:
        writer.append({"prompt_id": "p1", "model": "a", "skipped": "context: 9000"})
    summary = scored(tmp_path, parts, spec("regex", "match", pattern="{reference}"), prompts=prompts)
    assert summary.scores["match"]["p0", "a"].tolist() == [0, 1]
    assert summary.by_reward["match"].skipped == {"no reference": 1, "not sampled": 1}


def test_the_same_response_is_scored_once(tmp_path: Path, own: Path) -> None:
    parts = {"a": sampled(tmp_path, "a", {"p0": ("same", "same", "other", "same")}, PROMPTS[:1])}
    assert scored(tmp_path, parts).scores["length"]["p0", "a"].tolist() == [4, 4, 5, 4]
    assert called_with(own) == ["same", "other"]


def test_truncated_responses_are_counted_over_all_processes(tmp_path: Path) -> None:
    folder = reward_models.openassistant(tmp_path / "rm")
    parts = {"a": sampled(tmp_path, "a", {"p0": ("long " * 90, "short")})}
    for _ in range(2):
        summary = scored(tmp_path, parts, spec("text-pair", "rm", model=str(folder), max_tokens=64))
        assert summary.by_reward["rm"].truncated == 1


def test_lone_surrogates_do_not_stop_a_run(tmp_path: Path) -> None:
    folder = reward_models.openassistant(tmp_path / "rm")
    parts = {"a": sampled(tmp_path, "a", {"p0": ("broken \ud83d emoji",)})}
    assert scored(tmp_path, parts, spec("text-pair", "rm", model=str(folder))).by_reward["rm"].prompts == 6


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """A pool file with two pool models, of which one is sampled, and two reward models."""
    document: dict[str, Any] = {
        "prompts": {},
        "models": {"a": {"model": "a", "api_base": "http://x"}, "b": {"model": "b", "api_base": "http://x"}},
        "rewards": [
            {"kind": "callable", "callable": "own_reward:score", "name": "length", "weight": 3},
            {"kind": "regex", "pattern": "{reference}", "name": "right"},
        ],
    }
    path = tmp_path / "pool.yaml"
    path.write_text(yaml.safe_dump(document))
    write_prompt_set(PROMPTS, tmp_path / "run")
    return path


def erp_train_score(pool: Path) -> Result:
    return CliRunner().invoke(cli, ["score", str(pool), "--json"])


def test_the_command_scores_what_is_sampled_with_several_reward_models(pool: Path) -> None:
    loaded = load(pool)
    with sample_parts(loaded.run, loaded.models["a"]).writer() as writer:
        for prompt in PROMPTS:
            samples = [{"text": "yes"}, {"text": "no 42"}, {"text": ""}]
            writer.append({"prompt_id": prompt.prompt_id, "model": "a", "samples": samples})
    result = erp_train_score(pool)
    assert result.exit_code == 0, result.output
    payload = json.loads(result.stdout)
    assert payload["reward_models"]["right"]["models"] == {"a": pytest.approx(1 / 3)}
    assert payload["reward_models"]["length"]["empty"] == 6
    assert payload["combined"]["prompts"] == 6
    assert payload["combined"]["normalisation"]["length"] == {
        "mean": pytest.approx(8 / 3), "std": pytest.approx(2.0548, abs=1e-4), "weight": 0.75
    }  # fmt: skip


def test_reward_models_stand_side_by_side_in_one_table_whatever_they_are_called(pool: Path) -> None:
    pool.write_text(pool.read_text().replace("name: right", f"name: {'r' * 300}").replace(" b:", f" {'模' * 100}:"))
    loaded = load(pool)
    for name, model in loaded.models.items():
        with sample_parts(loaded.run, model).writer() as writer:
            for prompt in PROMPTS:
                writer.append({"prompt_id": prompt.prompt_id, "model": name, "samples": [{"text": "no 42"}]})
    result = CliRunner().invoke(cli, ["score", str(pool)])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("mean reward"))
    head, *rows = lines[at : at + 3]
    assert len({columns(line) for line in (head, *rows)}) == 1, "one table"
    assert columns(head) <= 80
    assert [row.split()[-2:] for row in rows] == [["5.0000", "1.0000"]] * 2


def test_the_command_says_that_nothing_is_sampled(pool: Path) -> None:
    result = erp_train_score(pool)
    assert result.exit_code == 2
    assert "run `erp-train sample" in json.loads(result.stdout)["error"]["message"]
