"""Who takes a model from whom: feedback of several accounts, and what a bundle makes of it."""

from dataclasses import replace

import numpy as np
import pytest

from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.ranking import Candidates
from litellm_erp.decision_log.record import Candidate, Record
from litellm_erp.drift.expected import Expectations, Expected, Residual, digest_of, expected_of, fit_of, span_of
from litellm_erp.drift.table import DriftTable
from litellm_erp.goals.settings import parse
from tests.pools import group_settings

S = 0.2


def residual(account: str, away: float, fitted: str = "fit") -> Residual:
    return Residual("g", "big", fitted, account, away, S)


def feed(table: DriftTable, account: str, mean: float, n: int, rng: np.random.Generator) -> list[str]:
    """Accounts for whom something rings; "" for all."""
    return [who for _ in range(n) for who, _ in table.hear(residual(account, rng.normal(mean, S)))]


def test_one_account_alone_takes_a_model_from_itself_only():
    table, rng = DriftTable(), np.random.default_rng(0)
    rung = []
    for _ in range(2000):
        rung += feed(table, "liar", -5.0, 3, rng)
        rung += feed(table, "a", 0.0, 2, rng) + feed(table, "b", 0.0, 2, rng)
    assert rung == ["liar"]


def test_accounts_of_whom_none_says_enough_say_it_together():
    table, rng = DriftTable(), np.random.default_rng(1)
    rung = [who for _ in range(12) for i in range(20) for who in feed(table, f"team {i}", -0.1, 1, rng)]
    assert "" in rung
    assert rung.count("") == 1


def test_two_accounts_that_ring_ring_for_all():
    table, rng = DriftTable(), np.random.default_rng(2)
    assert "" not in feed(table, "a", -0.1, 1000, rng)
    assert "" in feed(table, "b", -0.1, 1000, rng)


def test_more_accounts_than_are_told_apart_cannot_ring_by_being_many():
    table = DriftTable()
    for i in range(300):
        table.hear(residual(f"honest {i}", -0.01))
    rung = [who for i in range(10) for who, _ in table.hear(residual(f"late {i}", -0.01))]
    assert "" not in rung


@pytest.fixture(scope="module")
def bundle(planted_bundle):
    return load_bundle(planted_bundle)


@pytest.fixture(scope="module")
def settings(planted_bundle):
    document = {"groups": {"g": group_settings(planted_bundle)}}
    return parse(document, planted_bundle / "config.yaml").groups["g"]


def test_what_rang_stays_through_good_feedback_and_ends_with_another_fit(bundle):
    table, rng = DriftTable(), np.random.default_rng(3)
    fitted = fit_of(bundle, "big")
    while not table.any:
        table.hear(residual("a", rng.normal(-0.3, S), fitted))
    lost = table.losses(bundle, "a")
    assert 0.1 < lost["big"] < 0.5
    assert table.losses(bundle, "b") == {}
    for _ in range(5000):
        table.hear(residual("a", 0.2, fitted))
    # What it is worth now counts, and no model is raised.
    assert table.losses(bundle, "a") == {"big": 0.0}
    assert [(who, s.rung) for who, model, s in table.shown(bundle) if model == "big"] == [("", False), ("a", True)]
    models = [replace(model, probe=replace(model.probe, sha256="0" * 64)) for model in bundle.manifest.models]
    refitted = replace(bundle, id="another", manifest=replace(bundle.manifest, models=tuple(models)))
    assert table.losses(refitted, "a") == {}
    assert list(table.shown(refitted)) == []


def test_a_model_that_drifted_counts_for_its_mean_at_most_less_its_loss(bundle):
    rng = np.random.default_rng(4)
    embedding = rng.normal(size=bundle.manifest.embedder.dimension).astype(np.float32)
    embedding /= np.linalg.norm(embedding)
    n = len(bundle.models)
    for extra in (0, 40):  # one request's few candidates, and many
        candidates = Candidates(bundle, range(n), extra, bundle.prices())
        plain = candidates.rank(embedding, 10.0, 0.0)
        held = candidates.rank(embedding, 10.0, 0.0, losses={0: 0.25})
        mean = float(bundle.mean_reward_M[0])
        assert held.expected_reward[0] == pytest.approx(min(plain.expected_reward[0], mean) - 0.25, abs=1e-6)
        np.testing.assert_allclose(held.expected_reward[1:n], plain.expected_reward[1:n])
        np.testing.assert_allclose(held.predicted, plain.predicted)
        unread = candidates.rank(None, 10.0, 0.0, losses={0: 0.25})
        assert unread.expected_reward[0] == pytest.approx(mean - 0.25, abs=1e-6)


def record(of, **changed):
    found = {"bundle": of.id, "served": "big", "candidates": {"big": Candidate(0.6, 0.3)}, "account": "team:a"}
    return Record(0.0, "r", "g", **(found | changed))


def test_only_answers_of_which_something_was_expected_count(bundle, settings):
    found = expected_of(settings, bundle, record(bundle), 0.7, "d")
    assert found == Expected("g", "big", fit_of(bundle, "big"), "d", 0.7, 0.3, span_of(settings, bundle))
    for odd in (
        record(bundle, followed=False),
        record(bundle, failed=True),
        record(bundle, served=None),
        record(bundle, bundle="replaced"),
        record(bundle, candidates={"big": Candidate(0.6, None)}),
        record(bundle, served="unknown", candidates={"unknown": Candidate(0.6, 0.3)}),
    ):
        assert expected_of(settings, bundle, odd, 0.7, "d") is None
    assert expected_of(settings, bundle, record(bundle), None, "d") is None


@pytest.mark.parametrize("early", [False, True])
def test_the_first_word_on_a_request_counts_whenever_it_comes(bundle, settings, early):
    expected = expected_of(settings, bundle, record(bundle), 0.7, "d")
    known, digest = Expectations(), digest_of(["team:a", "r"])
    if early:
        assert known.said(digest, 0.4) is None
        found = known.expect(digest, expected)
    else:
        assert known.expect(digest, expected) is None
        found = known.said(digest, 0.4)
    assert found.away == pytest.approx(-0.3)
    assert found.std_error == 0.3
    assert known.said(digest, 1.0) is None


def test_requests_without_a_word_are_forgotten_and_ids_of_two_accounts_are_two(bundle, settings):
    expected = expected_of(settings, bundle, record(bundle), 0.7, "d")
    known = Expectations(most=10)
    for i in range(11):
        known.expect(digest_of(["team:a", str(i)]), expected)
    assert known.said(digest_of(["team:a", "0"]), 0.4) is None
    assert known.said(digest_of(["team:b", "10"]), 0.4) is None
    assert known.said(digest_of(["team:a", "10"]), 0.4) is not None


def test_rewards_without_bounds_are_measured_by_how_far_they_deviate(bundle, settings):
    assert span_of(settings, bundle) == 1.0
    assert span_of(replace(settings, feedback_range=(1.0, 5.0)), bundle) == 4.0
    wide = replace(bundle, uncertainty=replace(bundle.uncertainty, noise_M=np.array([9.0, 4.0, 1.0])))
    assert span_of(settings, wide) == 6.0
