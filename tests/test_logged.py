"""What a decision log proves: read whole or torn, estimated with intervals that hold, refused where there is none."""

import bz2
import gzip
import itertools
import json
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench import off_policy
from erp_trainer.cli import cli
from erp_trainer.logged import estimators
from erp_trainer.logged import log as logs
from erp_trainer.logged.log import read_log
from erp_trainer.logged.proof import Asked, proof
from erp_trainer.report.proof.page import _name_points
from litellm_erp.errors import DecisionLogError
from tests.logs import MODELS, World, decision, feedback, write


def report(*arguments: object, code: int = 0) -> dict:
    found = CliRunner().invoke(cli, ["report", *map(str, arguments), "--json"])
    assert found.exit_code == code, found.output
    return json.loads(found.stdout)


def target(found: dict, key: str) -> dict:
    [each] = [each for each in found["targets"] if each["key"] == key]
    return each


def test_a_log_of_several_processes_rotated_torn_and_compressed_is_read_once(tmp_path):
    lines = [json.dumps(decision(f"r{i}")) for i in range(60)]
    said = [json.dumps(feedback(f"r{i}", 0.5 + i / 1000)) for i in range(0, 60, 2)]
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "a.jsonl.1").write_text("\n".join([*said[:5], *lines[:20]]) + "\n")  # feedback may come in another file
    (folder / "a.jsonl").write_text(
        "\n".join([*lines[15:40], "not json", '{"v":1,"kind":"decision"}']) + '\n{"v":1,"ki'
    )
    whole = gzip.compress("\n".join([*lines[40:], *said[5:]]).encode() + b"\n")
    (folder / "b.jsonl.gz").write_bytes(whole)
    found = read_log([folder])
    assert len(found.request_ids) == 60
    assert found.counts["duplicates"] == 5
    assert found.counts["bad"] == 2
    assert found.counts["torn"] == 1
    assert found.counts["feedback_joined"] == 30
    assert found.reward_P[found.request_ids.index("r58")] == pytest.approx(0.558)


