"""A request is counted once, whatever is reported of it and in which order."""

import pickle
from itertools import permutations
from typing import Any

import pytest

from litellm_erp.budgets.book import SpendBook
from litellm_erp.budgets.counters import Counters
from litellm_erp.budgets.holds import IN_FLIGHT_S, Ticket
from litellm_erp.goals.goal import Goal, Window
from litellm_erp.goals.lambda_of import RequestLambda
from litellm_erp.goals.tenant import Claim, Grant
from tests.money import HOUR_S, Clock, money
from tests.test_cost_and_budget import FRONTIER

CLAIM = Claim("team:a", Goal("budget_usd", 1.0, Window("hour", on_exhausted="reject")))
ESTIMATE, COST, PART = 0.5, 0.2, 0.1


def reserve(book: SpendBook, usd: float = ESTIMATE, ticket: Ticket | None = None, count: int | None = None) -> Ticket:
    return book.reserve("g", Grant(CLAIM), RequestLambda(0.0, CLAIM), usd, ticket, count)


def counted(reports: tuple[str, ...]) -> float:
    """What one request cost in the end, by what each report means."""
    cost, final, gone = None, False, False
    for report in reports:
        if report == "cost" and not final:
            cost, final = max(COST, ESTIMATE) if gone else COST, True
        elif report == "part" or (report == "gone" and cost != 0.0):
            cost, gone = max(cost or 0.0, PART if report == "part" else 0.0, ESTIMATE), True
        elif report == "failed" and not final and not gone:
            cost = 0.0
        elif report == "silence" and cost is None:
            cost = ESTIMATE
    return ESTIMATE if cost is None else cost


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_whatever_the_order_of_reports_a_request_counts_once(n: int) -> None:
    for reports in permutations(["cost", "failed", "gone", "part", "silence"], n):
        clock = Clock()
        book = SpendBook(Counters("here"), lambda clock=clock: clock.wall_s, lambda clock=clock: clock.steady_s)
        ticket = reserve(book)
        for report in reports:
            tell(book, clock, ticket, report)
            tell(book, clock, ticket, "silence" if report == "silence" else report)
        clock.pass_(IN_FLIGHT_S)
        assert (reports, *money(book, CLAIM)) == (reports, counted(reports), 0.0)


def tell(book: SpendBook, clock: Clock, ticket: Ticket, report: str) -> None:
    if report == "cost":
        book.settle(ticket, COST)
    elif report == "failed":
        book.release(ticket)
    elif report == "silence":
        clock.pass_(IN_FLIGHT_S)
        book.tick("g", CLAIM)
    else:
        book.abandon(ticket, PART if report == "part" else None)


@pytest.mark.parametrize("reader", ["exhausted", "status", "mixture", "in_flight"])
def test_every_reader_sees_to_the_end_of_waiting_itself(book: SpendBook, clock: Clock, reader: str) -> None:
    ticket = reserve(book)
    clock.pass_(IN_FLIGHT_S)
    read: dict[str, Any] = {
        "exhausted": lambda: book.tick("g", CLAIM).exhausted(),
        "status": lambda: book.tick("g", CLAIM).status(),
        "mixture": lambda: book.tick("g", CLAIM, FRONTIER).mixture,
        "in_flight": book.in_flight,
    }
    read[reader]()
    assert ticket.state == "expired"


def test_looking_at_an_account_changes_nothing(book: SpendBook, clock: Clock) -> None:
    book.settle(reserve(book), COST)
    held = reserve(book)
    clock.pass_(IN_FLIGHT_S)
    account = book.tick("g", CLAIM, FRONTIER)
    before = pickle.dumps(account)
    clock.pass_(HOUR_S)
    for _ in range(2):
        assert (account.exhausted(1, held), account.status().spent_usd) == (None, COST + ESTIMATE)
        assert account.mixture is not None
        assert account.likely_usd >= account.least_usd > 0
    assert pickle.dumps(account) == before


def test_a_team_is_let_in_again_once_its_money_is_back(book: SpendBook, clock: Clock) -> None:
    # By a failure that is told late.
    ticket = reserve(book, 2.0)
    clock.pass_(IN_FLIGHT_S)
    assert book.tick("g", CLAIM).exhausted() == "reject"
    book.release(ticket)
    assert book.tick("g", CLAIM).exhausted() is None
    # By the next window, also while requests of the last one are still under way.
    reserve(book, 2.0)
    assert book.tick("g", CLAIM).exhausted() == "reject"
    clock.pass_(HOUR_S - IN_FLIGHT_S + 1)
    assert (book.tick("g", CLAIM).exhausted(), money(book, CLAIM)) == (None, (0.0, 0.0))
    clock.pass_(IN_FLIGHT_S)
    assert (book.tick("g", CLAIM).exhausted(), money(book, CLAIM)) == (None, (0.0, 0.0))


