"""What the stub reads in a request: its text, its tokens, and how many answers of which length it asks for.

Prompt tokens are ``ceil(characters / 4)`` of the text sent. Completion tokens are the recorded ones where given, else
drawn from a hash of (prompt, model); ``max_tokens`` caps both.
"""

import hashlib
import math
from typing import Any

MIN_COMPLETION_TOKENS, MAX_COMPLETION_TOKENS = 64, 448
# As OpenAI's.
MOST_CHOICES = 128
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def prompt_text(body: dict[str, Any]) -> str:
    """All the text a request sends: instructions, messages, ``input`` or ``prompt``."""
    sent = [body.get(key) for key in ("instructions", "messages", "input", "prompt")]
    return "\n".join(text for part in sent if part for text in _texts(part))


def _texts(part: Any) -> list[str]:
    """The strings in a message list, a content list or a plain string, depth first."""
    if isinstance(part, str):
        return [part]
    if isinstance(part, list):
        return [text for item in part for text in _texts(item)]
    if isinstance(part, dict):
        return _texts(part.get("text") or part.get("content") or [])
    return []


def count_tokens(text: str) -> int:
    """The stub's tokenizer."""
    return math.ceil(len(text) / 4)


def stated_tokens(prompt: object) -> int:
    """Tokens that a prompt states by number."""
    if not isinstance(prompt, list):
        return 0
    return sum(1 if isinstance(item, int) else stated_tokens(item) for item in prompt)


def draw_completion_tokens(prompt: str, model: str) -> int:
    """How long a model's answer to a prompt is: uniform over 64..448, the same on every call."""
    digest = hashlib.sha256(f"0\0{model}\0{prompt}".encode(errors="replace")).digest()
    span = MAX_COMPLETION_TOKENS - MIN_COMPLETION_TOKENS + 1
    return MIN_COMPLETION_TOKENS + int.from_bytes(digest[:8], "big") % span


def capped(tokens: int, body: dict[str, Any]) -> int:
    """So many tokens, or the request's limit."""
    limits = (body.get(key) for key in _LIMITS)
    return min([tokens, *(limit for limit in limits if type(limit) is int and limit > 0)])


def choices(value: object) -> int:
    """A number of answers as lenient servers read it, ``"3"`` and 3.0 too; 1 where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return 1
    try:
        return max(1, min(int(value), MOST_CHOICES + 1))
    except (ValueError, OverflowError):
        return 1


def prompts(body: dict[str, Any]) -> int:
    """Prompts of a request: /completions takes lists of texts, or of lists of tokens."""
    prompt = body.get("prompt")
    listed = [item for item in prompt if isinstance(item, (str, list))] if isinstance(prompt, list) else []
    return max(1, len(listed))
