"""The oracle's bracket on planted expectations, regret, and which single model is the best."""

import json
from pathlib import Path

import numpy as np
import pytest

from erp_trainer.evaluation.contenders import Contender, OracleBracket
from erp_trainer.evaluation.curves import Curve, trace
from erp_trainer.learning.bootstrap import Resamples
from erp_trainer.learning.outcome import best_of, best_single, chosen, single
from erp_trainer.learning.training_table import TrainingTable
from tests.evaluated import table

PROMPTS, MODELS = 150, 4


def planted(samples: int, seed: int) -> tuple[TrainingTable, np.ndarray]:
    """A table of noisy samples, and what each model is expected to earn on each prompt."""
    rng = np.random.default_rng(seed)
    expected = rng.normal(0.5, 0.15, (PROMPTS, MODELS)) + np.array([0.0, 0.02, 0.04, 0.06])
    drawn = (expected[:, :, None] + rng.normal(0, 0.3, (PROMPTS, MODELS, samples))).astype(np.float32)
    return table(drawn.mean(axis=2), costs=np.arange(1.0, 5.0), samples_PMK=drawn if samples > 1 else None), expected


def bracket_of(found: TrainingTable, choice_P: np.ndarray) -> OracleBracket:
    return OracleBracket.of(found, [chosen(found, choice_P).reward_P, found.rewards_PM[:, 3]])


@pytest.mark.parametrize("samples", [1, 8, 32])
@pytest.mark.parametrize("router", ["knows the expectation", "knows nothing"])
def test_the_bracket_contains_what_the_best_models_are_expected_to_earn(samples: int, router: str) -> None:
    inside = 0
    for seed in range(100):
        found, expected = planted(samples, seed)
        choice_P = expected.argmax(axis=1) if router == "knows the expectation" else np.zeros(PROMPTS, dtype=int)
        bracket = bracket_of(found, choice_P)
        resamples = Resamples.draw(found.groups_P, n_resamples=200)
        low, high = resamples.means(np.column_stack([bracket.low_P, bracket.high_P])).intervals()
        inside += low.low <= expected.max(axis=1).mean() <= high.high
    assert inside >= 95


def regret(found: TrainingTable, bracket: OracleBracket, policy: Contender) -> Curve:
    return trace(policy, found, [0.0, 0.1], Resamples.draw(found.groups_P, n_resamples=200), bracket,
                 found.rewards_PM[:, 3])  # fmt: skip


@pytest.mark.parametrize("samples", [1, 2, 8])
def test_regret_is_never_negative_also_of_a_router_that_beats_half_of_the_samples(samples: int) -> None:
    found, expected = planted(samples, 0)
    choice_P = expected.argmax(axis=1)
    knows = Contender("x", "x", "bundle", True, lambda table, lambda_: chosen(table, choice_P, lambda_))
    curve = regret(found, bracket_of(found, choice_P), knows)
    for figures in (curve.regret_low, curve.regret_high):
        assert (figures.value_S >= 0).all()
        assert (figures.bounds() >= 0).all()
    assert (curve.regret_low.value_S <= curve.regret_high.value_S).all()
    always = regret(found, bracket_of(found, choice_P), Contender("0", "0", "single", False, lambda t, _: single(t, 0)))
    # The truth lies within the bracket of the worst single model, too.
    truth = (expected.max(axis=1) - expected[:, 0]).mean()
    assert always.regret_low.bounds()[0, 0] <= truth <= always.regret_high.bounds()[0, 1]


def test_hindsight_is_the_upper_end_where_some_prompts_have_no_two_samples() -> None:
    found, _ = planted(8, 3)
    found.samples_PMK[:100, :, 1:] = np.nan
    bracket = bracket_of(found, np.zeros(PROMPTS, dtype=int))
    assert bracket.kind == "split-sample"
    assert not np.isnan(bracket.low_P).any()
    assert bracket.low_P.mean() < bracket.high_P.mean()


def test_of_equally_good_models_the_cheaper_one_is_the_best_single_model() -> None:
    dear_first = table([[0.5, 0.5, 0.1], [0.7, 0.7, 0.1]], costs=(3.0, 2.0, 1.0))
    assert dear_first.models[best_single(dear_first)] == "b"
    assert best_single(table([[0.5, 0.5]], costs=(1.0, 1.0))) == 0
    assert best_single(table([[0.5, 0.5]], costs=(np.nan, 9.0))) == 1
    # The same rewards in another order add up to another last digit.
    shuffled = np.random.default_rng(0).random(1000)
    assert best_single(table(np.column_stack([shuffled, shuffled[::-1]]), costs=(2.0, 1.0))) == 1


def test_a_better_model_is_the_best_however_dear() -> None:
    assert best_of(np.array([0.5, 0.5 + 1e-9]), np.array([1.0, 1e9]), np.arange(2)) == 1
    assert best_of(np.array([np.nan, -3.0]), np.array([1.0, 2.0]), np.arange(2)) == 1


def test_a_bundle_and_its_evaluation_agree_on_the_best_single_model(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from erp_trainer.cli import cli
    from tests.planted import planted_rows, write_outcomes

    rows = [row for row in planted_rows(60, samples=1) if row["model"] in ("big", "mid")]
    # Two models that are always equally good, and "big", first by name, costs four times as much.
    rows = [row | {"reward": int(row["prompt_id"][1:]) % 5 / 5} for row in rows]
    source = write_outcomes(tmp_path / "outcomes.jsonl", rows)
    prices = tmp_path / "prices.yaml"
    prices.write_text("".join(f"{name}: {{input_usd_per_mtok: {p}, output_usd_per_mtok: {p}}}\n"
                              for name, p in (("big", 2.0), ("mid", 0.5))))  # fmt: skip
    said = {}
    for name, arguments in {
        "import": ["import", source, "--prices", prices, "--out", tmp_path / "run"],
        "fit": ["fit", tmp_path / "run", "--out", tmp_path / "bundle", "--json"],
        "evaluate": ["evaluate", tmp_path / "run", "--bundle", tmp_path / "bundle", "--no-rivals", "--json"],
    }.items():
        said[name] = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        assert said[name].exit_code == 0, said[name].output
    assert json.loads(said["evaluate"].stdout)["verdict"]["best_single"] == "mid"
    frontier = json.loads((tmp_path / "bundle" / "frontier.json").read_text(encoding="utf-8"))
    assert frontier["verdict"]["best_single"] == "mid"
