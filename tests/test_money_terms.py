"""What people are told of a λ is what requests get, and no internal error lifts a budget."""

from typing import Any

import numpy as np
import pytest

from litellm_erp.budgets.book import SpendBook
from litellm_erp.budgets.counters import Counters
from litellm_erp.goals.curve import Mixture
from litellm_erp.goals.lambda_of import MAX_LAMBDA, PacedAccount, lambda_of, safe_lambda_of
from litellm_erp.goals.tenant import grant
from litellm_erp.serving.team_view import agreed_solution, team_view
from tests.test_cost_and_budget import FRONTIER
from tests.test_tenancy import group, tenant

DAILY = {"budget_usd": 1.0, "per": "day", "on_exhausted": "reject"}
CURVE = {**vars(FRONTIER), "document": {"points": [{"share": {"big": 1.0}}] * 4}}


class Broken:
    """A pacer of which nothing works, as after a mistake of ours."""

    def tick(self, *_: Any) -> PacedAccount | None:
        raise ZeroDivisionError


def curve() -> Any:
    from litellm_erp.bundle.frontier import Frontier

    return Frontier(**CURVE)


@pytest.mark.parametrize(
    ("policy", "key"),
    [
        ({"lambda": 1.0}, None),
        ({"budget_usd_per_1k_requests": 5.0}, None),
        ({"budget_usd_per_1k_requests": 3.0, "allow_override": True}, {"budget_usd_per_1k_requests": 5.0}),
        ({"budget_usd_per_1k_requests": 5.0, "allow_override": [0.5, 0.7]}, {"budget_usd_per_1k_requests": 3.0}),
        ({"min_quality": 0.5, "allow_override": [2.5, 3.0]}, {"min_quality": 0.9}),
        ({"lambda": 0.0, "allow_override": True}, {"lambda": 99.0}),
    ],
)
def test_what_is_told_is_what_requests_get(policy: dict[str, Any], key: dict[str, Any] | None) -> None:
    settings, who = group(teams={"t1": policy}), tenant(key=key, key_id="k")
    granted = grant(settings, who)
    draws = (np.arange(2000) + 0.5) / 2000
    got = [lambda_of("g", granted, curve(), u, lambda p: agreed_solution_of(p)).lambda_ for u in draws]
    view = team_view(settings, curve(), who)
    told = view["lambda"]
    if "lambda" in told:
        assert set(got) == {told["lambda"]}
    else:
        assert {min(got), max(got)} == {told["lambda_low"], told["lambda_high"]}
        assert np.mean(np.array(got) > told["lambda_low"]) == pytest.approx(told["share_high"], abs=2e-3)
    expected = np.interp(got, FRONTIER.lambda_L, FRONTIER.cost_L).mean() * 1000
    assert view["expected"]["usd_per_1k_requests"] == pytest.approx(expected, rel=5e-3)


def agreed_solution_of(policy: Any) -> Mixture:
    from litellm_erp.goals.solve import solve

    return solve(policy, curve()).mixture


def test_the_proxy_and_the_doctor_are_told_the_same_while_nothing_was_spent() -> None:
    settings = group(teams={"t1": {"budget_usd_per_1k_requests": 5.0}})
    alone = team_view(settings, curve(), tenant())
    solution = agreed_solution(settings, grant(settings, tenant()), curve())
    assert alone["expected"]["usd_per_1k_requests"] == pytest.approx(solution.cost * 1000) == pytest.approx(5.0)


@pytest.mark.parametrize(("shared", "note"), [(True, False), (False, True)])
def test_sums_say_whose_they_are(shared: bool, note: bool) -> None:
    from litellm_erp.budgets.totals import AccountView, Sharing

    view = team_view(group(), curve(), tenant(), spent=AccountView(), sharing=Sharing(3 if shared else 1, shared))
    assert (view["spent"]["workers"], view["spent"]["shared"]) == (3 if shared else 1, shared)
    assert ("note" in view["spent"]) == note


@pytest.mark.parametrize("pacer", [None, Broken()])
@pytest.mark.parametrize("frontier", [None, "curve"])
@pytest.mark.parametrize(
    ("policy", "lambda_"),
    [({"lambda": 3.0}, 3.0), (DAILY, MAX_LAMBDA), ({"budget_usd_per_1k_requests": 1.0}, None)],
)
def test_whatever_is_broken_there_is_a_lambda_and_it_lifts_no_budget(
    policy: dict[str, Any], lambda_: float | None, frontier: str | None, pacer: Any
) -> None:
    found = safe_lambda_of(group(teams={"t1": policy}), tenant(), curve() if frontier else None, pacer)
    knows = frontier is not None and pacer is None
    if lambda_ is None:
        # The cheapest end of the curve, or cost alone.
        assert found.lambda_ == (4.0 if knows else MAX_LAMBDA)
    elif policy == DAILY and knows:
        assert found.lambda_ == 0.0
    else:
        assert found.lambda_ == lambda_


def test_a_spent_budget_stays_spent_after_an_internal_error() -> None:
    book = SpendBook(Counters("here"), lambda: 1e9)
    settings = group(teams={"t1": DAILY})
    book.charge("g", grant(settings, tenant()).claims, 5.0, own=True)
    for frontier in (None, curve()):
        found = safe_lambda_of(settings, tenant(), frontier, book)
        assert (found.lambda_, found.exhausted) == (MAX_LAMBDA, "reject")
    # A tenant that could not be read gets the group's own.
    assert safe_lambda_of(settings, None).lambda_ == 7.0
