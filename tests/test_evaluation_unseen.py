"""Tasks left out of training, and models added with a part of their prompts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from erp_trainer.bundles.predict import bundle_embedder
from erp_trainer.console import WIDTH
from erp_trainer.evaluation.evaluation import EvaluationOptions
from erp_trainer.evaluation.measure import evaluation_of
from erp_trainer.evaluation.payload import payload_of
from erp_trainer.evaluation.studies.new_tasks import task_score_rows
from erp_trainer.evaluation.studies.tasks import Tasks
from erp_trainer.outcomes.run import open_run
from erp_trainer.report.text import report_text
from litellm_erp.bundle.load import load_bundle


@pytest.fixture(scope="module")
def payload(planted_bundle: Path) -> dict[str, Any]:
    bundle = load_bundle(planted_bundle)
    embedder = bundle_embedder(bundle)
    options = EvaluationOptions(rivals=False, leave_one_task_out=True, price_of_adding=True)
    found = payload_of(evaluation_of(open_run(planted_bundle.parent / "run"), bundle, embedder, options))
    embedder.close()
    return found


def test_every_task_is_left_out_once(payload: dict[str, Any]) -> None:
    found = payload["leave_one_task_out"]
    assert {row["task"] for row in found["tasks"]} == {"arithmetic", "code", "poetry"}
    assert sum(row["prompts"] for row in found["tasks"]) == payload["counts"]["test_prompts"]


def test_an_unseen_task_gains_nothing_where_only_its_own_prompts_could_tell(payload: dict[str, Any]) -> None:
    # Which model is best at a kind is planted per kind, so that the other kinds say nothing about it.
    assert payload["leave_one_task_out"]["overall"]["erp-best"]["mean"] < 0.1
    assert payload["curves"]["erp"]["points"][0]["against_best_single"]["mean"] > 0.2


def test_a_model_is_worth_more_the_more_prompts_it_is_added_with(payload: dict[str, Any]) -> None:
    for row in payload["price_of_adding"]["models"]:
        assert row["without"]["mean"] < row["all"]["reward"]["mean"]
        assert [point["prompts"] for point in row["points"]] == [25, 50, 100]
        assert row["all"]["gain"]["low"] > 0


def test_adding_with_all_prompts_is_the_whole_pool(payload: dict[str, Any]) -> None:
    whole = payload["curves"]["erp"]["points"][0]["reward"]
    assert all(row["all"]["reward"]["mean"] == pytest.approx(whole, abs=1e-6)
               for row in payload["price_of_adding"]["models"])  # fmt: skip


def test_both_are_printed(payload: dict[str, Any]) -> None:
    printed = report_text(payload)
    assert "On tasks left out of training" in printed
    assert "after adding a model" in printed
    assert max(map(len, printed.splitlines())) <= WIDTH


def test_scores_of_benchmark_data_sets_by_hand() -> None:
    accuracy = np.array([[0.9, 0.5], [0.2, 0.8]])
    judged = Tasks(("x", "y"), (), accuracy, np.array([[1.0, 3.0], [1.0, 3.0]]), np.array([1, 0]))
    scores = {"s1": np.array([[0.7, 0.6], [0.7, 0.6]])}
    rows = {row["policy"]: row for row in task_score_rows(judged, scores)}
    assert rows["s1"]["accuracy"] == pytest.approx((0.9 + 0.2) / 2)
    assert rows["s1"]["share_best_on_average"] == 0.5
    assert rows["s1"]["mean_cost_usd"] == 1.0
    assert rows["task-oracle"]["rank"] == 1.0
    assert rows["best-on-average"]["accuracy"] == pytest.approx((0.5 + 0.2) / 2)