def test_a_compressed_file_cut_short_gives_what_came_before_and_is_counted(tmp_path):
    random = np.random.default_rng(0)
    text = "".join(json.dumps(decision(f"r{i}", cost_usd=float(random.random()))) + "\n" for i in range(20_000))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text.encode())[:-5000])
    found = read_log([tmp_path / "*.gz"])
    assert found.counts["cut_files"] == 1
    assert 1000 < len(found.request_ids) < 20_000


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_short_compressed_file_cut_in_half_is_read_up_to_there(tmp_path, pack):
    random = np.random.default_rng(0)
    # bz2 packs 900 kB at a time, and gives a block whole or not at all.
    n = 300 if pack is gzip.compress else 3000
    text = "".join(json.dumps(decision(f"r{i}", cost_usd=float(random.random()))) + "\n" for i in range(n))
    packed = pack(text.encode())
    (tmp_path / "decisions-1.jsonl.gz").write_bytes(packed[: len(packed) * 6 // 10])
    found = read_log([tmp_path])
    assert n / 4 < len(found.request_ids) < n
    assert found.counts["cut_files"] == 1
    printed = CliRunner().invoke(cli, ["report", "--log", str(tmp_path)])
    assert "end too early" in printed.output


def test_an_id_that_a_client_uses_again_hides_nothing_that_was_spent(tmp_path):
    lines = [decision("the-same", time=1.78e9 + i, cost_usd=1e-3) for i in range(60)]
    path = write(tmp_path / "log.jsonl", [*lines, *lines[:3], feedback("the-same", 1.0), feedback("the-same", 0.0)])
    found = read_log([path])
    assert found.counts["requests"] == found.counts["kept"] == 60
    assert (found.counts["duplicates"], found.counts["id_used_before"]) == (3, 59)
    assert found.counts["cost_usd"] == pytest.approx(0.06)
    # Nobody knows of which the feedback is but the first.
    assert found.reward_P[~np.isnan(found.reward_P)].tolist() == [1.0]
    report_of = proof(found)
    assert report_of["targets"][0]["cost_usd"]["mean"] == pytest.approx(1e-3)


def test_lines_with_thousands_of_invented_models_take_no_longer_and_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "_MAX_MODELS", 8)
    plain = [decision(f"r{i}") for i in range(100)]
    odd = [
        decision(
            f"odd{i}",
            candidates={f"m{i}-{m}": {"expected_reward": 2.0, "expected_cost_usd": 1e-9} for m in range(200)}
            | plain[0]["candidates"],
        )
        for i in range(100)
    ]
    found = read_log([write(tmp_path / "log.jsonl", [*plain, *odd])])
    assert set(MODELS) <= set(found.models)
    assert len(found.models) == 8
    assert found.counts["models_left_out"] == 20_003 - 8
    assert len(found.request_ids) == 200
    assert "left out" in CliRunner().invoke(cli, ["report", "--log", str(tmp_path)]).output


def test_what_is_no_log_is_one_clear_error(tmp_path):
    (tmp_path / "empty").mkdir()
    for path, said in (
        (tmp_path / "nothing", "does not exist"),
        (tmp_path / "empty", "has no file"),
        (write(tmp_path / "a.jsonl", [{"v": 1, "kind": "other"}]), "holds no decision"),
        (write(tmp_path / "b.jsonl", [decision("r") | {"v": 2}]), "another version"),
    ):
        with pytest.raises(DecisionLogError, match=said):
            read_log([path])


@pytest.mark.parametrize(
    "wrong",
    [
        {"propensity": {"mid": 0.5}},
        {"propensity": {"mid": float("nan")}},
        {"propensity": {"mid": -1, "big": 2}},
        {"cost_usd": "much"},
        {"candidates": {"mid": 3}},
        {"request_id": 5},
        {"lambda": True},
    ],
)
def test_a_line_with_numbers_that_are_none_is_counted_and_left_out(tmp_path, wrong):
    found = read_log([write(tmp_path / "a.jsonl", [decision("good"), {**decision("bad"), **wrong}])])
    assert found.request_ids == ("good",)
    assert found.counts["bad"] == 1


def test_several_groups_must_be_told_apart(tmp_path):
    path = write(tmp_path / "a.jsonl", [decision("a"), decision("b", group="other", team="x")])
    with pytest.raises(DecisionLogError, match="erp-auto, other"):
        read_log([path])
    assert read_log([path], group="other").request_ids == ("b",)
    with pytest.raises(DecisionLogError, match="no decision of group 'none'; found the groups erp-auto, other"):
        read_log([path], group="none")
    with pytest.raises(DecisionLogError, match=r"and team 'X'; found the groups erp-auto, other; teams \(none\), x"):
        read_log([path], group="other", team="X")


def test_requests_of_one_mode_can_be_asked_about_alone_and_the_report_says_when_that_helps(tmp_path):
    shadow = [decision(f"s{i}", mode="shadow", propensity={"small": 1.0}, served="small") for i in range(300)]
    share = [
        decision(f"p{i}", mode="percent", propensity={"small": 0.5, "mid": 0.5}, served=("small", "mid")[i % 2])
        for i in range(600)
    ]
    said = [feedback(f"p{i}", i % 2) for i in range(600)]
    path = write(tmp_path / "a.jsonl", [*shadow, *share, *said])
    assert len(read_log([path], mode="shadow").request_ids) == 300
    with pytest.raises(DecisionLogError, match="no decision of mode 'route'; found the modes percent, shadow"):
        read_log([path], mode="route")
    hint = "300 of mode shadow: --mode percent"
    both = CliRunner().invoke(cli, ["report", "--log", str(path)]).stdout
    assert hint in " ".join(both.split())
    alone = CliRunner().invoke(cli, ["report", "--log", str(path), "--mode", "percent"]).stdout
    assert hint not in " ".join(alone.split())


def test_feedback_of_a_kind_that_is_not_there_is_said_to_be_that(tmp_path):
    lines = [each for i in range(80) for each in (decision(f"r{i}"), feedback(f"r{i}", 0.5, "api"))]
    found = report("--log", write(tmp_path / "a.jsonl", lines), "--feedback", "score")
    assert target(found, "served")["measured"]["refused"] == "no feedback of score in the log"


def test_a_log_of_another_pool_is_one_clear_error_and_changes_nothing(tmp_path, planted_bundle):
    bundle = shutil.copytree(planted_bundle, tmp_path / "bundle")
    before = (bundle / "manifest.json").read_bytes()
    candidates = {name: {"expected_reward": 0.5, "std_error": 0.1, "expected_cost_usd": 1e-4} for name in "ab"}
    theirs = {"candidates": candidates, "chosen": "a", "served": "a", "propensity": {"a": 1.0}}
    decided = [decision(f"r{i}", prompt=f"p {i}", **theirs) for i in range(80)]
    path = write(tmp_path / "a.jsonl", [*decided, *(feedback(f"r{i}", 0.5) for i in range(80))])
    for arguments in (["update", bundle, "--log", path], ["report", "--log", path, "--bundle", bundle]):
        found = CliRunner().invoke(cli, list(map(str, arguments)))
        assert found.exit_code == 2
        assert re.search("shares no model with .* found a, b.*; expected some of its big, mid, small", found.output)
    assert (bundle / "manifest.json").read_bytes() == before


def test_a_persons_feedback_counts_before_a_reward_models_and_the_first_of_each(tmp_path):
    said = [feedback("r", 0.1, "api", 10), feedback("r", 0.2, "api", 20), feedback("r", 0.9, "score", 30)]
    path = write(tmp_path / "a.jsonl", [decision("r"), *said])
    assert read_log([path]).reward_P.tolist() == [0.1]
    assert read_log([path], sources=["score"]).reward_P.tolist() == [0.9]
    assert read_log([path]).counts["sources"] == {"api": 1}


@pytest.mark.parametrize(
    "odd",
    [
        {"time": 32_503_680_000.0},
        {"candidates": {"": {}}},
        {"propensity": {"": 1.0}},
        {"cost_usd": 1e308},
        {"candidates": {"small": {"expected_reward": 1e308}}},
    ],
)
def test_a_line_that_cannot_be_is_counted_and_changes_nothing(tmp_path, odd):
    path = write(tmp_path / "a.jsonl", [decision("r"), decision("odd") | odd, feedback("r", 0.1)])
    found = read_log([path])
    assert (found.request_ids, found.counts["bad"]) == (("r",), 1)


def test_feedback_of_another_account_is_not_believed(tmp_path):
    lines = [decision("r", account="team:a"), decision("r", account="team:b")]
    said = [feedback("r", 0.1) | {"account": "team:b"}, feedback("r", 0.9) | {"account": "team:c"}]
    found = read_log([write(tmp_path / "a.jsonl", lines + said)])
    assert found.accounts == ("team:a", "team:b")
    assert np.isnan(found.reward_P[0])
    assert found.reward_P[1] == 0.1


def test_a_log_without_propensities_tells_savings_and_measures_only_what_was_served(tmp_path):
    world = World(1000)
    lines = world.lines("shadow", np.tile([0.5, 0.5, 0.0], (1000, 1)))
    lines = [line | {"propensity": None} if line["kind"] == "decision" else line for line in lines]
    found = report("--log", write(tmp_path / "a.jsonl", lines))
    served, said = target(found, "served"), [line["reward"] for line in lines if line["kind"] == "feedback"]
    assert served["measured"]["snips"]["mean"] == pytest.approx(np.mean(said))
    assert 0.15 < target(found, "routed")["saved"]["mean"] < 0.35
    for each in found["targets"][1:]:
        assert each["measured"]["refused"], each["label"]


def test_a_long_log_is_kept_in_part_with_its_feedback_and_its_totals(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "MAX_REQUESTS", 500)
    lines = [each for i in range(3000) for each in (feedback(f"r{i}", i / 3000), decision(f"r{i}"))]
    found = read_log([write(tmp_path / "a.jsonl", lines)])
    assert 200 < len(found.request_ids) <= 500
    assert found.counts["requests"] == 3000
    assert found.counts["cost_usd"] == pytest.approx(3000 * 2.4e-4)
    assert not np.isnan(found.reward_P).any()
    assert found.reward_P.mean() == pytest.approx(0.5, abs=0.1)


def test_feedback_on_requests_that_nobody_asks_about_takes_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "MAX_REQUESTS", 500)
    invented = [feedback(f"x{i}", 0.0) for i in range(5000)]
    others = [each for i in range(3000) for each in (decision(f"o{i}", team="big"), feedback(f"o{i}", 0.0))]
    mine = [each for i in range(400) for each in (feedback(f"r{i}", 1.0), decision(f"r{i}", team="small"))]
    found = read_log([write(tmp_path / "a.jsonl", [*invented, *others, *mine])], team="small")
    assert found.counts["kept"] == found.counts["feedback_joined"] == 400
    assert (found.reward_P == 1.0).all()


