"""A ``litellm.Router`` in the user's own program, without a proxy."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import litellm
import pytest
from litellm import Router

from demo.proxy_process import StubProcess
from litellm_erp.errors import BundleNotFound, ServingError, SettingsError
from litellm_erp.goals.settings import parse
from litellm_erp.proxy import ErpRouter, attach, self_test
from litellm_erp.serving.deployments import MemberTable
from tests.harness import GROUP, PRICES, SPARE, deployment, proxy_config, write_config
from tests.pools import erp_settings, group_settings, prompts

MEMBERS = ("small", "mid", "big")


@pytest.fixture(autouse=True)
def callbacks() -> Iterator[None]:
    """LiteLLM's list of callbacks is as it was before the test once the test is over."""
    before = list(litellm.callbacks)
    yield
    litellm.callbacks[:] = before
    # The Router spreads callbacks over LiteLLM's other lists.
    for name in ("success_callback", "failure_callback", "_async_success_callback", "_async_failure_callback"):
        found = getattr(litellm, name)
        found[:] = [callback for callback in found if not isinstance(callback, ErpRouter)]


def router_of(stub: StubProcess, *models: str, members: tuple[str, ...] = MEMBERS, **options: object) -> Router:
    groups = [{"group_name": GROUP, "models": list(members), "routing_strategy": "simple-shuffle"}]
    return Router([deployment(stub, model) for model in models], routing_groups=groups, **options)


async def models_of(router: Router, count: int = 12) -> list[str]:
    answers = [await ask(router, text) for _, text in prompts(count)]
    return [answer.removeprefix("answer from ") for answer in answers]


async def ask(router: Router, text: str) -> str:
    answer = await router.acompletion(model=GROUP, messages=[{"role": "user", "content": text}])
    return str(answer.choices[0].message.content)


async def test_an_attached_router_is_routed(stub, planted_bundle):
    router = router_of(stub, *MEMBERS)
    attach(router, erp_settings(planted_bundle))
    best = [model for model, _ in prompts(12)]
    right = sum(a == b for a, b in zip(await models_of(router), best, strict=True))
    assert right >= 10


async def test_an_attached_router_is_told_the_effort(stub, planted_bundle):
    entry = deployment(stub, "big") | {"model_name": "thinks"}
    entry["litellm_params"]["model"] = "hosted_vllm/big"
    entry["model_info"] = {"erp_arms": {"mid": {"reasoning_effort": "low"}, "big": {"reasoning_effort": "high"}}}
    groups = [{"group_name": GROUP, "models": ["small", "thinks"], "routing_strategy": "simple-shuffle"}]
    router = Router([deployment(stub, "small"), entry], routing_groups=groups)
    attach(router, erp_settings(planted_bundle))
    said = {"small": "small", "mid": "big at effort low", "big": "big at effort high"}
    wanted = prompts(12)
    found = [(await ask(router, text)).removeprefix("answer from ") for _, text in wanted]
    assert sum(a == said[best] for a, (best, _) in zip(found, wanted, strict=True)) >= 10


async def test_settings_may_be_a_file_with_a_bundle_beside_it(stub, planted_bundle, tmp_path):
    (tmp_path / "bundle").symlink_to(planted_bundle)
    path = write_config(tmp_path / "erp.yaml", {"erp_settings": {"groups": {GROUP: {"bundle": "./bundle"}}}})
    router = router_of(stub, *MEMBERS)
    attach(router, path)
    assert "small" in await models_of(router, 3)


async def test_settings_may_be_parsed_already(stub, planted_bundle):
    router = router_of(stub, *MEMBERS)
    attach(router, parse(erp_settings(planted_bundle), Path("settings.yaml")))
    assert (await models_of(router, 1)) == ["small"]


async def test_a_deployment_that_is_added_later_is_used(stub, planted_bundle):
    router = router_of(stub, "mid", "big")
    attach(router, erp_settings(planted_bundle))
    assert "small" not in await models_of(router, 6)
    router.add_deployment(litellm.Deployment(**deployment(stub, "small")))
    assert (await models_of(router, 1)) == ["small"]


