"""Asks the proxy a question of questions-cpu.jsonl a second and prints who answered; for `--profile cpu`."""

import json
import os
import time
import urllib.error
import urllib.request
from itertools import cycle
from pathlib import Path

QUESTIONS = Path(__file__).with_name("questions-cpu.jsonl")
PAUSE_S = 1.0


def ask(url: str, key: str, prompt: str) -> str:
    """One request, and what its headers say of the routing."""
    body = json.dumps({"model": "erp-auto", "messages": [{"role": "user", "content": prompt}]}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", data=body, headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            found = answer.headers
    except urllib.error.HTTPError as e:
        return f"HTTP {e.code}"
    except OSError as e:
        return f"no answer: {e}"
    return f"{found.get('x-erp-model')} ({found.get('x-erp-reason')})"


def main() -> None:
    """Until it is stopped."""
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()
    for line in cycle(lines):
        asked = json.loads(line)
        said = ask(os.environ["PROXY_URL"], os.environ["LITELLM_MASTER_KEY"], asked["prompt"])
        print(f"{asked['category']}: {said}", flush=True)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