@pytest.mark.parametrize("reverse", [False, True])
def test_the_first_request_of_an_id_is_the_earliest_whatever_file_it_stands_in(tmp_path, reverse):
    names = (("big", 3), ("mid", 1), ("small", 2))
    thrice = [decision("x", served=name, time=1.78e9 + seconds, cost_usd=seconds) for name, seconds in names]
    for k, line in enumerate(reversed(thrice) if reverse else thrice):
        write(tmp_path / f"{k}.jsonl", [line, line, feedback("x", 0.77)])
    found = read_log([tmp_path])
    assert found.counts["requests"] == found.counts["kept"] == 3
    assert found.counts["duplicates"] == 3
    assert found.counts["cost_usd"] == 6.0
    [p] = np.flatnonzero(~np.isnan(found.reward_P))
    assert found.models[found.served_P[p]] == "mid"


def test_a_model_that_came_late_is_not_compared_with_as_if_it_had_always_been_there(tmp_path):
    lines = World(600).lines("route", np.tile([0.5, 0.5, 0.0], (600, 1)))
    for line in lines[-100:]:
        if line["kind"] == "decision":
            line["candidates"]["new"] = {"expected_reward": 1.0, "std_error": 0.1, "expected_cost_usd": 1e-6}
    found = report("--log", write(tmp_path / "a.jsonl", lines))
    assert "new" in found["models"]
    assert [each["label"] for each in found["targets"] if "new" in each["label"]] == []
    assert {"always=big", "always=mid", "mixture"} <= {each["key"] for each in found["targets"]}


