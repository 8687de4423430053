"""What the arms of a deployment may be, which of them a request can be served by, and what is then sent."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.manifest import Manifest
from litellm_erp.bundle.ranking import Candidates, predict_pool
from litellm_erp.effort import arms_of, checked, same, told
from litellm_erp.errors import BundleError, SettingsError
from litellm_erp.goals.settings import parse
from litellm_erp.proxy import arms
from litellm_erp.serving.checks import check_router, router_view
from litellm_erp.serving.deployments import MemberTable
from litellm_erp.serving.note import Note
from tests.harness import GROUP

BUDGET = {"thinking": {"type": "enabled", "budget_tokens": 4000}}
ARMS: dict[str, Any] = {
    "low": {"reasoning_effort": "low"},
    "high": {"reasoning_effort": "high"},
    "deep": BUDGET,
    "short": {"max_tokens": 200},
}


def deployment(**info: Any) -> dict[str, Any]:
    model = "anthropic/claude-sonnet-4-5-20250929"
    return {"model_name": "big", "litellm_params": {"model": model}, "model_info": {"id": "dep-big", **info}}


def named(request: dict[str, Any], deployments: list[dict[str, Any]] | None = None) -> tuple[list[str], bool]:
    """Pool models that a request may be served by, and whether it left none."""
    table = MemberTable(lambda name: None)
    listed = deployments or [deployment(erp_arms=ARMS)]
    found = arms.spread(listed, [table.member(d) for d in listed], arms.said_by(request))
    assert len(found.offered) == len(found.members)
    return [member.pool_model for member in found.members], found.is_own


def called(request: dict[str, Any], parameters: dict[str, Any], call_type: str = "acompletion") -> dict[str, Any]:
    """What LiteLLM is given for a call of an arm."""
    table = MemberTable(lambda name: None)
    (arm,) = table.member(deployment(erp_arms={"arm": parameters})).arms
    note = Note()
    note.left_as = {"dep-big": arm}
    changed = arms.with_parameters(request, call_type, note, "dep-big", is_picked=True)
    assert (changed is None) == ("dep-big" not in note.arms)
    return dict(request if changed is None else changed)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ([], "expected a map of 1 to 64"),
        ({}, "expected a map of 1 to 64"),
        ({"a": {"temperature": 1}}, "unknown parameter 'temperature'"),
        ({"a": {"reasoning_effort": 3}}, "a.reasoning_effort"),
        ({"a": {"max_tokens": True}}, "a.max_tokens"),
        ({"a": {"max_tokens": 5, "max_completion_tokens": 5}}, "keep one"),
        ({"a": {"thinking": {"type": "enabled"}}}, "enabled without budget_tokens"),
        ({"a": {"thinking": {"type": "deep", "budget_tokens": 5}}}, "a.thinking"),
        ({"a": BUDGET | {"max_tokens": 4000}}, "leaves none beside a budget"),
        ({"a": {"max_tokens": 5}, "b": {"max_completion_tokens": 5}}, "a, b have the same parameters"),
        ({3: {}}, "a pool model called 3"),
    ],
)
def test_what_no_arm_can_be_is_one_error_that_names_it(stated, said):
    with pytest.raises(SettingsError, match=said):
        arms_of({"erp_arms": stated}, "model_info", SettingsError)


def test_a_deployment_is_one_pool_model_or_several():
    with pytest.raises(SettingsError, match="erp_model is stated too"):
        arms_of({"erp_arms": ARMS, "erp_model": "low"}, "model_info", SettingsError)
    assert told(checked(BUDGET, "a", SettingsError)) == "thinking enabled 4000"
    assert same({"max_tokens": 5}, {"max_completion_tokens": 5})
    assert not same(ARMS["low"], ARMS["high"])


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, list(ARMS)),
        ({"reasoning_effort": "low"}, ["low"]),
        ({"reasoning": {"effort": "high", "summary": "auto"}}, ["high"]),
        ({"output_config": {"effort": "high"}}, ["high"]),
        ({"extra_body": {"reasoning_effort": "high"}}, ["high"]),
        (BUDGET, ["deep"]),
        # No arm says so, and one that says nothing of it contradicts nothing.
        ({"reasoning_effort": "medium"}, ["short"]),
        # An answer that has no room for its thinking would be refused.
        ({"max_tokens": 4000}, ["low", "short"]),
        ({"max_tokens": 4097}, list(ARMS)),
        ({"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 200}}, []),
        ({"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 199}}, ["short"]),
        ({"reasoning_effort": {"effort": "high", "summary": "auto"}}, ["high"]),
        # Of a model that turns effort into a budget, an effort too.
        ({"temperature": 0.2}, ["short"]),
        ({"extra_body": {"temperature": 0.2}}, ["short"]),
        ({"extra_body": {"max_tokens": 4000}}, ["low", "short"]),
        ({"reasoning_effort": {"summary": "auto"}}, list(ARMS)),
        ({"tool_choice": "required"}, ["short"]),
        ({"tool_choice": "auto", "temperature": 1}, list(ARMS)),
        ({"input": "hello"}, ["low", "high", "short"]),
    ],
)
def test_an_arm_that_contradicts_the_request_is_no_candidate(request_, expected):
    assert named(request_) == (expected or ["big"], not expected)


def test_where_none_is_left_the_deployment_goes_as_it_is():
    only = deployment(erp_arms={"low": ARMS["low"], "high": ARMS["high"]})
    assert named({"reasoning_effort": "medium"}, [only]) == (["big"], True)
    other = {"model_name": "small", "litellm_params": {"model": "x"}, "model_info": {"id": "dep-small"}}
    assert named({"reasoning_effort": "medium"}, [only, other]) == (["small"], False)
    plain = deployment(erp_arms={"low": ARMS["low"], "as-is": {}})
    assert named({"reasoning_effort": "medium"}, [plain]) == (["as-is"], False)


@given(
    st.dictionaries(
        st.sampled_from(
            ["reasoning_effort", "thinking", "reasoning", "max_tokens", "tool_choice", "top_p", "extra_body"]
        ),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.lists(st.none(), max_size=2)
        | st.dictionaries(st.sampled_from(["effort", "type"]), st.none() | st.lists(st.none()) | st.text(max_size=3)),
    )
)  # fmt: skip
def test_whatever_a_client_sends_leaves_something_and_raises_nothing(request_):
    names, _ = named(request_)
    assert names
    for parameters in ARMS.values():
        called(request_, parameters)


@pytest.mark.parametrize(
    ("request_", "parameters", "call_type", "expected"),
    [
        ({}, ARMS["low"], "acompletion", {"reasoning_effort": "low"}),
        ({"max_tokens": 100}, {"max_tokens": 200}, "acompletion", {"max_tokens": 100}),
        ({"max_tokens": 900}, {"max_tokens": 200}, "acompletion", {"max_tokens": 200}),
        ({"max_tokens": 0}, {"max_tokens": 200}, "acompletion", {"max_tokens": 0}),
        ({"max_completion_tokens": 900}, {"max_tokens": 200}, "acompletion", {"max_completion_tokens": 200}),
        ({"max_output_tokens": 900}, {"max_tokens": 200}, "aresponses", {"max_output_tokens": 200}),
        (
            {"extra_body": {"max_completion_tokens": 900, "seed": 1}},
            {"max_tokens": 200},
            "acompletion",
            {"extra_body": {"max_completion_tokens": 200, "seed": 1}},
        ),
        (
            {"max_tokens": 300, "extra_body": {"max_tokens": 100}},
            {"max_tokens": 200},
            "acompletion",
            {"max_tokens": 200, "extra_body": {"max_tokens": 100}},
        ),
        (
            {"reasoning_effort": {"summary": "auto"}},
            ARMS["high"],
            "acompletion",
            {"reasoning_effort": {"summary": "auto", "effort": "high"}},
        ),
        ({}, {"max_completion_tokens": 200}, "atext_completion", {"max_tokens": 200}),
        ({"max_tokens": 9}, {"max_completion_tokens": 200}, "anthropic_messages", {"max_tokens": 9}),
        (
            {"reasoning": {"summary": "auto"}},
            ARMS["high"],
            "aresponses",
            {"reasoning": {"summary": "auto", "effort": "high"}},
        ),
        ({}, BUDGET, "anthropic_messages", BUDGET),
        ({}, BUDGET, "aresponses", {}),
        ({}, ARMS["low"], "aembedding", {}),
    ],
)
def test_an_arm_is_sent_in_the_words_of_its_route_and_raises_no_limit(request_, parameters, call_type, expected):
    assert called(request_, parameters, call_type) == expected


def test_a_call_for_another_group_is_plain_and_is_told_so():
    table = MemberTable(lambda name: None)
    low, *_ = table.member(deployment(erp_arms=ARMS)).arms
    note = Note()
    note.group, note.left_in, note.left_as = GROUP, frozenset({"dep-big"}), {"dep-big": low}
    assert arms.with_parameters({}, "acompletion", note, "dep-big", is_picked=True) == {"reasoning_effort": "low"}
    assert note.following(GROUP, "dep-big", {"dep-big"}, (), cached=False) == "followed"
    assert table.by_id("dep-big", note.arms) is low
    assert arms.with_parameters({}, "acompletion", note, "dep-big", is_picked=False) is None
    assert table.by_id("dep-big", note.arms).pool_model == "big"
    assert note.following(GROUP, "dep-big", {"dep-big"}, (), cached=False) == "not-followed"


def test_arms_that_cannot_be_are_told_and_the_deployment_goes_on_as_one_model(planted_bundle: Path):
    table = MemberTable(lambda name: None)
    entry = deployment(erp_arms={"small": {"temperature": 0}})
    assert table.member(entry).each == (table.member(entry),)
    settings = parse({"groups": {GROUP: {"bundle": str(planted_bundle), "policy": {"lambda": 0}}}}, planted_bundle)
    view = router_view([entry], {"routing_groups": [{"group_name": GROUP, "models": ["big"]}]})
    found = check_router(view, settings, {GROUP: load_bundle(planted_bundle)}, table)
    assert [f.level for f in found if "unknown parameter 'temperature'" in f.text] == ["error"]


def limited(bundle: Bundle, **limits: int) -> Bundle:
    """A bundle some of whose models were sampled with a limit of their own."""
    records = [
        replace(record, parameters={"max_tokens": limits[record.name]}) if record.name in limits else record
        for record in bundle.manifest.models
    ]
    return replace(bundle, manifest=replace(bundle.manifest, models=tuple(records)))


@pytest.mark.parametrize("few", [32, 0])
def test_an_arms_own_limit_clips_what_its_answers_are_expected_to_cost(planted_bundle: Path, monkeypatch, few):
    monkeypatch.setattr("litellm_erp.bundle.ranking.FEW", few)
    bundle = load_bundle(planted_bundle)
    vector = np.full(bundle.manifest.embedder.dimension, bundle.manifest.embedder.dimension**-0.5, dtype=np.float32)

    def costs(bundle: Bundle, limit: float | None = None) -> list[float]:
        candidates = Candidates(bundle, range(3), 0, bundle.prices())
        found = list(candidates.rank(vector, 10.0, 0.0, max_output_tokens=limit).cost)
        whole = predict_pool(bundle, vector, 10.0, prices=bundle.prices(), max_output_tokens=limit).cost
        assert found == pytest.approx(whole.tolist())
        return found

    free, clipped = costs(bundle), costs(limited(bundle, small=1))
    small = bundle.models.index("small")
    assert clipped[small] < free[small]
    assert [usd for i, usd in enumerate(clipped) if i != small] == [usd for i, usd in enumerate(free) if i != small]
    assert costs(limited(bundle, small=10**6)) == free
    # The request's own limit counts where it is the smaller.
    assert costs(limited(bundle, small=50), 1.0) == costs(bundle, 1.0)


def test_a_manifest_says_the_parameters_only_where_there_are_any_and_takes_no_others(planted_bundle: Path):
    manifest = load_bundle(planted_bundle).manifest
    document = json.loads(json.dumps(manifest.to_json()))
    assert all("parameters" not in entry for entry in document["models"])
    document["models"][0]["parameters"] = ARMS["deep"]
    found = Manifest.from_json(document, where="manifest.json")
    assert found.models[0].parameters == ARMS["deep"]
    assert json.loads(json.dumps(found.to_json())) == document
    document["models"][0]["parameters"] = {"temperature": 0}
    with pytest.raises(BundleError, match=r"models\[0\]: parameters: unknown parameter 'temperature'"):
        Manifest.from_json(document, where="manifest.json")
