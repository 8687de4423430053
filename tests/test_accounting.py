"""What LiteLLM reports, whatever an upstream made of it, and who is refused, wherever a request ends up."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litellm.types.utils import Usage

from litellm_erp.budgets.totals import Totals
from litellm_erp.choice.cost import Price
from litellm_erp.choice.prompt import from_request
from litellm_erp.goals import settings as settings_file
from litellm_erp.goals.lambda_of import MAX_LAMBDA
from litellm_erp.goals.tenant import Tenant, grant
from litellm_erp.proxy.answers.litellm_answer import CallEvent
from litellm_erp.proxy.litellm_request import tenant_in
from litellm_erp.proxy.request_note import note_of, tenant_of
from litellm_erp.serving.call_cost import FinishedCall, cost_of
from litellm_erp.serving.deployments import MemberTable
from litellm_erp.serving.group import Ask, RoutedGroup
from litellm_erp.serving.note import Note
from litellm_erp.serving.reload import ReloadedBundle
from litellm_erp.serving.sharing import BudgetSharing
from litellm_erp.serving.spend import Spending

MESSAGES = [{"role": "user", "content": "alpha question one"}]
DEPLOYMENTS = [
    {
        "model_name": name,
        "litellm_params": {"model": f"openai/{name}", "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-5},
        "model_info": {"id": name},
    }
    for name in ("small", "mid", "big")
]
USAGE = SimpleNamespace(prompt_tokens=100, completion_tokens=10)
COST = 100 * 1e-6 + 10 * 1e-5
# What an upstream may put where a number belongs.
ODD = [-1, -(10**400), 10**400, float("nan"), float("inf"), -float("inf"), True, "12", [], {}, 1e300]


class World:
    """Spending with two groups, one of which asks all budgets to count everything."""

    def __init__(self, bundle: Path, usd: float = 1.0, **options: Any) -> None:
        team = {"budget_usd": usd, "per": "day", "on_exhausted": "reject"}
        document = {
            "groups": {
                "g": {"bundle": str(bundle), "teams": {"t": team}},
                "wide": {"bundle": str(bundle), "teams": {"t": {**team, "count": "everything"}}},
            },
            **options,
        }
        self.settings = settings_file.parse(document, bundle / "config.yaml")
        self.members = MemberTable(lambda _: None)
        self.groups: dict[str, RoutedGroup] = {}
        self.totals = Totals()
        self.spending = Spending(self.groups, self.members, self.totals)
        self.sharing = BudgetSharing(self.spending.book)
        self.groups |= {
            name: RoutedGroup(group, ReloadedBundle(group), pacer=self.spending.book)
            for name, group in self.settings.groups.items()
        }
        self.sharing.configure(self.settings)
        self.offered = [self.members.member(deployment) for deployment in DEPLOYMENTS]

    def metadata(self) -> dict[str, Any]:
        return {"user_api_key_team_id": "t", "model_group": "g"}

    async def decide(self, metadata: dict[str, Any], count: int | None = None, group: str = "g") -> None:
        granted = grant(self.groups[group].settings, tenant_in(metadata))
        decision = await self.groups[group].decide(from_request(MESSAGES, {}), self.offered, granted, Ask())
        note = note_of(metadata)
        note.asked(group)
        note.decided(decision, granted, decision.models[0], decision.reason)
        self.spending.reserve(group, note, granted, decision, count)

    def answer(self, metadata: dict[str, Any], usage: Any = USAGE, cost: Any = None, model: str = "big") -> None:
        kwargs = {"litellm_params": {"metadata": metadata, "model_info": {"id": model}}, "response_cost": cost}
        self.told(kwargs, SimpleNamespace(id="answer", usage=usage))

    def told(self, kwargs: Any, response: Any) -> None:
        event = CallEvent(kwargs, response)
        self.spending.succeeded(event.call, event.note, event.tenant)

    def refusal_for(self, group: str, metadata: dict[str, Any], count: int = 1) -> Any:
        note = note_of(metadata)
        return self.spending.refusal_for(group, note, tenant_of(metadata, note), count)

    def money(self, group: str = "g") -> tuple[float, float]:
        claim = grant(self.groups[group].settings, Tenant(team_id="t")).claim
        status = self.spending.book.tick(group, claim).status()
        assert status is not None
        return round(status.spent_usd, 9), round(status.reserved_usd, 9)


@pytest.fixture
def world(planted_bundle: Path) -> World:
    return World(planted_bundle)


async def test_an_answer_costs_what_litellm_says_else_tokens_at_our_prices(world: World) -> None:
    for cost, expected in ((0.25, 0.25), (None, 0.25 + COST), (0.0, 0.25 + 2 * COST)):
        metadata = world.metadata()
        await world.decide(metadata)
        world.answer(metadata, cost=cost)
        assert world.money() == (pytest.approx(expected), 0.0)
    assert world.totals.view("g", "team:t").requests == 3


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("where", ["prompt_tokens", "completion_tokens", "cost", "usage"])
async def test_usage_that_makes_no_sense_costs_the_estimate_and_leaves_nothing_held(
    world: World, odd: Any, where: str
) -> None:
    metadata = world.metadata()
    await world.decide(metadata)
    estimate = world.money()[1]
    usage = SimpleNamespace(**{**vars(USAGE), where: odd}) if where.endswith("tokens") else USAGE
    world.answer(metadata, usage=odd if where == "usage" else usage, cost=odd if where == "cost" else None)
    spent, reserved = world.money()
    assert reserved == 0.0
    assert spent == pytest.approx(COST if where == "cost" else estimate)


@pytest.mark.parametrize("usage", [{"input_tokens": 100, "output_tokens": 10}, vars(USAGE)])
async def test_usage_is_read_under_either_name(world: World, usage: dict[str, int]) -> None:
    metadata = world.metadata()
    await world.decide(metadata)
    world.answer(metadata, usage=usage)
    assert world.money() == (pytest.approx(COST), 0.0)


async def test_usage_is_read_from_litellms_own_objects(world: World) -> None:
    found = []
    for odd in (None, -1):
        metadata = world.metadata()
        await world.decide(metadata)
        before, estimate = world.money()
        told = {} if odd is None else {"input_tokens": odd}
        world.answer(metadata, usage=Usage(prompt_tokens=100, completion_tokens=10, total_tokens=110, **told))
        found.append((world.money()[0] - before, estimate))
    assert found[0][0] == pytest.approx(COST)
    # A number under the other name that makes no sense is found as well.
    assert found[1][0] == pytest.approx(found[1][1])


def test_who_asks_is_read_again_where_litellm_names_another_caller() -> None:
    metadata = {"user_api_key_team_id": "one", "user_api_key_auth": object()}
    note = note_of(metadata)
    assert tenant_of(metadata, note).team_id == "one"
    metadata |= {"user_api_key_team_id": "two", "user_api_key_auth": object()}
    assert tenant_of(metadata, note).team_id == "two"
    # Without a caller of LiteLLM's, nothing says that it is still the same.
    alone = {"user_api_key_team_id": "three"}
    assert tenant_of(alone, note).team_id == "three"
    assert tenant_of({"user_api_key_team_id": "four"}, note).team_id == "four"


async def test_a_cost_made_of_nonsense_is_none(world: World) -> None:
    metadata = world.metadata()
    await world.decide(metadata)
    estimate = world.money()[1]
    world.answer(metadata, usage=SimpleNamespace(prompt_tokens=-1000, completion_tokens=10), cost=1e-9)
    assert world.money() == (pytest.approx(estimate), 0.0)


NAMES = ["litellm_params", "metadata", "model_info", "id", "standard_logging_object", "prompt_tokens", "response_cost"]
LEAVES = st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=5))


@settings(max_examples=100, deadline=None)
@given(st.recursive(LEAVES, lambda part: st.dictionaries(st.sampled_from(NAMES), part), max_leaves=8))
def test_no_report_raises(planted_bundle_world: World, kwargs: Any) -> None:
    planted_bundle_world.told(kwargs, kwargs)


@pytest.fixture(scope="module")
def planted_bundle_world(planted_bundle: Path) -> World:
    return World(planted_bundle)


async def test_a_refusal_may_be_asked_for_wherever_the_request_ends_up_and_counts_once(world: World) -> None:
    metadata = world.metadata()
    assert world.refusal_for("g", metadata) is None
    ticket = note_of(metadata).ticket
    await world.decide(metadata)
    held = world.money()
    for _ in range(3):
        assert world.refusal_for("g", metadata) is None
    assert (world.money(), note_of(metadata).ticket) == (held, ticket)
    world.answer(metadata)
    assert world.money() == (pytest.approx(COST), 0.0)
    claim = grant(world.groups["g"].settings, Tenant(team_id="t")).claim
    account = world.spending.book.tick("g", claim)
    assert world.spending.book.counters.total(account.key, "a") == 1


async def test_a_request_that_falls_back_into_another_group_is_asked_for_its_budget_there(world: World) -> None:
    claims = grant(world.groups["wide"].settings, Tenant(team_id="t")).claims
    world.spending.book.charge("wide", claims, 2.0, own=True)
    metadata = world.metadata()
    assert world.refusal_for("g", metadata) is None
    await world.decide(metadata)
    refusal: Any = world.refusal_for("wide", metadata)
    assert (refusal.status_code, "retry-after" in refusal.headers) == (429, True)


async def test_a_request_for_many_answers_is_refused_where_the_money_does_for_few(world: World) -> None:
    await world.decide(world.metadata())
    assert world.refusal_for("g", world.metadata(), 1) is None
    assert world.refusal_for("g", world.metadata(), 1_000_000) is not None


async def test_many_answers_hold_as_many_estimates(world: World) -> None:
    metadata = world.metadata()
    await world.decide(metadata)
    one = world.money()[1]
    world.spending.failed(note_of(metadata))
    metadata = world.metadata()
    await world.decide(metadata, count=100)
    assert world.money()[1] == pytest.approx(100 * one)


async def test_a_client_that_goes_away_pays_the_estimate_and_what_is_known_to_be_more(world: World) -> None:
    metadata = world.metadata()
    await world.decide(metadata)
    estimate = world.money()[1]
    world.spending.abandoned(note_of(metadata))
    world.spending.failed(note_of(metadata))
    assert world.money() == (pytest.approx(estimate), 0.0)
    world.spending.abandoned(note_of(metadata), float("nan"))
    assert world.money() == (pytest.approx(estimate), 0.0)
    # LiteLLM reports of some dropped streams what their client has read of them.
    world.answer(metadata, cost=estimate / 10)
    assert world.money() == (pytest.approx(estimate), 0.0)
    world.spending.abandoned(note_of(metadata), 3 * estimate)
    assert world.money() == (pytest.approx(3 * estimate), 0.0)


async def test_a_budget_that_counts_everything_counts_what_other_groups_served(world: World) -> None:
    metadata = world.metadata()
    await world.decide(metadata)
    world.answer(metadata, cost=0.5)
    assert (world.money("g")[0], world.money("wide")[0]) == (0.5, 0.5)


def test_an_internal_error_leaves_a_spent_budget_spent(world: World) -> None:
    claims = grant(world.groups["g"].settings, Tenant(team_id="t")).claims
    world.spending.book.charge("g", claims, 2.0, own=True)
    found = world.spending.fallback("g", tenant_in(world.metadata()), Note())
    assert found is not None
    assert (found.lambda_, found.exhausted) == (MAX_LAMBDA, "reject")
    assert world.spending.fallback("g", None, Note()) is not None
    assert world.spending.fallback("elsewhere", None, Note()) is None


async def test_budgets_survive_a_restart_in_a_file_and_say_so_where_they_do_not(
    planted_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "budgets.json")
    before = World(planted_bundle, budget_file=path)
    metadata = before.metadata()
    await before.decide(metadata)
    before.answer(metadata, cost=1.5)
    before.sharing.keep_running()
    await before.sharing.refresh()
    assert before.sharing.status().to_json() == {"workers": 1, "shared": True}
    after = World(planted_bundle, budget_file=path)
    assert after.refusal_for("g", after.metadata()) is not None
    after.sharing.keep_running()
    await after.sharing.refresh()
    assert (after.totals.view("g", "team:t").spend_usd, after.sharing.status().workers) == (1.5, 2)
    assert "memory" not in caplog.text
    alone = World(planted_bundle)
    alone.sharing.keep_running()
    assert "a restart begins them anew" in caplog.text
    assert alone.sharing.status().to_json()["shared"] is False


def test_an_answer_without_a_price_costs_what_was_recorded_of_its_model_where_anything_was() -> None:
    member = MemberTable(lambda model: None).member({"model_name": "own", "litellm_params": {"model": "openai/own"}})
    call = FinishedCall("d", usd=0.0, tokens_in=10.0, tokens_out=20.0)
    assert cost_of(call, member, None) == 0.0
    assert cost_of(call, member, None, estimated=True) is None
    assert cost_of(call, member, Price(1.0, 2.0), estimated=True) == pytest.approx(50e-6)