@pytest.mark.parametrize("place", ["/proc/x.html", "a-file/x.html", "a-folder"])
def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path, place):
    (tmp_path / "a-file").write_text("")
    (tmp_path / "a-folder" / "x").mkdir(parents=True)
    log = write(tmp_path / "a.jsonl", World(100).lines("route", np.tile([0.5, 0.5, 0.0], (100, 1))))
    done = CliRunner().invoke(cli, ["report", "--log", str(log), "--out", str(tmp_path / place)])
    assert done.exit_code == 2, done.output
    [line] = [line for line in done.output.splitlines() if "rror" in line]
    assert place.removesuffix("x.html").rstrip("/") in line


@pytest.mark.parametrize("n_prompts", [1, 3, 20])
def test_feedback_on_few_prompts_again_and_again_measures_nothing(tmp_path, n_prompts):
    world = World(900)
    which = np.arange(900) % n_prompts
    world.expected, world.costs = world.expected[which], world.costs[which]
    lines = world.lines("percent", np.tile([1 / 3, 1 / 3, 1 / 3], (900, 1)), 1.0)
    found = report("--log", write(tmp_path / "a.jsonl", lines))
    for each in found["targets"]:
        assert "again and again" in each["measured"]["refused"], each["label"]
        assert each["cost_is"] != "real, weighted"
    assert found["verdict"]["kind"] == "unclear"


@pytest.mark.parametrize("how", ["explore", "soft", "percent"])
def test_the_truth_of_recorded_outcomes_lies_inside_the_intervals(how):
    found = off_policy.world("paretobandit_k4", how)
    policy = off_policy.targets(found)["λ = 1"]
    runs = [off_policy.inside(found, policy, seed, 4000, 0.5) for seed in range(25)]
    for name in estimators.ESTIMATORS:
        # 21 of 25 or fewer has a chance of 0.7% where 95% are inside.
        assert sum(run[name][0] for run in runs if run) >= 22, name


def test_estimates_of_the_policy_that_served_are_its_own_means():
    world = World(500)
    served = world.chosen(0.25)
    outcome = world.rewards[np.arange(500), served]
    policy = np.eye(3)[served]
    from erp_trainer.learning.bootstrap import Resamples

    seen = estimators.Seen(policy, served, outcome, world.expected, Resamples.draw(np.arange(500), n_resamples=50))
    held = estimators.support(policy, seen)
    assert held.enough
    assert held.effective == pytest.approx(500)
    for name, each in estimators.estimates(policy, seen, held.supported_P).items():
        if name != "dr":
            assert each.value_S[0] == pytest.approx(outcome.mean())
    assert estimators.estimates(policy, seen, held.supported_P)["dr"].value_S[0] == pytest.approx(outcome.mean())


