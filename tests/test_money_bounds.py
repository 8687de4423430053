"""Neither keys nor clocks make a budget forget what was spent, and no number of keys makes memory grow for ever."""

import gc

import pytest

from litellm_erp.budgets.book import SpendBook
from litellm_erp.budgets.counters import DAY_S, Counters
from litellm_erp.budgets.totals import Served, Totals
from litellm_erp.goals.goal import Goal, Window
from litellm_erp.goals.lambda_of import RequestLambda
from litellm_erp.goals.tenant import Claim, Grant
from tests.money import HOUR_S, Clock, spend, spent
from tests.test_cost_and_budget import FRONTIER

DAILY = Goal("budget_usd", 1.0, Window("day", on_exhausted="reject"))
TEAM = Claim("team:t", DAILY)
# 200,000 keys: more than the book keeps apart, many times over.
MANY, KEPT = 200_000, 10_000


def key(number: int) -> Claim:
    return Claim(f"key:{number}", DAILY, "key", "keys of team:t")


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())


@pytest.mark.parametrize("usd", [0.0, 0.001])
def test_keys_without_end_take_bounded_memory_and_no_team_or_key_gets_its_money_back(
    book: SpendBook, usd: float
) -> None:
    spend(book, TEAM, 1.5)
    spend(book, key(0), 1.5)
    for number in range(1, KEPT + 1000):
        spend(book, key(number), usd)
    before = objects()
    for number in range(KEPT + 1000, MANY if usd else 40_000):
        spend(book, key(number), usd)
    assert objects() - before < 100
    assert len(book.counters) < 3 * KEPT
    assert (book.tick("g", TEAM).exhausted(), book.tick("g", key(0)).exhausted()) == ("reject", "reject")
    # Keys that have no room share one account, so that together they spend no more than one of them might.
    assert book.tick("g", key(MANY - 1)).exhausted() == ("reject" if usd else None)


def test_a_team_with_too_many_keys_takes_no_room_from_another(book: SpendBook) -> None:
    for number in range(KEPT + 10):
        spend(book, key(number), 0.01)
    other = Claim("key:x", DAILY, "key", "keys of team:other")
    spend(book, other, 0.3)
    assert spent(book, other) == 0.3


def test_keys_of_a_window_that_is_over_make_room(book: SpendBook, clock: Clock) -> None:
    for number in range(KEPT + 10):
        spend(book, key(number), 0.01)
    clock.wall_s += DAY_S
    clock.steady_s += DAY_S
    spend(book, key(MANY), 0.2)
    spend(book, key(MANY + 1), 0.3)
    assert (spent(book, key(MANY)), spent(book, key(MANY + 1))) == (0.2, 0.3)


def test_a_team_that_keeps_changing_its_goal_keeps_its_spend(book: SpendBook) -> None:
    spend(book, TEAM, 1.5)
    for number in range(1000):
        book.tick("g", Claim("team:t", Goal("budget_usd", 2.0 + number, DAILY.window)))
    assert book.tick("g", TEAM).exhausted() == "reject"
    assert len(book._accounts) < 20


def test_the_ledger_keeps_teams_apart_and_keys_up_to_a_number() -> None:
    totals = Totals(Counters("here"))
    totals.record("g", "team:t", Served("big-", 0.5, 1.0))
    for number in range(MANY):
        totals.record("g", f"key:{number}", Served("small", 0.001))
    view = totals.view("g", "team:t")
    assert (view.requests, view.spend_usd, view.saved, view.by_model) == (1, 0.5, 0.5, {"big-": 1})
    assert totals.view("g", "key:other").requests == MANY - KEPT
    assert len(totals.counters) < KEPT + 10
    assert totals.accounts("g") == ("team:t",)


