"""The foreign formats there are. A new one is a file beside this one and a line here."""

from __future__ import annotations

from pathlib import Path

from erp_trainer.outcomes.formats.base import Format
from erp_trainer.outcomes.formats.inspect_log import INSPECT
from erp_trainer.outcomes.formats.langfuse import LANGFUSE
from erp_trainer.outcomes.formats.litellm_log import LITELLM
from erp_trainer.outcomes.formats.lm_eval import LM_EVAL
from erp_trainer.outcomes.formats.openai_evals import OPENAI_EVALS
from erp_trainer.outcomes.formats.pairwise import ALPACA_EVAL, BATTLES
from erp_trainer.outcomes.formats.promptfoo import PROMPTFOO
from erp_trainer.outcomes.formats.routing_benchmarks import EMBEDLLM, ROUTERBENCH

FORMATS: tuple[Format, ...] = (
    LM_EVAL,
    INSPECT,
    PROMPTFOO,
    OPENAI_EVALS,
    ROUTERBENCH,
    EMBEDLLM,
    ALPACA_EVAL,
    BATTLES,
    LITELLM,
    LANGFUSE,
)


def guessed(path: Path, head: bytes) -> Format | None:
    """The format that a file is certainly of; None for a plain table."""
    return next((format_ for format_ in FORMATS if format_.matches(path, head)), None)