def test_a_report_of_a_log_that_explored_measures_what_other_lambdas_earn_and_cost(tmp_path):
    world = World(4000)
    propensity = 0.7 * np.eye(3)[world.chosen(0.25)] + 0.1
    path = write(tmp_path / "a.jsonl", world.lines("route", propensity))
    found = report("--log", path, "--lambda", 0, "--lambda", 0.1)
    for lambda_ in (0.0, 0.1):
        one, chosen = target(found, f"lambda={lambda_:g}"), world.chosen(lambda_)
        truth = world.rewards[np.arange(4000), chosen].mean()
        cost = world.costs[np.arange(4000), chosen].mean() * world.real_over_expected
        assert one["measured"]["dr"]["low"] <= truth <= one["measured"]["dr"]["high"]
        assert one["cost_is"] == "real, weighted"
        assert one["cost_usd"]["mean"] == pytest.approx(cost, rel=0.02)
        assert one["predicted"]["mean"] == pytest.approx(world.expected[np.arange(4000), chosen].mean(), abs=1e-6)
    assert target(found, "served")["kind"] == "served"
    assert found["verdict"]["headline"].startswith("Routing saved")


def test_a_model_that_never_served_is_refused_and_named(tmp_path):
    world = World(2000)
    propensity = np.tile([0.5, 0.5, 0.0], (2000, 1))
    found = report("--log", write(tmp_path / "a.jsonl", world.lines("route", propensity)), "--lambda", 0)
    refused = target(found, "always=small")["measured"]
    assert "no support" in refused["refused"]
    assert "small" in refused["refused"]
    assert "dr" not in refused
    assert target(found, "always=mid")["measured"]["refused"] is None
    # Its cost is known as far as the others' is: said to be so.
    assert target(found, "always=small")["cost_is"] == "expected, calibrated by others"


def test_a_model_that_could_serve_and_never_did_is_refused_as_well(tmp_path):
    world = World(2000)
    propensity = np.tile([0.5, 0.4999, 0.0001], (2000, 1))
    lines = [line for line in world.lines("route", propensity) if line.get("served") != "small"]
    found = report("--log", write(tmp_path / "a.jsonl", lines), "--lambda", 0)
    assert "of which no answer has feedback" in target(found, "always=small")["measured"]["refused"]


def test_a_shadow_log_predicts_rewards_and_tells_savings_and_measures_no_other_choice(tmp_path):
    world = World(2000)
    always_big = np.tile([1.0, 0.0, 0.0], (2000, 1))
    found = report("--log", write(tmp_path / "a.jsonl", world.lines("shadow", always_big)))
    routed, chosen = target(found, "routed"), world.chosen(0.25)
    rows = np.arange(2000)
    cost = (world.costs[rows, chosen] * world.real_over_expected).mean()
    spent = (world.costs[:, 0] * world.real_over_expected).mean()
    assert found["shadow"]
    assert target(found, "served")["cost_usd"]["mean"] == pytest.approx(spent)
    assert routed["saved"]["mean"] == pytest.approx(1 - cost / spent, abs=0.01)
    assert routed["predicted_gain"]["mean"] == pytest.approx(
        (world.expected[rows, chosen] - world.expected[:, 0]).mean(), abs=1e-6
    )
    assert "no support" in routed["measured"]["refused"]
    assert "not measured" in found["verdict"]["text"]


def test_a_percentage_measures_routing_against_what_was_served(tmp_path):
    world = World(4000)
    propensity = 0.3 * np.eye(3)[world.chosen(0.25)] + 0.7 * np.array([1.0, 0.0, 0.0])
    found = report("--log", write(tmp_path / "a.jsonl", world.lines("percent", propensity)))
    rows = np.arange(4000)
    gain = (world.rewards[rows, world.chosen(0.25)] - (propensity * world.rewards).sum(axis=1)).mean()
    measured = target(found, "routed")["measured"]["gain"]
    assert measured["low"] <= gain <= measured["high"]
    assert found["verdict"]["measured_gain"] == pytest.approx(measured["mean"])


