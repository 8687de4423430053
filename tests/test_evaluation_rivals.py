"""`erp-train evaluate` beside the other policies, on planted outcomes in which each model is best at one kind."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from erp_trainer.bundles.predict import bundle_embedder
from erp_trainer.cli import cli
from erp_trainer.evaluation.evaluation import EvaluationOptions
from erp_trainer.evaluation.measure import evaluation_of
from erp_trainer.evaluation.payload import payload_of
from erp_trainer.outcomes.run import open_run
from erp_trainer.report.text import report_text
from litellm_erp.bundle.load import load_bundle

LEARNED = ("erp", "erp-paper", "zooter", "benchmark", "pairwise")


@pytest.fixture(scope="module")
def payload(planted_bundle: Path) -> dict[str, Any]:
    bundle = load_bundle(planted_bundle)
    embedder = bundle_embedder(bundle)
    found = payload_of(evaluation_of(open_run(planted_bundle.parent / "run"), bundle, embedder, EvaluationOptions()))
    embedder.close()
    return found


@pytest.mark.parametrize("key", LEARNED)
def test_every_learned_policy_beats_the_best_single_model_where_models_specialise(
    payload: dict[str, Any], key: str
) -> None:
    assert payload["curves"][key]["points"][0]["against_best_single"]["low"] > 0


def test_no_policy_beats_the_oracle(payload: dict[str, Any]) -> None:
    _, high = payload["oracle"]["bracket"]
    assert all(
        point["reward"] <= high
        for curve in payload["curves"].values()
        for point in curve["points"]
        if not curve["sees_truth"]
    )


def test_what_a_table_cannot_feed_is_missing_with_a_reason(payload: dict[str, Any]) -> None:
    assert set(payload["missing_rivals"]) == {"automix", "log-likelihood"}
    assert "self_check" in payload["missing_rivals"]["automix"]


def test_the_logistic_regression_of_each_pair_stands_beside_erp(payload: dict[str, Any]) -> None:
    row = payload["pairs"]["rows"][0]
    assert row["auroc"]["mean"] > 0.9
    assert row["auroc_other"]["pairwise"]["mean"] > 0.9
    assert set(row["difference"]) == {"pairwise"}


def test_ranking_all_answers_pays_for_all_models(payload: dict[str, Any]) -> None:
    singles = sum(row["cost_usd"] for name, row in payload["policies"].items() if name.startswith("single: "))
    assert payload["policies"]["reward-model ranking"]["cost_usd"] == pytest.approx(singles)
    assert payload["curves"]["reward-ranking"]["kind"] == "bound"


def test_the_best_model_is_chosen_most_often_by_what_learned_where_models_specialise(payload: dict[str, Any]) -> None:
    found = payload["tables"]["best_chosen"]
    shares = {row["policy"]: row["best chosen"] for row in found["rows"]}
    assert len(shares) > 3
    assert all(0 <= share["low"] <= share["mean"] <= share["high"] <= 1 for share in shares.values())
    assert shares["erp"]["low"] > 1.5 / len(payload["models"])
    assert found["heading"] in report_text(payload)
    # A share is no difference: it has no sign.
    after = report_text(payload).split(found["heading"])[1].splitlines()[2]
    assert after.startswith("erp ")
    assert "[0." in after or "[1." in after
    assert "+" not in after


def test_the_terminal_names_every_policy_and_ends_with_the_verdict(payload: dict[str, Any]) -> None:
    printed = report_text(payload)
    assert all(label in printed for label in ("Zooter", "pairwise preference", "cascade by reward", "oracle"))
    assert printed.splitlines()[-1].endswith(payload["verdict"]["text"].split()[-1])
    # The bundle's own beside it, in the same words, each of its prompts.
    said = " ".join(printed.split())
    places = [said.index(payload[key]["text"]) for key in ("bundle_verdict", "verdict")]
    assert places == sorted(places)
    assert "(out of fold, " in payload["bundle_verdict"]["text"]
    assert "(test split, " in payload["verdict"]["text"]
    assert "choices, permuted: as many prompts to each model" in said


def test_policies_that_see_the_truth_stand_apart_and_are_said_to(payload: dict[str, Any]) -> None:
    lines = report_text(payload).splitlines()
    apart = next(i for i, line in enumerate(lines) if line.startswith("These see the rewards"))
    first = {name: next(i for i, line in enumerate(lines) if line.startswith(name)) for name in
             ("erp ", "random", "big ", "cascade by reward", "reward-model ranking", "oracle")}  # fmt: skip
    assert max(first["erp "], first["random"], first["big "]) < apart
    assert apart < min(first["cascade by reward"], first["reward-model ranking"], first["oracle"])
    assert {key for key, curve in payload["curves"].items() if curve["sees_truth"]} == {
        "frugalgpt", "reward-ranking", "oracle"
    }  # fmt: skip


def test_a_bundle_of_another_policy_is_measured_as_what_it_is(planted_bundle: Path, tmp_path: Path) -> None:
    run = planted_bundle.parent / "run"
    result = CliRunner().invoke(cli, ["fit", str(run), "--out", str(tmp_path / "zooter"), "--policy", "zooter"])
    assert result.exit_code == 0, result.output
    bundle = load_bundle(tmp_path / "zooter")
    embedder = bundle_embedder(bundle)
    found = payload_of(
        evaluation_of(open_run(run), bundle, embedder, EvaluationOptions(rivals=False, price_of_adding=True))
    )
    embedder.close()
    assert next(iter(found["curves"])) == "zooter"
    assert found["curves"]["zooter"]["points"][0]["against_best_single"]["low"] > 0
    assert found["price_of_adding"] is None