@pytest.mark.parametrize("jump_s", [DAY_S, 3 * DAY_S, 40 * DAY_S, -DAY_S, -HOUR_S])
def test_a_clock_that_is_set_and_set_back_gives_no_money_back(book: SpendBook, clock: Clock, jump_s: float) -> None:
    spend(book, TEAM, 1.2)
    clock.wall_s += jump_s
    before = book.tick("g", TEAM).exhausted()
    if before is None:
        spend(book, TEAM, 0.3)
    book.counters.forget_expired(clock.wall_s, clock.steady_s)
    clock.wall_s -= jump_s
    assert book.tick("g", TEAM).exhausted() == "reject"
    # What was spent meanwhile under another day's name was spent today.
    assert spent(book, TEAM) == (1.5 if before is None else 1.2)


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_setting_the_clock_to_and_fro_buys_no_second_budget(book: SpendBook, clock: Clock, jump_s: float) -> None:
    for _ in range(5):
        if book.tick("g", TEAM).exhausted() is None:
            spend(book, TEAM, 0.3)
        clock.wall_s += jump_s
        if book.tick("g", TEAM).exhausted() is None:
            spend(book, TEAM, 0.3)
        clock.wall_s -= jump_s
    assert book.tick("g", TEAM).exhausted() == "reject"
    # A day of its own for either name, at the most, and one request beyond.
    assert spent(book, TEAM) <= 2 * 1.2


def test_what_was_spent_under_a_day_to_come_counts_until_that_day_is_over(book: SpendBook, clock: Clock) -> None:
    clock.wall_s += DAY_S
    spend(book, TEAM, 0.9)
    clock.wall_s -= DAY_S
    assert spent(book, TEAM) == 0.9
    for expected in (0.9, 0.0):
        clock.wall_s, clock.steady_s = clock.wall_s + DAY_S, clock.steady_s + DAY_S
        assert spent(book, TEAM) == expected


def test_a_request_under_way_while_the_clock_is_set_counts_once(book: SpendBook, clock: Clock) -> None:
    clock.wall_s += DAY_S
    ticket = book.reserve("g", Grant(TEAM), RequestLambda(0.0, TEAM), 0.5, None)
    clock.wall_s -= DAY_S
    status = book.tick("g", TEAM).status()
    assert status is not None
    assert status.reserved_usd == 0.5
    book.settle(ticket, 0.4)
    assert spent(book, TEAM) == 0.4


@pytest.mark.parametrize("both", [False, True])
def test_a_clock_set_back_an_hour_puts_no_controller_to_sleep(book: SpendBook, clock: Clock, both: bool) -> None:
    claim = Claim("team:t", Goal("budget_usd", 5.0, Window("day")))
    for _ in range(20):
        clock.wall_s, clock.steady_s = clock.wall_s + 1, clock.steady_s + 1
        book.tick("g", claim, FRONTIER)
        spend(book, claim, 0.002)
    clock.wall_s -= HOUR_S
    clock.steady_s -= HOUR_S if both else 0.0
    spend(book, claim, 5.0)
    before = book.tick("g", claim, FRONTIER).mixture
    for _ in range(30):
        clock.wall_s, clock.steady_s = clock.wall_s + 1, clock.steady_s + 1
        after = book.tick("g", claim, FRONTIER).mixture
    assert before is not None
    assert after is not None
    assert after != before


def test_a_clock_set_back_does_not_wait_longer_for_reports(book: SpendBook, clock: Clock) -> None:
    ticket = book.reserve("g", Grant(TEAM), RequestLambda(0.0, TEAM), 0.5, None)
    clock.wall_s -= 5 * HOUR_S
    clock.steady_s += 1000
    book.tick("g", TEAM)
    assert ticket.state == "expired"


def test_names_with_bars_in_them_share_no_budget(book: SpendBook) -> None:
    spend(book, Claim("team:a|day", DAILY), 0.5)
    book.charge("g|team:a", [Claim("day", DAILY)], 0.25, own=True)
    assert spent(book, Claim("team:a", DAILY)) == 0.0
    keys = [k for k, _, fields in book.counters.everything() if any(f.endswith("|s") for f in fields)]
    assert len(keys) == len(set(keys)) == 2