def test_what_explored_under_a_percentage_is_compared_with_routing_that_does_not(tmp_path):
    world = World(4000)
    greedy, baseline = np.eye(3)[world.chosen(0.25)], np.array([1.0, 0.0, 0.0])
    propensity = 0.5 * (0.4 * greedy + 0.6 / 3) + 0.5 * baseline
    lines = world.lines("percent", propensity, 1.0)
    for line in lines:
        # Neither the best nor the baseline: its own draw chose it.
        if line["kind"] == "decision" and line["served"] not in (line["chosen"], "big"):
            line |= {"chosen": line["served"], "reason": "explored"}
    found = report("--log", write(tmp_path / "a.jsonl", lines))
    rows = np.arange(4000)
    gain = (world.rewards[rows, world.chosen(0.25)] - (propensity * world.rewards).sum(axis=1)).mean()
    measured = target(found, "routed")["measured"]["gain"]
    assert measured["low"] <= gain <= measured["high"]


def test_feedback_in_another_unit_than_the_probes_is_measured_in_its_own(tmp_path):
    world = World(4000)
    world.rewards = 100 * world.rewards + 7
    propensity = 0.7 * np.eye(3)[world.chosen(0.25)] + 0.1
    found = report("--log", write(tmp_path / "a.jsonl", world.lines("route", propensity)), "--lambda", 0)
    one, truth = target(found, "lambda=0")["measured"]["dr"], world.rewards[np.arange(4000), world.chosen(0)].mean()
    assert one["low"] <= truth <= one["high"]
    assert one["high"] - one["low"] < 4


def test_failed_and_rerouted_requests_are_left_out_of_estimates_and_counted(tmp_path):
    lines = [decision(f"r{i}", propensity={"mid": 1.0}) for i in range(100)]
    lines += [decision(f"f{i}", failed=True, served=None) for i in range(7)]
    lines += [decision(f"o{i}", served="big") for i in range(3)]
    lines += [decision(f"s{i}", followed=False) for i in range(2)]  # as decided, after another had failed
    found = proof(read_log([write(tmp_path / "a.jsonl", lines)]), Asked((0.0,)))
    assert found["counts"]["failed"] == 7
    assert found["counts"]["served_by_another_than_propensities_allow"] == 5
    assert found["models"]["mid"]["served"] == 100


def test_names_from_outside_are_shown_and_do_nothing(tmp_path):
    name = "</script><b>x"
    lines = [
        decision(
            f"r{i}",
            candidates={name: {"expected_reward": 0.5, "std_error": 0.1, "expected_cost_usd": 1e-4}},
            chosen=name,
            served=name,
            propensity={name: 1.0},
            prompt="a secret",
        )
        for i in range(60)
    ]
    page = tmp_path / "page.html"
    report("--log", write(tmp_path / "a.jsonl", lines), "--out", page)
    text = page.read_text(encoding="utf-8")
    assert name not in text
    assert "a secret" not in text


def test_another_bundle_needs_the_prompts_and_then_is_asked(tmp_path, planted_bundle):
    path = write(tmp_path / "a.jsonl", [decision(f"r{i}") for i in range(80)])
    refused = report("--log", path, "--bundle", planted_bundle, code=2)
    assert refused["error"]["type"] == "DecisionLogError"
    assert "keeps no prompt's text" in refused["error"]["message"]
    texts = [decision(f"r{i}", prompt=f"What is {i} plus {i}?") for i in range(80)]
    found = report("--log", write(tmp_path / "b.jsonl", texts), "--bundle", planted_bundle, "--lambda", 0)
    assert found["asked"]["bundle"]
    assert [each["lambda"] for each in found["targets"] if each["kind"] == "lambda"] == [0.0]
    assert sum(target(found, "lambda=0")["share"].values()) == pytest.approx(1)


