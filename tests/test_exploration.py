"""Exploring: within its share and its cost whatever comes, by probabilities that are exact, of newcomers too."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erp_trainer.learning.bootstrap import Resamples
from erp_trainer.logged.estimators import Seen, ips
from litellm_erp.choice.cost import Price
from litellm_erp.choice.decision import name_order, rank
from litellm_erp.choice.exploration import CARRIED, DRAWS, Allowance, Trial, choices, normals
from litellm_erp.choice.prompt import PromptText
from litellm_erp.conversations.memory import Served
from litellm_erp.errors import SettingsError
from litellm_erp.goals.settings import ExploreSettings, parse
from litellm_erp.goals.tenant import Tenant
from litellm_erp.serving.deployments import Member
from litellm_erp.serving.group import Ask, RoutedGroup
from litellm_erp.serving.note import Decision
from litellm_erp.serving.reload import ReloadedBundle
from tests.bundles import DIMENSION, SPEC, edit_manifest, write_bundle

GROUP = "erp-explore"
MODELS = ("small", "org/mid", "big")
# USD per million tokens, output.
USD = {"small": 1.0, "org/mid": 4.0, "big": 20.0, "new": 2.0}


# --- the draws and the choice


def test_a_models_draws_are_one_of_every_part_of_the_distribution_and_its_own():
    a, b = normals("a"), normals("b")
    assert np.array_equal(np.sort(a), np.sort(b))
    assert len(np.unique(a)) == DRAWS
    assert (abs(a.mean()), a.std()) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=0.01))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.2


numbers = st.floats(-2, 2).map(lambda x: round(x, 2))


@settings(max_examples=150)
@given(st.data(), st.integers(1, 6), st.sampled_from([0.0, 0.5, 3.0]), st.sampled_from([0.0, 1e-4, 1.0]))
def test_a_draws_choice_is_what_the_decision_would_rank_first_among_what_may_be_tried(data, m, lambda_, allowance):
    def column(of: Any) -> np.ndarray:
        return np.array(data.draw(st.lists(of, min_size=m, max_size=m)), dtype=np.float64)

    reward, std = column(numbers), np.abs(column(numbers))
    cost = column(st.sampled_from([0.0, 1e-4, 2e-4, 1e-3, math.nan]))
    allowed = column(st.booleans()).astype(bool)
    greedy, names = data.draw(st.integers(0, m - 1)), [f"m{i}" for i in range(m)]
    ties = name_order(names)
    found = choices(
        reward, std, cost, lambda_, greedy=greedy, names=names, tie_order_M=ties, allowed_M=allowed, allowance=allowance
    )
    may = allowed & (cost <= cost[greedy] + allowance)
    may[greedy] = True
    few = np.flatnonzero(may)
    for draw in range(0, DRAWS, 17):
        drawn = reward[few] + std[few] * np.array([normals(names[i])[draw] for i in few])
        first = rank(drawn, cost[few], lambda_, tie_order_M=ties[few]).order[0]
        assert found[draw] == few[first]


# --- the bound


@given(
    st.floats(0, 0.5),
    st.lists(st.tuples(st.floats(0, 1e3), st.floats(-1e3, 1e4), st.booleans()), max_size=60),
)
def test_whatever_comes_explored_choices_cost_at_most_their_share_since_any_moment(share, requests):
    account = Allowance(share)
    greedy, extra, saved = [0.0], [0.0], [0.0]
    for cost, dearer, tries in requests:
        # A choice costs at least nothing, and what would exceed the allowance is not made.
        dearer = max(dearer, -cost)
        dearer = dearer if tries and dearer <= account.at(cost) else 0.0
        account.count(cost, dearer)
        greedy.append(greedy[-1] + cost)
        extra.append(extra[-1] + dearer)
        mean = greedy[-1] / (len(greedy) - 1)
        saved.append(CARRIED * share * mean)
    slack = 1e-9 * (1 + greedy[-1])
    for end in range(len(greedy)):
        assert extra[end] <= share * greedy[end] + slack
        for start in range(end):
            assert extra[end] - extra[start] <= share * (greedy[end] - greedy[start]) + saved[start] + slack


def test_what_was_saved_up_is_bounded_and_unknown_costs_count_nothing():
    account = Allowance(0.1)
    for _ in range(3 * CARRIED):
        account.count(1.0, 0.0)
    assert account.at(1.0) == pytest.approx(0.1 * CARRIED)
    before = account.at(1.0)
    account.count(math.nan, 5.0)
    account.count(1.0, math.nan)
    assert account.at(1.0) == before
    assert account.at(math.nan) == 0.0


def test_the_share_is_kept_and_every_draw_is_as_probable_as_the_others():
    places = [Trial((i + 0.5) / 100_000).place(0.05) for i in range(100_000)]
    counts = Counter(place for place in places if place is not None)
    assert sum(counts.values()) == 5000
    assert set(counts) == set(range(DRAWS))
    assert max(counts.values()) - min(counts.values()) <= 1
    assert Trial(0.0, serves=False).place(0.5) is None


# --- one group


class Directions:
    """Texts in random directions."""

    spec, inline = SPEC, True

    def embed_counted(self, text: str) -> tuple[np.ndarray, int]:
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
        vector = np.random.default_rng(seed).normal(size=DIMENSION)
        return (vector / np.linalg.norm(vector)).astype(np.float32), 100

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([self.embed_counted(text)[0] for text in texts])

    async def aembed(self, text: str) -> np.ndarray:
        return self.embed_counted(text)[0]

    def count_tokens(self, text: str) -> int:
        return 100

    def files(self) -> tuple[()]:
        return ()

    def close(self) -> None:
        pass


def member(name: str, priced: bool = True) -> Member:
    price = Price(0.1, USD[name]) if priced else None
    return Member(f"dep-{name}", name, name, price, None, (None, None, None), ())


def bundle_at(folder: Path) -> Path:
    """Three models that earn little more or less by direction."""
    rng = np.random.default_rng(3)
    weights = rng.normal(0, 0.1, (DIMENSION, len(MODELS))).astype(np.float32)
    return write_bundle(folder / "bundle", MODELS, weights_DM=weights)


def group_of(path: Path, tmp_path: Path, *, extra_cost: float = 10.0, share: float = 0.2, **more: Any) -> RoutedGroup:
    stated = {"bundle": str(path), "explore": {"share": share, "extra_cost": extra_cost}} | more
    found = parse({"groups": {GROUP: stated}}, tmp_path / "erp").groups[GROUP]
    return RoutedGroup(found, ReloadedBundle(found, embedder=Directions()))


async def decided(
    group: RoutedGroup, trial: Trial | None, text: str = "hello", names: Sequence[str] = MODELS, **more: Any
) -> Decision:
    members = [member(name) for name in names]
    granted = group.grant_of(Tenant())
    return await group.decide(PromptText(text, len(text)), members, granted, Ask(), trial=trial, told=True, **more)


async def test_propensities_are_how_often_each_model_serves(tmp_path):
    group = group_of(bundle_at(tmp_path), tmp_path, policy={"lambda": 0.05})
    for names in (MODELS, (*MODELS, "new")):
        served: Counter[str] = Counter()
        n, greedy = 10 * DRAWS, (await decided(group, None, names=names)).models[0]
        for i in range(n):
            # An even grid of draws: what is counted is a probability, and no sample of one.
            trial = Trial((i + 0.5) / n, allowance=1.0)
            decision = await decided(group, trial, names=names)
            served[decision.models[0]] += 1
            assert (decision.reason == "explored") == (decision.models[0] != greedy)
        assert decision.propensity is not None
        assert math.fsum(decision.propensity.values()) == pytest.approx(1.0, abs=1e-12)
        assert set(decision.propensity) == set(served)
        for model, probability in decision.propensity.items():
            assert served[model] / n == pytest.approx(probability, abs=0.5 / DRAWS)


async def test_a_newcomer_without_data_is_tried_and_ranks_last_otherwise(tmp_path):
    group = group_of(bundle_at(tmp_path), tmp_path)
    names = (*MODELS, "new")
    greedy = await decided(group, Trial(0.99), names=names)
    assert greedy.models[-1] == "new"
    assert greedy.propensity is not None
    assert 0.01 < greedy.propensity["new"] < 0.2
    found = [await decided(group, Trial(i / 300, allowance=1.0), names=names) for i in range(60)]
    [tried, *_] = [d for d in found if d.models[0] == "new"]
    assert tried.reason == "explored"
    assert sorted(tried.models) == sorted(names)
    # 100 tokens in at 0.1 USD, 256 out at 2.
    assert tried.expected_cost["new"] == pytest.approx((100 * 0.1 + 256 * 2) / 1e6)
    excluded = group_of(group.settings.bundle, tmp_path, unknown="exclude")
    assert "new" not in ((await decided(excluded, Trial(0.99), names=names)).propensity or {})


async def test_a_newcomer_without_a_price_is_not_tried(tmp_path):
    group = group_of(bundle_at(tmp_path), tmp_path)
    members = [*map(member, MODELS), member("new", priced=False)]
    granted = group.grant_of(Tenant())
    found = await group.decide(PromptText("hello", 5), members, granted, Ask(), trial=Trial(0.9), told=True)
    assert "new" not in (found.propensity or {})


async def test_what_the_allowance_does_not_cover_is_out_of_the_propensities_too(tmp_path):
    group = group_of(bundle_at(tmp_path), tmp_path, extra_cost=0.0, policy={"lambda": 0.05})
    first = await decided(group, Trial(0.99))
    dearer = [m for m in MODELS if first.expected_cost[m] > first.expected_cost[first.models[0]]]
    assert dearer
    for i in range(200):
        found = await decided(group, Trial(i / 1000), f"prompt {i}")
        assert found.propensity is not None
        greedy = await decided(group, None, f"prompt {i}")
        assert found.expected_cost[found.models[0]] <= greedy.expected_cost[greedy.models[0]] + 1e-15
        assert all(found.expected_cost[m] <= greedy.expected_cost[greedy.models[0]] + 1e-15 for m in found.propensity)


async def test_the_extra_cost_is_kept_request_by_request_and_explored_all_the_same(tmp_path):
    group = group_of(bundle_at(tmp_path), tmp_path, extra_cost=0.3, share=0.5)
    rng = np.random.default_rng(0)
    greedy_usd = extra_usd = 0.0
    explored = 0
    for i in range(1500):
        text = f"prompt {i % 50}"
        best = await decided(group, None, text)
        found = await decided(group, Trial(rng.random()), text)
        usd = found.expected_cost
        greedy_usd += usd[best.models[0]]
        extra_usd += usd[found.models[0]] - usd[best.models[0]]
        explored += found.reason == "explored"
        assert extra_usd <= 0.3 * greedy_usd + 1e-12
    assert explored > 100
    assert extra_usd != 0


async def test_later_picks_of_a_request_try_the_same_and_count_nothing(tmp_path):
    group = group_of(bundle_at(tmp_path), tmp_path, extra_cost=0.5)
    for i in range(50):
        await decided(group, Trial(0.99), f"before {i}")
    trial = Trial(0.01)
    first, left = await decided(group, trial), group.allowance.at(0.0)
    for _ in range(3):
        assert (await decided(group, trial)).models == first.models
    assert group.allowance.at(0.0) == left


async def test_what_holds_a_conversation_or_does_not_serve_is_not_explored(tmp_path):
    group = group_of(bundle_at(tmp_path), tmp_path)
    greedy = (await decided(group, None)).models[0]
    # The bundle's curve sends prompts to its first model.
    held = Served("small", {}, awaits_tools=True, goes_on=True)
    for i in range(30):
        found = await decided(group, Trial(i / 200, allowance=1.0), last=held)
        assert (found.models[0], found.propensity) == ("small", {"small": 1.0})
        aside = await decided(group, Trial(i / 200, serves=False))
        assert aside.models[0] == greedy
        assert aside.propensity is not None
        assert aside.propensity[greedy] < 1.0
    assert group.allowance.at(0.0) == 0.0


async def test_a_share_that_exploring_reached_is_unbiased_by_inverse_propensity(tmp_path):
    """Of 40 logs, the mean estimate of a policy that is never greedy lies within three of its standard errors."""
    group = group_of(bundle_at(tmp_path), tmp_path, share=0.5)
    rng, names = np.random.default_rng(5), (*MODELS, "new")
    decisions = [await decided(group, Trial(0.9999), f"prompt {i}", names) for i in range(300)]
    propensity = np.array([[(d.propensity or {}).get(name, 0.0) for name in names] for d in decisions])
    means = rng.random((len(decisions), len(names)))
    target = propensity * (propensity < 0.4)
    target[target.sum(axis=1) == 0] = 1.0
    target = target * (propensity > 0)
    target /= target.sum(axis=1, keepdims=True)
    truth = float((target * means).sum(axis=1).mean())
    estimates = []
    rows = np.arange(len(decisions))
    for _ in range(40):
        served = np.array([rng.choice(len(names), p=p / p.sum()) for p in propensity])
        seen = Seen(propensity, served, means[rows, served], means * 0, Resamples.draw(rows, n_resamples=2))
        estimates.append(float(ips(target, seen, np.ones(len(rows), dtype=bool)).value_S[0]))
    assert np.mean(estimates) == pytest.approx(truth, abs=3 * np.std(estimates) / np.sqrt(len(estimates)))


async def test_who_has_learned_from_more_rows_is_tried_less(tmp_path):
    path = bundle_at(tmp_path)
    document = json.loads((path / "manifest.json").read_text())
    before = await decided(group_of(path, tmp_path), Trial(0.99))
    for record in document["models"]:
        record["rows"] = 1_000_000
    edit_manifest(path, models=document["models"])
    after = await decided(group_of(path, tmp_path), Trial(0.99))
    assert (before.propensity or {})[before.models[0]] < (after.propensity or {})[after.models[0]]


# --- settings


@pytest.mark.parametrize(
    ("explore", "said"),
    [
        ({"share": 0.05}, "extra_cost: found nothing"),
        ({"extra_cost": 0.02}, "share: found nothing"),
        ({"share": 0, "extra_cost": 0.02}, "above 0 and at most 0.5"),
        ({"share": 0.6, "extra_cost": 0.02}, "above 0 and at most 0.5"),
        ({"share": 0.05, "extra_cost": -1}, "at least 0|from 0"),
        ({"share": 0.05, "extra_cost": 0.02, "seed": 1}, "unknown key 'seed'"),
        (True, "explore: found True; expected a map"),
    ],
)
def test_settings_that_make_no_sense_are_one_error(tmp_path, explore, said):
    with pytest.raises(SettingsError, match=said):
        parse({"groups": {GROUP: {"bundle": "b", "explore": explore}}}, tmp_path / "erp")


@pytest.mark.parametrize("explore", [None, False])
def test_without_it_nothing_is_explored(tmp_path, explore):
    assert parse({"groups": {GROUP: {"bundle": "b", "explore": explore}}}, tmp_path / "e").groups[GROUP].explore is None
    stated = {"share": 0.05, "extra_cost": 0.02}
    found = parse({"groups": {GROUP: {"bundle": "b", "explore": stated}}}, tmp_path / "e").groups[GROUP].explore
    assert found == ExploreSettings(0.05, 0.02)
