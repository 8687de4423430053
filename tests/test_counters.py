"""Counters that processes share: nothing is counted twice, nothing is lost that somebody remembers."""

from hypothesis import given
from hypothesis import strategies as st

from litellm_erp.budgets.counters import Counters
from litellm_erp.budgets.stores.store import MemoryStore

KEY, EXPIRES = "window|g|a|day|0", 1e12


class Store(MemoryStore):
    """One whose answers may get lost."""

    def serve(self, counters: Counters, *, answered: bool = True) -> None:
        answer = self.meet(counters.worker, counters.outgoing(0.0), {}, 0.0)
        for key, stored in answer.shares.items():
            if answered:
                counters.merge(key, stored)


def add(counters: Counters, amount: int) -> None:
    counters.add(KEY, "s", amount, expires_s=EXPIRES, now_s=0.0)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 100), st.booleans(), st.integers(0, 9)), max_size=60))
def test_every_amount_counts_once_whatever_answers_and_stores_get_lost(steps: list[tuple[int, int, bool, int]]) -> None:
    processes, store = [Counters(name) for name in "abc"], Store()
    for process in processes:
        process.watch(KEY, expires_s=EXPIRES, now_s=0.0)
    for who, amount, answered, fate in steps:
        add(processes[who], amount)
        store.serve(processes[who], answered=answered)
        if fate == 0:
            store.keys.clear()
    for _ in range(3):
        for process in processes:
            process.exchange_all()
            store.serve(process)
    total = sum(amount for _, amount, _, _ in steps)
    assert [process.total(KEY, "s") for process in processes] == [total] * 3


def test_what_a_process_that_is_gone_has_spent_stays() -> None:
    store, first = Store(), Counters("first")
    add(first, 7)
    store.serve(first)
    second = Counters("second")
    second.watch(KEY, expires_s=EXPIRES, now_s=0.0)
    store.serve(second)
    assert second.total(KEY, "s") == 7


def test_alone_the_others_are_taken_to_go_on_alike() -> None:
    store, here = Store(), Counters("here")
    add(here, 10)
    store.serve(here)
    here.processes, here.apart = 4, True
    add(here, 5)
    assert here.total(KEY, "s") == 10 + 4 * 5


def test_between_exchanges_the_others_are_expected_to_have_gone_on_alike() -> None:
    store, here = Store(), Counters("here")
    add(here, 10)
    store.serve(here)
    here.processes = 4
    add(here, 5)
    assert (here.total(KEY, "s"), here.expected(KEY, "s")) == (15, 30)
    store.serve(here)
    assert here.expected(KEY, "s") == 15


def test_keys_are_forgotten_when_their_time_has_passed() -> None:
    counters = Counters("one")
    counters.add(KEY, "s", 1, expires_s=10.0, now_s=0.0)
    # A clock may have been set forward, and be set back again.
    counters.forget_expired(11.0, 60.0)
    assert counters.total(KEY, "s") == 1
    counters.forget_expired(11.0, 86_401.0)
    assert counters.total(KEY, "s") == 0


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-50, 100), st.booleans()), max_size=60))
def test_what_is_taken_back_is_taken_back_once_and_never_below_zero(steps: list[tuple[int, int, bool]]) -> None:
    processes, store, net = [Counters(name) for name in "ab"], Store(), [0, 0]
    for who, amount, answered in steps:
        amount = max(amount, -net[who])
        net[who] += amount
        add(processes[who], amount)
        store.serve(processes[who], answered=answered)
    for _ in range(3):
        for process in processes:
            process.watch(KEY, expires_s=EXPIRES, now_s=0.0)
            process.exchange_all()
            store.serve(process)
    assert [process.total(KEY, "s") for process in processes] == [sum(net)] * 2


HOSTILE = st.one_of(
    st.integers(max_value=-1), st.integers(min_value=2**53), st.floats(), st.booleans(), st.none(), st.text(max_size=9),
    st.sampled_from(["-5", "1e5", "nan", "inf", "0x10", "1_0", "٣", " 7", "9" * 400, 10**400]),
)  # fmt: skip


@given(st.dictionaries(st.one_of(st.text(max_size=8), st.sampled_from(["x|s", "x|s-", "x|"])), HOSTILE, max_size=8))
def test_what_no_process_can_have_written_is_neither_counted_nor_written_back(stored: dict[str, object]) -> None:
    digits = {f: v for f, v in stored.items() if isinstance(v, str) and v.isascii() and v.isdigit()}
    stored = {f: v for f, v in stored.items() if f not in digits}
    here = Counters("here")
    add(here, 7)
    here.merge(KEY, {**stored, "other|s": 5, "here|s": 7})
    assert here.total(KEY, "s") == here.expected(KEY, "s") == 12
    assert here.refused == len(stored)
    # The store is emptied by hand: only what was believed is restored.
    here.merge(KEY, {})
    ((_, restored),) = here.outgoing(0.0).values()
    assert restored == {"other|s": 5, "here|s": 7}


def test_nobody_takes_back_what_another_process_has_spent() -> None:
    here = Counters("here")
    add(here, 10)
    here.merge(KEY, {"here|s": 10, "mallory|s-": 2**52, "other|s": 4})
    assert here.total(KEY, "s") == 14


def test_a_share_stops_where_a_store_can_still_compare_it() -> None:
    here = Counters("here")
    add(here, 10**400)
    assert here.total(KEY, "s") == 2**53 - 1