async def test_a_deployment_that_is_changed_later_is_read_again(stub, planted_bundle):
    router = router_of(stub, *MEMBERS)
    attach(router, erp_settings(planted_bundle, lambda_=100))
    assert set(await models_of(router, 3)) == {"small"}
    dear = deployment(stub, "small", input_cost_per_token=1.0, output_cost_per_token=1.0)
    router.upsert_deployment(litellm.Deployment(**dear))
    assert set(await models_of(router, 3)) == {"mid"}


async def test_a_price_that_is_five_times_as_high_is_felt_by_the_next_request(stub, planted_bundle):
    router = router_of(stub, *MEMBERS)
    attach(router, erp_settings(planted_bundle, lambda_=0.1))
    text = next(text for best, text in prompts(12) if best == "big")
    assert await ask(router, text) == "answer from big"
    input_usd, output_usd = (5 * usd / 1e6 for usd in PRICES["big"])
    dear = {"input_cost_per_token": input_usd, "output_cost_per_token": output_usd}
    router.upsert_deployment(litellm.Deployment(**deployment(stub, "big", **dear)))
    assert await ask(router, text) != "answer from big"


async def test_a_model_without_a_price_is_not_taken_for_free(stub, planted_bundle, tmp_path):
    entries = [deployment(stub, model) for model in (*MEMBERS, SPARE)]
    for key in ("input_cost_per_token", "output_cost_per_token"):
        del entries[3]["litellm_params"][key]
    callback = ErpRouter(parse(erp_settings(planted_bundle), Path("settings.yaml")))
    router = Router(entries)
    assert callback.members.member(router.model_list[3]).map_price is None


async def test_removing_the_callback_undoes_it(stub, planted_bundle):
    router = router_of(stub, *MEMBERS)
    callback = attach(router, erp_settings(planted_bundle, lambda_=100))
    assert set(await models_of(router)) == {"small"}
    litellm.callbacks.remove(callback)
    assert len(Counter(await models_of(router, 40))) == 3


async def test_a_failing_model_costs_no_request(stub, planted_bundle):
    router = router_of(stub, *MEMBERS, num_retries=2)
    attach(router, erp_settings(planted_bundle))
    stub.set_mode("small", "500")
    assert "small" not in await models_of(router, 9)


async def test_other_models_are_left_alone(stub, planted_bundle):
    router = router_of(stub, *MEMBERS)
    attach(router, erp_settings(planted_bundle, lambda_=100))
    answer = await router.acompletion(model="big", messages=[{"role": "user", "content": "hello"}])
    assert answer.choices[0].message.content == "answer from big"


def test_what_keeps_a_group_from_being_routed_is_logged(stub, planted_bundle, caplog):
    attach(router_of(stub, "small"), erp_settings(planted_bundle, {"other": group_settings(planted_bundle)}))
    assert "group 'other': is in no routing group" in caplog.text
    assert "pool models without a deployment: big, mid" in caplog.text