def test_the_page_of_a_log_fits_a_phone_loads_nothing_and_draws(tmp_path):
    from tests.browser import chromium

    world = World(1500)
    propensity = 0.3 * np.eye(3)[world.chosen(0.25)] + 0.7 * np.array([1.0, 0.0, 0.0])
    page = tmp_path / "page.html"
    report("--log", write(tmp_path / "a.jsonl", world.lines("percent", propensity)), "--out", page)
    with chromium(tmp_path / "chromium") as browser:
        for width in (1200, 390):
            browser.open(page, width=width)
            assert browser.js("return document.documentElement.scrollWidth") <= width
            assert browser.js("return document.querySelectorAll('[data-chart] svg path').length") > 5
            assert "undefined" not in browser.text("body")
        assert browser.complaints() == []
        assert browser.requests() == []


def test_a_log_and_a_run_at_once_are_refused(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [decision("r")])
    assert report(tmp_path, "--log", path, code=2)["error"]["type"] == "UsageError"
    assert report(code=2)["error"]["type"] == "UsageError"
    assert MODELS == ("big", "mid", "small")


@pytest.mark.parametrize(
    "odd", ["no prices", "no charges", "one model", "nothing expected of one", "no λ", "neither λ nor prices"]
)
def test_a_log_that_lacks_something_still_says_the_rest(tmp_path, odd):
    world = World(300)
    lines = world.lines("route", 0.7 * np.eye(3)[world.chosen(0.25)] + 0.1)
    for line in lines:
        if line["kind"] != "decision":
            continue
        if odd == "neither λ nor prices":
            line["lambda"] = 0.0
        if "prices" in odd:
            for each in line["candidates"].values():
                each["expected_cost_usd"] = None
        elif odd == "no charges":
            line["cost_usd"] = None
        elif odd == "one model":
            line |= {"served": "big", "chosen": "big", "propensity": {"big": 1.0}}
            line["candidates"] = {"big": line["candidates"]["big"]}
        elif odd == "nothing expected of one":
            line["candidates"]["mid"]["expected_reward"] = None
        else:
            line["lambda"] = None
    page = tmp_path / "page.html"
    path = write(tmp_path / "a.jsonl", lines)
    found = report("--log", path, "--out", page)
    assert found["verdict"]["headline"]
    assert not target(found, "served")["measured"]["refused"]
    text = CliRunner().invoke(cli, ["report", "--log", str(path)])
    assert text.exit_code == 0
    for shown in (text.stdout, page.read_text(encoding="utf-8").split("<script")[0]):
        assert not re.search(r"\bnan\b", shown)


def test_a_saving_that_mixing_single_models_beats_says_so_beside_it():
    worlds = {}
    for seed, sign in ((0, 1), (1, -1)):
        world = World(600, seed)
        # A router that takes the worse of two models at every prompt, or the better.
        best = np.where(world.expected[:, 1] - world.expected[:, 2] > 0.25, 1, 2)
        served = best if sign > 0 else 3 - best
        lines = world.lines("route", np.eye(3)[served], 0.0)
        worlds[sign] = proof(read_log_of(lines))["verdict"]
    assert "single models drawn at random at that cost: predicted reward +" in worlds[-1]["headline"]
    assert "drawn at random" not in worlds[1]["headline"]


def read_log_of(lines):
    with tempfile.TemporaryDirectory() as folder:
        return read_log([write(Path(folder) / "log.jsonl", lines)])


def test_names_in_the_chart_of_a_log_never_lie_on_one_another_and_the_first_keeps_its_own():
    rng = np.random.default_rng(0)
    places = [*rng.normal(0.5, 0.02, (20, 2)).tolist(), [0.0, 0.0], [1.0, 1.0]]
    rows = [
        {"policy": f"always model-{i}", "cost": x, "reward": y, "words": "", "left": False}
        for i, (x, y) in enumerate(places)
    ]
    _name_points(rows)
    named = [row for row in rows if row["words"]]
    assert {rows[20]["policy"], rows[21]["policy"]} <= {row["words"] for row in named}
    assert len(named) < len(rows)
    boxes = [_box(row) for row in named]
    assert not any(_meet(one, other) for one, other in itertools.combinations(boxes, 2))


def _box(row):
    """Where a name is drawn, on a chart whose points lie between 0 and 1."""
    x, y, long = row["cost"] * 640, (1 - row["reward"]) * 280 + 12, 6.4 * len(row["policy"])
    return (x - 8 - long if row["left"] else x + 8, y - 7, x - 8 if row["left"] else x + 8 + long, y + 7)


def _meet(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
