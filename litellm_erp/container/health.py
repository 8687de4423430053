"""``python -m litellm_erp.container.health [URL]``: exit 0 where the proxy routes, 1 and one line where not.

An image's HEALTHCHECK. The URL is ``ERP_HEALTH_URL``, else ``/erp/health`` on this machine's ``PORT`` (4000).
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request

_TIMEOUT_S = 5.0
_MOST_BYTES = 65_536


def health(url: str) -> tuple[bool, str]:
    """Whether the proxy at a URL routes, and what it says of itself in one line."""
    # Without the environment's HTTP proxy, which would ask another machine for this one's health.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_TIMEOUT_S) as answer:
            return True, _said(answer.read(_MOST_BYTES))
    except urllib.error.HTTPError as e:
        return False, f"HTTP {e.code}: {_said(e.read(_MOST_BYTES))}"
    except (OSError, ValueError) as e:
        return False, f"no answer from {url}: {e}"


def _said(body: bytes) -> str:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if isinstance(found, dict) and "status" in found:
        return f"{found['status']}: {found['why']}" if "why" in found else str(found["status"])
    return "an answer that is not this plugin's; is litellm_erp.proxy.erp_router among the callbacks?"


def main() -> None:
    """Ask, say, exit."""
    default = f"http://127.0.0.1:{os.environ.get('PORT', '4000')}/erp/health"
    url = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("ERP_HEALTH_URL", default)
    healthy, said = health(url)
    print(said)
    sys.exit(0 if healthy else 1)


if __name__ == "__main__":
    main()
