"""PURE. Texts that stand where a prompt was: a log's mark for what it left out, cut, or was told to hide.

Trained on, such a text is one very frequent prompt, and its rewards are those of prompts that nobody knows.
"""

from __future__ import annotations

import re

from erp_trainer.prompts.conversation import decoded, texts

CUT = "prompts that LiteLLM's spend log cut in the middle (raise MAX_STRING_LENGTH_PROMPT_IN_DB where it is written)"
HIDDEN = "placeholders in place of a prompt (redacted, truncated, null)"

# litellm/proxy/spend_tracking/spend_tracking_utils.py; older versions write no "skipped".
_CUT = re.compile(r"\.\.\. ?\(litellm_truncated (?:skipped )?\d+ char")
# A text that is one of these and nothing else.
_BARE = frozenset(
    ("redacted", "redacted-by-litellm", "redacted by litellm", "null", "none", "nan", "n/a", "undefined", "not logged")
)
# And in brackets, where nobody asks it of a model.
_IN_BRACKETS = _BARE | frozenset(
    (
        *("content redacted", "prompt redacted", "input redacted", "redacted by user", "redacted for privacy", "na"),
        *(
            "data redacted",
            "pii redacted",
            "removed",
            "deleted",
            "masked",
            "hidden",
            "filtered",
            "omitted",
            "truncated",
        ),
        *("truncated due to size exceeding limit", "content truncated", "too long", "not available", "unavailable"),
        *("unknown", "nil", "empty", "no prompt", "no content", "missing", "object object", "content filtered"),
        *("binary data", "not recorded", "logging disabled", "content removed", "prompt", "input"),
    )
)
_FRAME = " \t\r\n\"'`[](){}<>*_-.…#"
_BRACKETS = "[(<{*_"
_REFERENCES = re.compile(r"(attachment://[0-9a-f]+|@@@langfuseMedia:[^@]*@@@|sha256:[0-9a-f]{64})")
# Of a conversation as JSON; what is longer is no placeholder.
_LONGEST = 4000


def placeholder(prompt: str) -> str | None:
    """Why a prompt is none, `CUT` or `HIDDEN`; None for a prompt.

    Parameters
    ----------
    prompt : text, or a JSON list of chat messages as a text
    """
    if _CUT.search(prompt):
        return CUT
    if len(prompt) > _LONGEST:
        return None
    conversation = decoded(prompt) if '"role"' in prompt else None
    if isinstance(conversation, list):
        asked = [t for turn in conversation if isinstance(turn, dict) and turn.get("role") == "user" for t in _of(turn)]
        return HIDDEN if asked and all(map(_stands_for_nothing, asked)) else None
    # Turns of a conversation that a log reader put together are apart by an empty line.
    turns = [turn for turn in prompt.split("\n\n") if turn.strip()]
    return HIDDEN if turns and all(map(_stands_for_nothing, turns)) else None


def _of(turn: dict[str, object]) -> list[str]:
    return texts(turn.get("content"))


def _stands_for_nothing(text: str) -> bool:
    plain = " ".join(text.strip(_FRAME).split()).casefold()
    if not plain:
        # Only brackets, dots and the like; blank text is found elsewhere.
        return len(text.strip()) > 1 or text.strip() == "…"
    words = _IN_BRACKETS if text.strip()[0] in _BRACKETS else _BARE
    return plain in words or _REFERENCES.fullmatch(text.strip()) is not None
