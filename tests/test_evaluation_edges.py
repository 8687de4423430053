"""An evaluation of outcomes at the edges: figures that are known, or None, and never a warning."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from erp_trainer.bundles.predict import bundle_embedder
from erp_trainer.console import WIDTH, columns, plain
from erp_trainer.evaluation.evaluation import EvaluationOptions
from erp_trainer.evaluation.measure import evaluation_of
from erp_trainer.evaluation.payload import STUDIES, payload_of
from erp_trainer.outcomes.read import read_outcomes
from erp_trainer.outcomes.run import Run, create_run, open_run
from erp_trainer.report.text import report_text
from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.ranking import rank_pool
from litellm_erp.choice.cost import Price
from tests.planted import Row, planted_rows, write_outcomes

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

Change = Callable[[Row], Row | None]


def edge(folder: Path, change: Change, *, prices: dict[str, Price] | None = None, samples: int = 1) -> Run:
    """A run of planted outcomes with every row changed, or left out where the change is None."""
    rows = [changed for row in planted_rows(60, samples=samples) if (changed := change(row)) is not None]
    folder.mkdir(exist_ok=True)
    path = write_outcomes(folder / "outcomes.jsonl", rows)
    stated = {name: Price(input_usd_per_mtok=p, output_usd_per_mtok=p) for name, p in
              (("small", 0.1), ("mid", 0.5), ("big", 2.0))}  # fmt: skip
    stated = stated if prices is None else {name: prices.get(name, Price()) for name in stated}
    return create_run(folder / "run", read_outcomes(path), stated, source=path)


def measured(run: Run, bundle: Path, **options: Any) -> dict[str, Any]:
    """The payload as JSON has it, after the terminal has shown it."""
    loaded = load_bundle(bundle)
    embedder = bundle_embedder(loaded)
    try:
        options = {"rivals": False, "studies": True} | options
        payload = payload_of(evaluation_of(run, loaded, embedder, EvaluationOptions(**options)))
    finally:
        embedder.close()
    for width in (80, WIDTH):
        printed = report_text(payload, width)
        assert max(map(columns, printed.splitlines())) <= width, printed
    found: dict[str, Any] = json.loads(json.dumps(plain(payload), allow_nan=False))
    return found


def with_reward(reward: Callable[[Row], float]) -> Change:
    return lambda row: row | {"reward": reward(row)}


def test_constant_rewards_have_no_r2_no_winner_and_nothing_to_gain(tmp_path: Path, planted_bundle: Path) -> None:
    payload = measured(edge(tmp_path, with_reward(lambda row: 0.5)), planted_bundle)
    assert {row["r2"] for row in payload["models"].values()} == {None}
    assert payload["pairs"]["rows"][0]["auroc"]["mean"] is None
    assert payload["win_rates"]["true"][""] == pytest.approx([1 / 3] * 3)
    assert payload["policies"]["erp λ=0"]["regret"] == 0
    assert payload["entropy"] is None
    assert not payload["verdict"]["helps"]


def test_identical_models_tie_everywhere(tmp_path: Path, planted_bundle: Path) -> None:
    payload = measured(edge(tmp_path, with_reward(lambda row: int(row["prompt_id"][1:]) % 7)), planted_bundle)
    assert payload["verdict"]["gain"] == {"mean": 0, "low": 0, "high": 0}
    assert payload["pairs"]["ties"][0][1] == payload["pairs"]["draws"][0][1] > 0
    assert payload["pairs"]["auroc"][0][1] is None


def test_shifted_rewards_move_rewards_and_nothing_else(tmp_path: Path, planted_bundle: Path) -> None:
    low = measured(edge(tmp_path / "low", lambda row: row), planted_bundle)
    high = measured(edge(tmp_path / "high", with_reward(lambda row: row["reward"] + 1000)), planted_bundle)
    for key in ("regret", "cost_usd"):
        assert high["policies"]["erp λ=0"][key] == pytest.approx(low["policies"]["erp λ=0"][key], abs=1e-6)
    assert high["verdict"]["gain"]["low"] == pytest.approx(low["verdict"]["gain"]["low"], abs=1e-6)
    assert high["pairs"]["auroc"][0][1] == low["pairs"]["auroc"][0][1]
    area = [p["curves"]["erp"]["area"]["mean"] for p in (low, high)]
    assert area[1] - area[0] == pytest.approx(1000)


def test_negative_rewards_have_no_ratio_to_best(tmp_path: Path, planted_bundle: Path) -> None:
    payload = measured(edge(tmp_path, with_reward(lambda row: row["reward"] - 5)), planted_bundle)
    rows = {row["policy"]: row for row in payload["tasks"]["rows"]}
    assert rows["erp"]["ratio_to_best"] is None
    assert rows["erp"]["accuracy"] < -3


def test_one_test_prompt_is_measured(tmp_path: Path, planted_bundle: Path) -> None:
    only = "p0003"
    payload = measured(
        edge(tmp_path, lambda row: row if row["split"] == "train" or row["prompt_id"] == only else None),
        planted_bundle,
    )
    assert payload["counts"]["test_prompts"] == 1
    assert payload["policies"]["erp λ=0"]["reward_ci"] == [payload["policies"]["erp λ=0"]["reward"]] * 2
    assert payload["tasks"] is None


def test_unknown_prices_leave_money_out(tmp_path: Path, planted_bundle: Path) -> None:
    payload = measured(edge(tmp_path, lambda row: row, prices={}), planted_bundle)
    assert not payload["cost"]["known"]
    assert payload["policies"]["single: big"]["cost_usd"] is None
    assert payload["curves"]["erp"]["area"] is None
    assert payload["curves"]["erp"]["against"]["best_single"]["saved_at_equal_reward"] is None
    assert payload["verdict"]["gain"]["mean"] is not None


def test_one_unknown_price_leaves_out_only_what_chose_that_model(tmp_path: Path, planted_bundle: Path) -> None:
    price = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
    payload = measured(edge(tmp_path, lambda row: row, prices={"small": price, "mid": price}), planted_bundle)
    assert payload["policies"]["single: small"]["cost_usd"] > 0
    assert payload["policies"]["single: big"]["cost_usd"] is None
    assert payload["policies"]["random"]["cost_usd"] is None


def test_a_model_may_miss_prompts(tmp_path: Path, planted_bundle: Path) -> None:
    def sparse(row: Row) -> Row | None:
        return None if row["model"] == "big" and int(row["prompt_id"][1:]) % 4 else row

    payload = measured(edge(tmp_path, sparse), planted_bundle)
    assert payload["models"]["big"]["prompts"] < payload["models"]["small"]["prompts"]
    assert payload["policies"]["single: big"]["prompts"] == payload["models"]["big"]["prompts"]
    assert payload["policies"]["erp λ=0"]["prompts"] == payload["counts"]["test_prompts"]


def test_a_model_without_test_outcomes_is_named_and_left_out(tmp_path: Path, planted_bundle: Path) -> None:
    payload = measured(
        edge(tmp_path, lambda row: None if row["model"] == "mid" and row["split"] == "test" else row), planted_bundle
    )
    assert payload["models_left_out"] == ["mid"]
    assert set(payload["models"]) == {"big", "small"}
    assert payload["routellm"]["strong"] == "big"


def test_one_model_has_nothing_to_route(tmp_path: Path, planted_bundle: Path) -> None:
    payload = measured(
        edge(tmp_path, lambda row: None if row["model"] != "big" and row["split"] == "test" else row),
        planted_bundle,
        rivals=True,
    )
    assert not any(curve["kind"] == "rival" for curve in payload["curves"].values())
    assert set(payload["missing_rivals"].values()) == {"one pool model with test outcomes leaves nothing to choose"}
    assert payload["verdict"]["gain"] == {"mean": 0, "low": 0, "high": 0}
    assert payload["pairs"]["rows"] == []
    assert payload["curves"]["erp"]["area"] is None


def test_a_lambda_without_end_buys_the_cheapest_model(tmp_path: Path, planted_bundle: Path) -> None:
    payload = measured(edge(tmp_path, lambda row: row), planted_bundle, lambdas=(0.0, 1e9))
    dear, cheap = (payload["policies"][name] for name in ("erp λ=0", "erp λ=1e+09"))
    assert cheap["share"] == {"small": 1.0}
    assert cheap["cost_usd"] == pytest.approx(payload["policies"]["single: small"]["cost_usd"])
    assert dear["cost_usd"] > cheap["cost_usd"]


def test_without_categories_there_are_no_tasks(tmp_path: Path, planted_bundle: Path) -> None:
    payload = measured(edge(tmp_path, lambda row: row | {"category": ""}), planted_bundle)
    assert payload["tasks"] is None
    assert payload["categories"] == {}


def test_several_samples_give_a_ceiling_a_fair_oracle_and_the_bound(tmp_path: Path, planted_bundle: Path) -> None:
    payload = measured(edge(tmp_path, lambda row: row, samples=8), planted_bundle)
    assert payload["oracle"]["kind"] == "split-sample"
    low, high = payload["oracle"]["bracket"]
    assert low <= payload["oracle"]["reward"]["mean"] <= payload["oracle"]["ex_post_reward"] + 1e-6 <= high + 1e-6
    for row in payload["policies"].values():
        assert row["regret"] >= 0
        assert row["regret_ci"][0] >= 0
        assert 0 <= row["regret_bracket"][0] <= row["regret_bracket"][1]
        assert row["reward"] <= high or row["sees_truth"]
    assert 0.9 < payload["models"]["small"]["ceiling"] < 1
    assert payload["proposition"]["overall"]["held"] > 0.9
    assert payload["counts"]["single_rewards"]


def test_one_sample_leaves_the_ceiling_unknown(tmp_path: Path, planted_bundle: Path) -> None:
    payload = measured(edge(tmp_path, lambda row: row), planted_bundle)
    assert payload["oracle"]["kind"] == "ex-post"
    assert payload["models"]["small"]["ceiling"] is None
    assert payload["proposition"] is None


def test_evaluating_changes_no_byte_of_the_bundle(tmp_path: Path, planted_bundle: Path) -> None:
    before = {path: path.read_bytes() for path in planted_bundle.rglob("*") if path.is_file()}
    measured(edge(tmp_path, lambda row: row), planted_bundle)
    assert before == {path: path.read_bytes() for path in planted_bundle.rglob("*") if path.is_file()}


@pytest.mark.parametrize("seed", [0, 1])
def test_the_seed_moves_intervals_and_not_figures(tmp_path: Path, planted_bundle: Path, seed: int) -> None:
    payload = measured(edge(tmp_path, lambda row: row), planted_bundle, seed=seed)
    assert payload["intervals"]["seed"] == seed
    low, high = payload["policies"]["erp λ=0"]["reward_ci"]
    assert low <= payload["policies"]["erp λ=0"]["reward"] <= high


def test_what_is_measured_is_what_serving_chooses(planted_bundle: Path) -> None:
    bundle = load_bundle(planted_bundle)
    embedder = bundle_embedder(bundle)
    found = evaluation_of(open_run(planted_bundle.parent / "run"), bundle, embedder, EvaluationOptions(rivals=False))
    embedder.close()
    for lambda_, safety in ((0.0, True), (0.5, True), (0.5, False), (100.0, True)):
        served = rank_pool(bundle, found.served.predictions, lambda_, safety=safety).order[:, 0]
        assert found.choice(lambda_, safety=safety).tolist() == served.tolist()


def test_rewards_of_any_size_are_shown_with_their_digits_and_nought_without_a_sign(
    tmp_path: Path, planted_bundle: Path
) -> None:
    payload = measured(edge(tmp_path, with_reward(lambda row: 1e-7 * row["reward"]), samples=2), planted_bundle)
    printed = report_text(payload)
    assert re.search(r"^erp +\d\.\de−08 ", printed, re.MULTILINE), printed
    assert not re.search(r"[+−]0(\.0*)?(?![.\d])", printed), printed
    assert re.search(r"\+\d\.\d+e−08", printed)
    equal = measured(edge(tmp_path / "equal", with_reward(lambda row: 0.1)), planted_bundle)
    assert not re.search(r"[+−]0(\.0*)?(?![.\d])|\b0% (less|more|cheaper)", report_text(equal))
    assert "e−" not in report_text(equal)


def renamed(payload: Any, names: dict[str, str]) -> Any:
    """A payload in which models and categories are called otherwise, keys and sentences included."""
    text = json.dumps(payload, ensure_ascii=False)
    for name, other in names.items():
        text = re.sub(rf"(?<![\w-]){name}(?![\w-])", other, text)
    return json.loads(text)


@pytest.mark.parametrize("width", [80, 110])
@pytest.mark.parametrize("letter", ["x", "模"], ids=["latin", "wide"])
def test_long_names_break_no_table_and_stay_apart(
    tmp_path: Path, planted_bundle: Path, width: int, letter: str
) -> None:
    payload = measured(edge(tmp_path, lambda row: row, samples=2), planted_bundle)
    long = {name: f"org/{letter * 150}{name}{letter * 150}" for name in ("small", "mid", "big", "code", "poetry")}
    printed = report_text(renamed(payload, long), width)
    assert max(map(columns, printed.splitlines())) <= width, printed
    heads = printed.splitlines().index("Always one model:")
    singles = [line.split(" ")[0] + line[1:40] for line in printed.splitlines()[heads + 1 : heads + 4]]
    assert len(set(singles)) == 3


def test_many_tasks_of_two_prompts_and_some_of_one_have_a_study(tmp_path: Path, planted_bundle: Path) -> None:
    def few(row: Row) -> Row | None:
        number = int("".join(filter(str.isdigit, str(row["prompt_id"]))) or 0)
        return row | {"category": f"task {number // 2}"} if row["model"] != "mid" or number % 3 else None

    payload = measured(edge(tmp_path, few), planted_bundle, rivals=True, leave_one_task_out=True)
    points = payload["leave_one_task_out"]["benchmark"]["in_distribution"]
    assert all(value is not None for point in points for value in point.values())


def test_what_only_studies_need_is_left_out_unless_asked_for(tmp_path: Path, planted_bundle: Path) -> None:
    payload = measured(edge(tmp_path, lambda row: row), planted_bundle, studies=False)
    assert {payload[key] for key in STUDIES} == {None}
    assert payload["pairs"]


def test_every_stage_says_what_it_is_doing_and_how_far_it_is(tmp_path: Path, planted_bundle: Path) -> None:
    steps: dict[str, list[int]] = {}
    totals: dict[str, int | None] = {}

    @contextmanager
    def shown(total: int | None, label: str) -> Iterator[Callable[[int], None]]:
        totals[label] = total
        yield steps.setdefault(label, []).append

    loaded = load_bundle(planted_bundle)
    options = EvaluationOptions(leave_one_task_out=True, price_of_adding=True)
    with closing(bundle_embedder(loaded)) as embedder:
        payload_of(evaluation_of(edge(tmp_path, lambda row: row), loaded, embedder, options, shown), shown)
    assert list(steps) == ["embedding", "fitting rivals", "measuring", "leaving tasks out", "adding models"]
    assert all(steps.values())
    assert all(sum(steps[label]) == total for label, total in totals.items() if total is not None)
