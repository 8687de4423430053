"""The pacing controller and its windows: laws, and a day that is known in advance."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_erp.budgets.forecast import History, ahead, forecast
from litellm_erp.budgets.pacing import (
    Outlook,
    Pace,
    Range,
    Seen,
    per_request,
    per_request_ignoring,
    per_request_of_mean,
    start,
    step,
)
from litellm_erp.goals.windows import span

RANGE = Range(1e-5, 1e-3)
MONEY = st.floats(0.0, 100.0)
MOMENTS = st.floats(1.7e9, 1.9e9)


def target(budget: float, seen: Seen, outlook: Outlook, pace: Pace, after_s: float) -> float:
    return step(pace, per_request(budget, seen, outlook), seen, RANGE, pace.at_s + after_s).target_usd


@given(MONEY, MONEY, st.floats(0, 50), st.floats(0, 1e5), st.floats(0, 1e4), st.floats(0, 100))
def test_more_budget_never_raises_lambda(
    a: float, b: float, spent: float, coming: float, observed: float, after_s: float
) -> None:
    seen, outlook = Seen(spent_usd=spent, requests=100), Outlook(coming, observed, 1e-4)
    pace = start(RANGE, Seen(), 0.0)
    less, more = (target(budget, seen, outlook, pace, after_s) for budget in sorted((a, b)))
    # A frontier's λ falls with the cost that may be spent.
    assert less <= more * (1 + 1e-12)


@given(MONEY, st.floats(0, 50), st.floats(0, 1e5), st.floats(0, 1e5))
def test_a_step_is_bounded(budget: float, spent: float, coming: float, after_s: float) -> None:
    pace = start(RANGE, Seen(), 0.0)
    now = target(budget, Seen(spent_usd=spent, requests=10), Outlook(coming, 1e6, 1e-4), pace, after_s)
    assert pace.target_usd / 4.0001 <= now <= pace.target_usd * 2.0001
    assert RANGE.cheapest_usd <= now <= RANGE.dearest_usd


@given(st.floats(1e-5, 1e-3), st.floats(0, 1e6), st.floats(0, 1e4))
def test_a_mean_that_was_overspent_lowers_what_comes_next(mean: float, requests: float, spent: float) -> None:
    allowed = per_request_of_mean(mean, Seen(spent_usd=spent, requests=requests))
    assert (allowed <= mean) == (spent >= mean * requests) or np.isclose(allowed, mean)
    assert 0 < allowed <= 4.0001 * mean


def test_prices_that_double_are_learned_from_spend() -> None:
    pace, seen = start(RANGE, Seen(), 0.0), Seen()
    for i in range(1, 60):
        seen = Seen(paced_usd=2 * i * 10 * pace.target_usd, planned_usd=i * 10 * pace.target_usd)
        pace = step(pace, 2e-4, seen, RANGE, 10.0 * i)
    assert pace.bias == pytest.approx(2.0, rel=0.05)
    assert pace.target_usd == pytest.approx(1e-4, rel=0.05)


@given(st.sampled_from(["hour", "day", "week", "month"]), MOMENTS)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "America/Santiago"])
def test_windows_hold_their_moment_and_tile_time(zone: str, per: str, now: float) -> None:
    window = span(per, zone, now)  # type: ignore[arg-type]
    assert window.start_s <= now < window.end_s
    assert span(per, zone, window.end_s).start_s == window.end_s  # type: ignore[arg-type]


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
def test_a_day_ends_at_local_midnight_when_the_clocks_change(day: str, hours: int) -> None:
    noon = datetime.fromisoformat(day).replace(hour=12, tzinfo=ZoneInfo("Europe/Berlin"))
    window = span("day", "Europe/Berlin", noon.timestamp())
    assert window.end_s - window.start_s == hours * 3600
    assert datetime.fromtimestamp(window.start_s, noon.tzinfo) == noon - timedelta(hours=12)


def _daily(weeks: int, hour: int) -> History:
    shape = 100 + 80 * np.sin(np.arange(24) / 24 * 2 * np.pi)
    return History.from_hours({h: float(shape[h % 24]) for h in range(hour - weeks * 168, hour)}, hour)


@pytest.mark.parametrize("level", [1.0, 10.0])
def test_a_known_day_is_forecast_and_ten_times_of_it_too(level: float) -> None:
    hour = 24 * 20000 + 12
    counts = _daily(2, hour).counts_H.copy()
    counts[-4:] *= level
    history = History(hour, counts, 2 * 168)
    rest = sum(100 + 80 * np.sin(h / 24 * 2 * np.pi) for h in range(12, 24))
    found = forecast(ahead(history, (hour + 12) * 3600.0), 0.0, level * 100 / 3600, hour * 3600.0)
    assert found.requests == pytest.approx(level * rest, rel=0.25 if level == 1 else 0.6)


def test_a_quiet_night_does_not_make_the_morning_quiet() -> None:
    hour = 24 * 20000 + 7
    busy = {h: 100.0 for h in range(hour - 14 * 24, hour) if 7 <= h % 24 < 20}
    found = forecast(ahead(History.from_hours(busy, hour), (hour + 17) * 3600.0), 0.0, 0.0, hour * 3600.0)
    assert found.requests == pytest.approx(1300, rel=0.1)


@given(
    st.dictionaries(st.integers(-800, 0), st.floats(0, 1e6), max_size=60),
    st.floats(0, 800),
    st.floats(-2, 30),
    st.floats(0, 1e4),
    st.floats(0, 1e3),
)
def test_whatever_came_what_is_to_come_is_a_number_of_requests(
    counts: dict[int, float], length_h: float, at_h: float, current: float, rate: float
) -> None:
    hour = 24 * 20000
    history = History.from_hours({hour + h: n for h, n in counts.items()}, hour)
    found = forecast(ahead(history, (hour + length_h) * 3600.0), current, rate, (hour + at_h) * 3600.0)
    assert 0 <= found.requests < np.inf
    assert 0 <= found.surge < np.inf


def test_surges_that_came_before_are_reckoned_with_and_less_as_a_window_ends() -> None:
    hour = 24 * 20000
    calm = dict.fromkeys(range(hour - 28 * 24, hour), 100.0)
    surges = dict.fromkeys(range(hour - 28 * 24 + 14, hour, 48), 500.0)
    end_s = (hour + 24) * 3600.0

    def surge(counts: dict[int, float], at_s: float) -> float:
        now_hour = int(at_s // 3600)
        history = History.from_hours({h + now_hour - hour: n for h, n in counts.items()}, now_hour)
        return forecast(ahead(history, end_s), 100.0 * (at_s % 3600) / 3600, 100 / 3600, at_s).surge

    expected = surge(calm | surges, hour * 3600.0)
    assert 400 < expected < 800
    assert surge(calm, hour * 3600.0) < 0.5 * expected
    assert 0 < surge(calm | surges, end_s - 600) < 0.3 * expected
    assert surge(calm | surges, end_s) == 0


def test_money_for_a_surge_is_kept_and_a_budget_that_is_ignored_keeps_none() -> None:
    seen, calm = Seen(spent_usd=1.0, requests=100), Outlook(1000.0, 1e6, 1e-4)
    surge = Outlook(1000.0, 1e6, 1e-4, surge_usd=0.5)
    assert per_request(2.0, seen, surge) < per_request(2.0, seen, calm)
    assert per_request(2.0, seen, Outlook(1000.0, 1e6, 1e-4, surge_usd=5.0)) == 0
    assert per_request_ignoring(2.0, seen, surge) == per_request_ignoring(2.0, seen, calm)
