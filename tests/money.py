"""A clock that tests set, and what every test of budgets does with a book."""

from litellm_erp.budgets.book import SpendBook
from litellm_erp.budgets.counters import DAY_S
from litellm_erp.goals.lambda_of import RequestLambda
from litellm_erp.goals.tenant import Claim, Grant

HOUR_S = 3600.0


class Clock:
    """The wall clock, at noon of a day, and one that nobody sets."""

    def __init__(self) -> None:
        self.wall_s, self.steady_s = 20_000 * DAY_S + 12 * HOUR_S, 100.0

    def pass_(self, seconds: float) -> None:
        self.wall_s += seconds
        self.steady_s += seconds


def spend(book: SpendBook, claim: Claim, usd: float) -> None:
    book.settle(book.reserve("g", Grant(claim), RequestLambda(0.0, claim), usd, None), usd)


def money(book: SpendBook, claim: Claim) -> tuple[float, float]:
    """What was spent, and what is held back, USD."""
    status = book.tick("g", claim).status()
    assert status is not None
    return round(status.spent_usd, 9), round(status.reserved_usd, 9)


def spent(book: SpendBook, claim: Claim) -> float:
    return money(book, claim)[0]
