"""What a bundle expects a request to cost agrees with what was recorded, whatever of it was recorded."""

import json

import numpy as np
import pytest
import yaml

from litellm_erp.bundle.load import load_bundle
from tests.planted import planted_rows, write_outcomes
from tests.pools import RIVALS
from tests.test_add_model import PRICES, run

# Tokens that answers of each kind of prompt take; far from the 256 that stand in where nothing is known.
TOKENS = {"arithmetic": 100, "code": 3000, "poetry": 900}


def rows(keep=("cost_usd",)):
    rng = np.random.default_rng(0)
    for row in planted_rows(300):
        tokens = TOKENS[row["category"]] * rng.uniform(0.8, 1.2)
        recorded = {
            "cost_usd": tokens * PRICES[row["model"]]["output_usd_per_mtok"] / 1e6,
            "output_tokens": round(tokens),
        }
        kept = {key: value for key, value in row.items() if key not in recorded}
        yield kept | {key: value for key, value in recorded.items() if key in keep}


def fitted(folder, found, prices=PRICES, policy="erp"):
    outcomes = write_outcomes(folder / "outcomes.jsonl", list(found))
    (folder / "prices.yaml").write_text(yaml.safe_dump(prices))
    priced = ("--prices", folder / "prices.yaml") if prices else ()
    assert run("import", outcomes, "--out", folder / "run", *priced).exit_code == 0
    result = run("fit", folder / "run", "--out", folder / "bundle", "--policy", policy, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("keep", [("cost_usd",), ("output_tokens",), ("cost_usd", "output_tokens")], ids="+".join)
def test_expected_cost_is_calibrated_out_of_fold(tmp_path, keep):
    payload = fitted(tmp_path, rows(keep))
    for model in payload["models"].values():
        cost = model["cost"]
        assert cost["expected_cost_usd"] == pytest.approx(cost["cost_usd"], rel=0.05)
        assert 0.9 < cost["cost_slope"] < 1.1


def test_a_price_is_multiplied_by_the_tokens_that_recorded_costs_paid_for(tmp_path):
    fitted(tmp_path, rows())
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.prices().fixed_M.tolist() == pytest.approx([np.nan] * 3, nan_ok=True)
    assert bundle.output_tokens.weights_DM.any(axis=0).all()


def test_a_model_without_a_price_costs_what_was_recorded_beside_others_with_one(tmp_path):
    payload = fitted(tmp_path, rows(), {"small": PRICES["small"], "big": PRICES["big"]})
    bundle = load_bundle(tmp_path / "bundle")
    costs = payload["models"]["mid"]["cost"]
    assert bundle.prices().fixed_M[bundle.models.index("mid")] == pytest.approx(costs["cost_usd"])
    assert costs["cost_slope"] is None
    assert payload["models"]["big"]["cost"]["cost_slope"] == pytest.approx(1.0, abs=0.1)


def test_where_no_cost_is_known_one_line_says_that_lambda_can_do_nothing(tmp_path):
    fitted(tmp_path, rows(keep=()), {})
    found = run("inspect", tmp_path / "bundle").output
    assert [line for line in found.splitlines() if "can do nothing" in line] == [
        "no model's cost is known, so λ, budgets and quality floors can do nothing: state prices (import --prices)"
    ]


@pytest.mark.parametrize("policy", ["erp", *RIVALS])
def test_what_models_without_prices_cost_is_known_to_frontier_evaluation_and_rivals_alike(tmp_path, policy):
    rng = np.random.default_rng(1)
    fitted(tmp_path, (row for row in rows() if rng.random() < 0.9), {}, policy)
    frontier = load_bundle(tmp_path / "bundle").frontier
    assert frontier.cost_L[-1] < 0.5 * frontier.cost_L[0]
    rivals = "--rivals" if policy == "erp" else "--no-rivals"
    result = run("evaluate", tmp_path / "run", "--bundle", tmp_path / "bundle", rivals, "--json")
    curves = json.loads(result.stdout)["curves"]
    for key in [policy, *(RIVALS if policy == "erp" else ())]:
        costs = [point["cost_usd"] for point in curves[key]["points"]]
        assert min(costs) < 0.5 * max(costs)