def test_bad_settings_raise_and_attach_nothing(stub, tmp_path):
    router, before = router_of(stub, *MEMBERS), list(litellm.callbacks)
    with pytest.raises(BundleNotFound, match="nowhere"):
        attach(router, erp_settings(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match="found no erp_settings"):
        attach(router, write_config(tmp_path / "config.yaml", proxy_config(stub)))
    assert litellm.callbacks == before


@pytest.mark.parametrize("call", ["completion", "embedding"])
def test_a_synchronous_call_of_a_routed_group_is_refused_and_says_what_to_call(stub, planted_bundle, call):
    router = router_of(stub, *MEMBERS)
    callback = attach(router, erp_settings(planted_bundle))
    prompt = {"input": "hello"} if call == "embedding" else {"messages": [{"role": "user", "content": "hello"}]}
    with pytest.raises(ServingError, match=rf"router\.a{call}"):
        getattr(router, call)(model=GROUP, **prompt)
    assert getattr(router, call)(model="big", **prompt) is not None
    litellm.callbacks.remove(callback)
    assert getattr(router, call)(model=GROUP, **prompt) is not None


async def test_another_router_of_the_program_is_left_alone(stub, planted_bundle):
    attach(router_of(stub, *MEMBERS), erp_settings(planted_bundle))
    own = [deployment(stub, model) | {"model_info": {"id": f"own-{model}"}} for model in (SPARE, "big")]
    groups = [{"group_name": GROUP, "models": [SPARE, "big"], "routing_strategy": "simple-shuffle"}]
    assert set(await models_of(Router(own, routing_groups=groups), 30)) == {SPARE, "big"}


async def test_two_routers_have_goals_of_their_own(stub, planted_bundle):
    best = router_of(stub, *MEMBERS)
    own = [deployment(stub, model) | {"model_info": {"id": f"own-{model}"}} for model in MEMBERS]
    groups = [{"group_name": GROUP, "models": list(MEMBERS), "routing_strategy": "simple-shuffle"}]
    cheapest = Router(own, routing_groups=groups)
    attach(best, erp_settings(planted_bundle))
    attach(cheapest, erp_settings(planted_bundle, lambda_=100.0))
    assert set(await models_of(cheapest)) == {"small"}
    assert set(await models_of(best)) == set(MEMBERS)


def test_a_second_attach_says_that_there_is_one(stub, planted_bundle):
    router = router_of(stub, *MEMBERS)
    first, before = attach(router, erp_settings(planted_bundle)), list(litellm.callbacks)
    with pytest.raises(SettingsError, match="already"):
        attach(router, erp_settings(planted_bundle))
    assert litellm.callbacks == before
    litellm.callbacks.remove(first)
    attach(router, erp_settings(planted_bundle))


class Unreadable(dict):
    """Metadata that nobody foresaw."""

    def get(self, *args):
        raise RuntimeError("odd")


async def test_an_error_before_the_allow_list_was_read_does_not_lift_it(stub, planted_bundle):
    router = router_of(stub, *MEMBERS)
    callback = attach(router, erp_settings(planted_bundle))
    auth = SimpleNamespace(models=[GROUP, "small"])
    for name in ("user_api_key_team_metadata", "user_api_key_metadata"):
        metadata = {"user_api_key_auth": auth, name: Unreadable(erp=1)}
        left = await callback.async_filter_deployments(GROUP, router.model_list, None, {"metadata": metadata})
        assert [entry["model_name"] for entry in left] == ["small"]


def deployments_of(stub: StubProcess) -> list[dict[str, object]]:
    return [deployment(stub, model) for model in MEMBERS]


async def test_the_self_test_finds_that_litellm_follows(stub, planted_bundle):
    router = router_of(stub, *MEMBERS)
    attach(router, erp_settings(planted_bundle))
    found = await self_test.run(router, GROUP, deployments_of(stub), MemberTable(lambda name: None))
    assert found.followed
    assert stub.requests() == []


async def test_the_self_test_finds_that_nothing_is_followed_where_nobody_decides(stub):
    found = await self_test.run(router_of(stub, *MEMBERS), GROUP, deployments_of(stub), MemberTable(lambda name: None))
    assert found.conclusive
    assert not found.followed
    assert "NOT follow" in found.text()


@pytest.mark.parametrize("models", [MEMBERS, ("small", "big")])
async def test_the_self_test_passes_over_a_model_that_cannot_be_picked(stub, planted_bundle, models):
    entries = [deployment(stub, model) for model in models]
    entries[0]["model_info"]["team_id"] = "others"
    groups = [{"group_name": GROUP, "models": list(models), "routing_strategy": "simple-shuffle"}]
    router = Router(entries, routing_groups=groups)
    attach(router, erp_settings(planted_bundle))
    found = await self_test.run(router, GROUP, entries, MemberTable(lambda name: None))
    # Of one model nothing could be told from chance.
    assert (found.followed, bool(found.problem)) == ((True, False) if len(models) > 2 else (False, True))


async def test_the_self_test_of_a_group_that_cannot_be_picked_from_decides_nothing(stub):
    found = await self_test.run(router_of(stub), "nobody", deployments_of(stub), MemberTable(lambda name: None))
    assert not found.conclusive
    assert found.problem
