"""Bundles of other policies than ERP serve through a real proxy: one group for each, in one process."""

from collections import Counter

import pytest

from demo.proxy_process import ProxyProcess, StubProcess
from erp_trainer.bundles.predict import bundle_embedder, predict_rows
from litellm_erp.bundle.load import load_bundle
from tests.harness import ask, proxy_config, served, write_keys
from tests.pools import CHEAPEST, RIVALS, add_group, ask_all, erp_settings, group_settings, prompts

pytestmark = pytest.mark.proxy

TEAMS = {"support": {"lambda": CHEAPEST}, "thrift": {"budget_usd_per_1k_requests": 0.3}}
KEYS = {"sk-research": {}, "sk-support": {}, "sk-thrift": {}}
by_policy = pytest.mark.parametrize("policy", RIVALS)


@pytest.fixture(scope="module")
def proxy(start_module_proxy, stub_process, planted_bundle, rival_bundles, tmp_path_factory) -> ProxyProcess:
    groups = {f"erp-{policy}": group_settings(bundle, teams=TEAMS) for policy, bundle in rival_bundles.items()}
    config = proxy_config(stub_process, erp_settings=erp_settings(planted_bundle, groups))
    for name in groups:
        add_group(config, stub_process, name)
    return start_module_proxy(config, env=write_keys(tmp_path_factory.mktemp("keys") / "keys.json", KEYS))


@by_policy
def test_each_kind_goes_to_the_model_that_is_best_at_it(proxy: ProxyProcess, stub: StubProcess, policy):
    asked = prompts(30)
    answers = ask_all(proxy, [{"prompt": text, "model": f"erp-{policy}"} for _, text in asked])
    right = sum(best == got for (best, _), got in zip(asked, served(answers), strict=True))
    assert right >= 27
    assert {answer.erp["reason"] for answer in answers} == {"routed"}


@by_policy
def test_what_is_served_is_what_predict_ranks_first_and_what_the_upstream_saw(proxy, stub, rival_bundles, policy):
    texts = [text for _, text in prompts(12, first=100)]
    bundle = load_bundle(rival_bundles[policy])
    rows = predict_rows(bundle, bundle_embedder(bundle), [str(i) for i in range(12)], texts, 0.0)
    first = [model for model, rank in zip(rows["model"], rows["rank"], strict=True) if rank == 1]
    requests = [{"prompt": text, "model": f"erp-{policy}", "user": f"u{i}"} for i, text in enumerate(texts)]
    assert served(ask_all(proxy, requests)) == first
    assert {record["user"]: record["model"] for record in stub.requests()} == {f"u{i}": m for i, m in enumerate(first)}


@by_policy
def test_a_decision_names_its_bundle_its_reward_and_its_cost(proxy, stub, rival_bundles, policy):
    answer = ask(proxy, prompts(1)[0][1], model=f"erp-{policy}")
    assert answer.erp["bundle"] == load_bundle(rival_bundles[policy]).id
    assert 0.3 < float(answer.erp["expected-reward"]) < 1.5
    assert 0 < float(answer.erp["expected-cost-usd"]) < 0.001


@by_policy
def test_a_price_on_money_and_a_budget_work_as_with_erp(proxy, stub, policy):
    texts = [text for _, text in prompts(30)]
    cheap = ask_all(proxy, [{"prompt": text, "model": f"erp-{policy}", "key": "sk-support"} for text in texts])
    assert Counter(served(cheap)) == {"small": 30}
    thrifty = ask_all(proxy, [{"prompt": text, "model": f"erp-{policy}", "key": "sk-thrift"} for text in texts])
    assert Counter(served(thrifty))["big"] < 10
    assert any(float(answer.erp["lambda"]) > 0 for answer in thrifty)
