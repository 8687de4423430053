"""LiteLLM's own complexity router as a baseline on recorded outcomes (``python -m bench.complexity_router``)."""

import json
from pathlib import Path
from typing import Any

import litellm
import numpy as np
import pytest
from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter

from bench.complexity_router import TIERS, compare, main, tiers_of
from bench.prompts import prompts
from erp_trainer.outcomes.read import read_outcomes
from erp_trainer.outcomes.run import Run, create_run, open_run
from litellm_erp.choice.cost import UNKNOWN_PRICE

EASY = "What is the capital of France?"
HARD = "Think step by step and analyze: prove by induction, then reason through every tradeoff."
MODELS = {"cheap": (0.002, 0.9, 0.1), "middle": (0.01, 0.5, 0.5), "dear": (0.1, 0.8, 0.9)}  # USD, reward of EASY, HARD


def run_of(folder: Path, *, costs: bool = True, easy: int = 40, hard: int = 40) -> Run:
    """Prompts of two tiers, on which different models are best."""
    texts = [(EASY, i) for i in range(easy)] + [(HARD, i) for i in range(hard)]
    rows = [
        {"prompt_id": str(n), "prompt": f"{text} ({i})", "model": name, "reward": reward[text == HARD],
         "split": "train" if n % 2 else "test"} | ({"cost_usd": usd} if costs else {})
        for n, (text, i) in enumerate(texts)
        for name, (usd, *reward) in MODELS.items()
    ]  # fmt: skip
    source = folder / "outcomes.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    outcomes = read_outcomes(source)
    prices = dict.fromkeys(outcomes.models, UNKNOWN_PRICE)
    create_run(folder / "run", outcomes, prices, source=source, options={}, split_seed=None, expected_output_tokens=9)
    return open_run(folder / "run")


def test_tiers_are_those_of_litellms_own_scorer() -> None:
    texts = [EASY, HARD, *prompts(40, 60), *prompts(400, 20)]
    models = [{"model_name": "m", "litellm_params": {"model": "openai/m", "api_key": "unused"}}]
    scorer = ComplexityRouter("auto", litellm.Router(model_list=models), {"tiers": dict.fromkeys(TIERS, "m")})
    expected = [scorer.classify(text)[0].value for text in texts]
    assert [TIERS[tier] for tier in tiers_of(texts)] == expected
    assert (expected[0], expected[1]) == ("SIMPLE", "REASONING")


def test_a_conversation_is_judged_by_its_last_turn() -> None:
    turns = [(HARD, "user"), ("Done.", "assistant"), (EASY, "user")]
    cell = json.dumps([{"role": role, "content": text} for text, role in turns])
    assert tiers_of([cell]).tolist() == tiers_of([EASY]).tolist()


def test_tiers_as_set_run_from_the_cheapest_to_the_best_and_tuned_ones_take_what_is_best_on_train(tmp_path) -> None:
    found = compare(run_of(tmp_path))
    assert found.best.models == ("dear",) * 4
    as_set, tuned = found.settings
    # The middle model lies under the line from the cheap one to the dear one.
    assert as_set.models == ("cheap", "cheap", "dear", "dear")
    assert (tuned.models[0], tuned.models[3]) == ("cheap", "dear")
    assert found.shares == pytest.approx((0.5, 0, 0, 0.5))
    for setting in found.settings:
        assert setting.reward == pytest.approx(0.9)
        assert setting.gain.mean == pytest.approx(0.05)
        assert setting.cost == pytest.approx(1000 * (0.002 + 0.1) / 2)
        assert setting.cost_change == pytest.approx(-0.49)
    assert as_set.gain.low > 0


def test_without_costs_or_test_prompts_one_line_says_what_to_do(tmp_path: Path, capsys: Any) -> None:
    assert main([str(run_of(tmp_path, costs=False).path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: no model's cost is known")
    assert len(said.splitlines()) == 1


def test_the_table_shows_rewards_costs_and_intervals(tmp_path: Path, capsys: Any) -> None:
    assert main([str(run_of(tmp_path).path)]) == 0
    shown = capsys.readouterr().out
    assert "SIMPLE 50.0%, MEDIUM 0.0%, COMPLEX 0.0%, REASONING 50.0%" in shown
    assert "| as set | 0.900 | +5.0 (" in shown
    assert "| 51 | −49% |" in shown


def test_nine_prompts_in_ten_of_the_llmrouter_example_are_simple() -> None:
    texts = read_outcomes(Path(__file__).parents[1] / "examples/llmrouter_example/outcomes.parquet", wide=True).prompts
    drawn = np.random.default_rng(0).choice(len(texts), 500, replace=False)
    assert np.mean(tiers_of([texts[i] for i in drawn]) == 0) == pytest.approx(0.9, abs=0.06)
