"""What the comparison prints."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from bench.differential.comparing import Result
from bench.differential.servers import BARE, PLUGIN


def table(results: Sequence[Result]) -> Iterator[str]:
    """One line a route, and the sum of them."""
    yield "route                    pairs   200s  failing  bare differ  plugin: noise  served  kind  status  wrong"
    routes = sorted({result.sent.route for result in results})
    for route in [*routes, "all"]:
        of = [result for result in results if route in ("all", result.sent.route)]
        counts = Counter(result.verdict for result in of)
        fine = sum(result.answers[PLUGIN].outcome.status == 200 for result in of)
        wrong = sum(bool(result.answers[PLUGIN].mismatch) for result in of)
        failing, noisy = sum(bool(r.failing) for r in of), sum(r.noisy for r in of)
        yield (
            f"{route:<24} {len(of):5}  {fine:5}  {failing:7}  {noisy:11}  {counts['noise']:13}  "
            f"{counts['served']:6}  {counts['kind']:4}  {counts['status']:6}  {wrong:5}"
        )


def findings(results: Sequence[Result]) -> Iterator[str]:
    """What to look at, a few lines each."""
    for result in results:
        ours = result.answers[PLUGIN]
        if result.is_fault or result.verdict == "served":
            sent = result.sent
            tried = ", ".join(f"{outcome} x{count}" for outcome, count in result.tried.items())
            failing = result.failing or "nothing"
            yield f"\n{sent.number}: {result.verdict} {ours.mismatch} | {sent.path} {sent.key} failing: {failing}"
            yield f"  plugin: {ours.outcome} {ours.erp}; bare: {tried}"
            yield f"  headers {dict(sent.headers)} body {sent.body[:600]!r}"
            yield f"  plugin said {ours.said[:300]!r}; bare said {result.answers[BARE].said[:300]!r}"


def frames(log: str) -> int:
    """How many frames of ours stand in tracebacks of a proxy's log."""
    return len(re.findall(r'File "[^"]*/litellm_erp/', log))
