"""An update behind a real load balancer: a small run of ``python -m bench.rolling_restart``."""

import shutil

import pytest

from bench import rolling_restart

pytestmark = pytest.mark.proxy


def test_no_request_fails_and_no_cent_is_lost_while_both_proxies_are_replaced(tmp_path):
    if missing := [program for program in ("haproxy", "redis-server") if shutil.which(program) is None]:
        pytest.skip(f"{', '.join(missing)}: scripts/setup_debian.sh")
    found = rolling_restart.measure(tmp_path, requests=100, concurrency=3)
    assert found.failed == 0, found.statuses
    assert len(found.restarts_s) == 2
    # Requests passed while one was away, and both bundles decided, the second last.
    assert found.during > 0
    assert len(found.bundles) == 2
    assert "none" not in found.bundles
    assert found.paid_usd > 0
    assert found.budget_error < 1e-9