def test_a_long_answer_counts_in_the_window_it_was_asked_in(book: SpendBook, clock: Clock) -> None:
    ticket = reserve(book)
    clock.pass_(HOUR_S + 1)
    book.settle(ticket, COST)
    assert money(book, CLAIM) == (0.0, 0.0)
    clock.wall_s -= HOUR_S
    assert money(book, CLAIM) == (COST, 0.0)


@pytest.mark.parametrize("count", [1, 7, 100])
def test_a_request_for_many_answers_holds_and_needs_the_money_of_all(book: SpendBook, count: int) -> None:
    book.tick("g", CLAIM, FRONTIER)
    one, many = book.hold("g", [CLAIM]), book.hold("g", [CLAIM], count)
    assert many.holds[0].nano == pytest.approx(count * one.holds[0].nano, abs=count)
    book.release(one)
    book.release(many)
    ticket = reserve(book, 0.002, count=count)
    assert money(book, CLAIM) == (0.0, pytest.approx(0.002 * count))
    book.settle(ticket, 0.002 * count)
    # What the cheapest model costs is 0.001 USD.
    left = 1.0 - 0.002 * count
    account = book.tick("g", CLAIM)
    assert (account.exhausted(int(left / 0.001) + 2), account.exhausted(int(left / 0.0011))) == ("reject", None)


@pytest.mark.parametrize("count", [0, -1, True, None, "5", 2.5, float("nan"), 10**400])
def test_a_number_of_answers_that_makes_no_sense_is_one_or_the_most_there_are(book: SpendBook, count: Any) -> None:
    ticket = reserve(book, 1e-6, count=count)
    expected = 1.0 if count == 10**400 else 1e-6
    assert money(book, CLAIM) == (0.0, expected)
    book.release(ticket)
    assert money(book, CLAIM) == (0.0, 0.0)


def test_requests_for_many_answers_do_not_teach_that_one_answer_is_dear(book: SpendBook, clock: Clock) -> None:
    book.tick("g", CLAIM, FRONTIER)
    for _ in range(200):
        ticket = reserve(book, 1e-5, count=100)
        book.settle(ticket, (ticket.holds[0].planned or 0) / 1e9)
    clock.pass_(1.0)
    book.tick("g", CLAIM, FRONTIER)
    assert money(book, CLAIM)[0] > 0
    account = book._accounts["g", CLAIM.account, CLAIM.goal]
    assert account.bias == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("usd", [-5.0, float("nan"), float("inf"), -float("inf"), 10**400, -(10**400), True, "9"])
def test_no_cost_that_somebody_states_grows_a_budget_or_leaves_it_held(book: SpendBook, usd: Any) -> None:
    book.settle(reserve(book), COST)
    book.settle(reserve(book), usd)
    book.abandon(reserve(book), usd)
    book.charge("g", [CLAIM], usd, own=True)
    spent, reserved = money(book, CLAIM)
    assert (spent >= COST, reserved) == (True, 0.0)


@pytest.mark.parametrize("usd", [float("nan"), float("inf"), -1.0, 10**400])
def test_an_estimate_that_makes_no_sense_holds_nothing_negative(book: SpendBook, usd: Any) -> None:
    ticket = reserve(book, usd)
    assert money(book, CLAIM)[1] >= 0
    book.release(ticket)
    assert money(book, CLAIM) == (0.0, 0.0)


def test_every_answer_of_a_list_of_models_counts_and_a_repeated_report_does_not(book: SpendBook) -> None:
    ticket = reserve(book)
    assert [book.settle(ticket, COST, answer) for answer in ("a", "b", "a", "", "b")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert money(book, CLAIM) == (2 * COST, 0.0)


def test_what_a_request_holds_itself_is_not_held_against_it(book: SpendBook) -> None:
    ticket = reserve(book, 0.9995)
    assert reserve(book, 0.9995, ticket) is ticket
    book.tick("g", CLAIM, FRONTIER)
    assert (book.tick("g", CLAIM).exhausted(), book.tick("g", CLAIM).exhausted(ticket=ticket)) == ("reject", None)
