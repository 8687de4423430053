"""Three teams with goals of their own on one real proxy; a small version of bench/pacing/teams.py."""

import numpy as np
import pytest

from litellm_erp.bundle.load import load_bundle
from litellm_erp.goals.goal import quality_floor
from tests.harness import PRICES, proxy_config, served, write_keys
from tests.planted import BEST_REWARD, OTHER_REWARD
from tests.pools import ask_all, erp_settings, prompts

pytestmark = pytest.mark.proxy

# Between the costs of the cheapest and of the best choices, as the planted bundle has them.
BUDGET_USD, FLOOR = 0.7, 0.8
TEAMS = {
    "best": {"lambda": 0},
    "budget": {"budget_usd_per_1k_requests": BUDGET_USD},
    "quality": {"min_quality": FLOOR},
}
N = 120


@pytest.fixture(scope="module")
def outcome(start_module_proxy, stub_process, planted_bundle, tmp_path_factory):
    """Per team: mean planted reward, and USD per 1,000 requests by the stub's own token counts."""
    config = proxy_config(stub_process, erp_settings=erp_settings(planted_bundle, teams=TEAMS))
    keys = write_keys(tmp_path_factory.mktemp("keys") / "keys.json", {f"sk-{team}": {} for team in TEAMS})
    proxy = start_module_proxy(config, env=keys)
    return {team: _serve(proxy, stub_process, team) for team in TEAMS}


def _serve(proxy, stub, team):
    stub.reset()
    asked = prompts(N, first=300)
    models = served(ask_all(proxy, [{"prompt": text, "key": f"sk-{team}"} for _, text in asked]))
    rewards = [BEST_REWARD if m == best else OTHER_REWARD[m] for m, (best, _) in zip(models, asked, strict=True)]
    prices = [(PRICES[record["model"]], record) for record in stub.requests()]
    costs = [usd[0] * sent["prompt_tokens"] + usd[1] * sent["completion_tokens"] for usd, sent in prices]
    assert len(costs) == N
    return float(np.mean(rewards)), float(np.mean(costs)) / 1e3


def test_a_team_that_pays_anything_gets_the_best_models(outcome):
    assert outcome["best"][0] == pytest.approx(BEST_REWARD, rel=0.05)


def test_a_team_with_a_budget_spends_about_that(outcome):
    # These prompts are a tenth dearer than those of training, and few: 2,000 requests are the benchmark's.
    assert outcome["budget"][1] == pytest.approx(BUDGET_USD, rel=0.3)
    assert outcome["budget"][1] < outcome["best"][1] * 0.95


def test_a_team_with_a_quality_floor_keeps_to_it_at_a_lower_cost(outcome, planted_bundle):
    reward, cost = outcome["quality"]
    floor = quality_floor(load_bundle(planted_bundle).frontier, FLOOR)
    assert reward == pytest.approx(floor, rel=0.1)
    assert cost < outcome["best"][1] / 2
