"""Candidates of one request are ranked as offline evaluation ranks them (scoring.py)."""

from dataclasses import replace

import numpy as np
import pytest
from bundles import write_bundle
from hypothesis import given
from hypothesis import strategies as st

from bench.synthetic import write_bundle as write_synthetic
from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.ranking import FEW, Candidates, Warm, predict_pool, rank_among
from litellm_erp.choice.cost import UNKNOWN_PRICE, Price
from litellm_erp.choice.decision import Held
from litellm_erp.embedding.static import StaticEmbedder

EMBEDDER = StaticEmbedder()
TEXTS = ["Prove that 17 is prime.", "def f(x):\n    return x", "Write me a poem about rain, please!", ""]


@pytest.fixture(scope="module", params=[5, FEW + 8], ids=["few", "many"])
def bundle(request, tmp_path_factory):
    return load_bundle(write_synthetic(tmp_path_factory.mktemp("b") / "b", request.param, embedder=EMBEDDER))


@given(data=st.data())
def test_candidates_are_ranked_as_offline(bundle, data):
    features = replace(bundle.features, unusual=data.draw(st.sampled_from([0.0, 0.1, 1.0])))
    bundle = replace(bundle, features=features, predictor=replace(bundle.predictor, features=features))
    pool = len(bundle.models)
    columns = data.draw(st.permutations(range(pool)))[: data.draw(st.sampled_from([pool, 3, 1]))]
    n_unknown = data.draw(st.integers(0, 2))
    lambda_, limit = data.draw(st.sampled_from([0.0, 0.4, 50.0])), data.draw(st.sampled_from([None, 0.0, 100.0]))
    options = {"safety": data.draw(st.booleans()), "unknown": data.draw(st.sampled_from(["last", "first", "exclude"]))}
    tier = data.draw(
        st.none() | st.lists(st.integers(0, 2), min_size=len(columns) + n_unknown, max_size=len(columns) + n_unknown)
    )
    prices = bundle.prices({"model-001": UNKNOWN_PRICE, "model-002": Price(relative_cost=2.0)})
    embedding, n_tokens = EMBEDDER.embed_counted(data.draw(st.sampled_from(TEXTS)))

    found = Candidates(bundle, columns, n_unknown, prices).rank(
        embedding, n_tokens, lambda_, max_output_tokens=limit, tier=tier, **options
    )
    scores = predict_pool(bundle, embedding, n_tokens, prices=prices, max_output_tokens=limit)
    chosen = np.array(columns)
    offline = rank_among(
        bundle, scores, lambda_, chosen, n_unknown, tier=None if tier is None else np.array(tier), **options
    )
    assert found.order == offline.order[: int(offline.n_ranked)].tolist()
    assert found.leaned == bool(offline.leaned)
    np.testing.assert_allclose(found.expected_reward, offline.expected_reward, rtol=1e-5)
    np.testing.assert_allclose(np.array(found.cost)[: len(columns)], scores.cost[chosen], rtol=1e-5)


def test_every_candidate_costs_less_by_what_its_cache_holds(bundle):
    prices = bundle.prices({name: Price(1.0, 2.0, cached_input_usd_per_mtok=0.1) for name in bundle.models})
    candidates = Candidates(bundle, [2, 0, 1], 1, prices)
    embedding, _ = EMBEDDER.embed_counted(TEXTS[0])
    cold = candidates.rank(embedding, 1000.0, 0.4)
    # The second was last; the third has read more than the request has; position 3 has no probe, and no price.
    warm = candidates.rank(embedding, 1000.0, 0.4, warm=Warm(Held(1, 0.0), [(1, 400.0), (2, 5000.0), (3, 800.0)]))
    saved = np.array(cold.cost)[:3] - np.array(warm.cost)[:3]
    np.testing.assert_allclose(saved, np.array([0.0, 400.0, 1000.0]) * 0.9e-6)
    # At a λ that counts nothing else, warmth decides, and only the one that was last is stayed with.
    assert candidates.rank(embedding, 1000.0, 1e9, warm=Warm(None, [(2, 1000.0)])).order[0] == 2
    last = candidates.rank(embedding, 1e6, 1e9).order[2]
    stayed = candidates.rank(embedding, 1e6, 1e9, warm=Warm(Held(last, 0.0), [(last, 1e6)]))
    assert (stayed.order[0], stayed.stayed) == (last, True)


@pytest.mark.parametrize("n_models", [3, FEW + 1])
@pytest.mark.parametrize("margin", [0.0, 0.01, np.inf])
def test_warmth_that_saves_nothing_changes_nothing_but_by_its_margin(tmp_path, n_models, margin):
    bundle = load_bundle(write_synthetic(tmp_path / "b", n_models, embedder=EMBEDDER))
    candidates = Candidates(bundle, range(n_models), 1, bundle.prices())
    embedding, n_tokens = EMBEDDER.embed_counted(TEXTS[0])
    cold = candidates.rank(embedding, n_tokens, 0.4)
    for position in range(n_models):
        warm = candidates.rank(embedding, n_tokens, 0.4, warm=Warm(Held(position, margin), [(position, 400.0)]))
        predicted = predict_pool(bundle, embedding, n_tokens, prices=bundle.prices())
        offline = rank_among(bundle, predicted, 0.4, np.arange(n_models), 1, held=Held(position, margin))
        assert warm.order == offline.order[: int(offline.n_ranked)].tolist()
        assert np.array_equal(warm.cost, cold.cost, equal_nan=True)
        assert warm.stayed == (warm.order[0] != cold.order[0])
        assert margin or warm.order == cold.order


@pytest.mark.parametrize("n_models", [3, FEW + 1])
@pytest.mark.parametrize("sizes", [(), (3, 5)])
def test_without_text_the_models_mean_rewards_count(tmp_path, n_models, sizes):
    bundle = load_bundle(write_synthetic(tmp_path / "b", n_models, embedder=EMBEDDER, sizes=sizes))
    ranked = Candidates(bundle, range(n_models), 0, bundle.prices()).rank(None, 0.0, 0.0)
    assert ranked.order[0] == int(bundle.mean_reward_M.argmax())
    np.testing.assert_allclose(ranked.expected_reward, bundle.mean_reward_M)


def test_the_best_single_model_has_its_cost_told_where_it_is_not_offered(tmp_path):
    bundle = load_bundle(write_bundle(tmp_path / "b"))
    embedding = np.full(6, 6**-0.5, np.float32)
    ranked = Candidates(bundle, [0, 1], 0, bundle.prices()).rank(embedding, 1e6, 0.0)
    assert sorted(ranked.order) == [0, 1]
    assert ranked.best_single_cost == pytest.approx(1.0 + 256e-6 * 2.0)


@given(st.text(max_size=80))
def test_a_prompt_alone_has_the_leverage_it_has_in_a_batch(bundle, text):
    embeddings = EMBEDDER.embed([text, "another"])
    alone = bundle.uncertainty.leverage(embeddings[0])
    assert alone == pytest.approx(bundle.uncertainty.leverage(embeddings)[0], rel=2e-6)
