"""PURE. What other people call the columns of the outcomes table."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping

# Suggested where a column is missing, the likeliest first; never taken unasked, because a wrong reward is no error.
_ALSO_CALLED = {
    "prompt_id": "id question_id sample_id query_id doc_id uid uuid hash index idx key",
    "prompt": "question query input instruction text messages user_prompt problem request prompt_text content",
    "model": "model_name model_id llm llm_name deployment system generator engine candidate provider",
    "reward": "score rating accuracy correct is_correct acc performance quality value label grade pass passed success "
    "exact_match effectiveness metric",
    "category": "task task_name dataset subject topic domain benchmark eval_name task_id",
    "output_tokens": "completion_tokens tokens_out num_output_tokens response_tokens token_num",
    "input_tokens": "prompt_tokens tokens_in num_input_tokens",
    "cost_usd": "cost price usd total_cost spend",
    "sample": "sample_idx run trial attempt repeat epoch",
}


def canonical(name: str) -> str:
    """A column's name as it is compared: ``Prompt ID`` and ``prompt-id`` are ``prompt_id``."""
    return "_".join(name.strip().strip("\ufeff\"'").casefold().replace("-", " ").replace("_", " ").split())


def renaming(roles: Mapping[str, str], known: Collection[str]) -> Callable[[str], str | None]:
    """What a file calls a column to its name here; None for one whose place another column was given.

    Parameters
    ----------
    roles : name here to the file's own name, as the user stated them
    known : the names of the contract, which are found in any case and with spaces
    """
    exact = {source: role for role, source in roles.items()}
    loose = {canonical(source): role for role, source in roles.items()}

    def rename(found: str) -> str | None:
        plain = canonical(found)
        role = exact.get(found) or loose.get(plain)
        if role is not None:
            return role
        if plain in known:
            return None if plain in roles else plain
        return found.strip()

    return rename


def suggested(missing: Iterable[str], found: Collection[str]) -> str:
    """What to try where columns are missing, as flags; "" where nothing resembles them."""
    # What is inside a record goes by its last key too.
    plain = {canonical(name.rpartition(".")[2]): name for name in found} | {canonical(name): name for name in found}
    flags = []
    for name in missing:
        also = [each for each in _ALSO_CALLED.get(name, "").split() if each in plain]
        near = also or difflib.get_close_matches(name, list(plain)[:2000], n=1, cutoff=0.7)
        near = near or [each for each in list(plain)[:2000] if name in each.split("_")][:1]
        if near:
            flags.append(f"--column {name}={_quoted(plain[near[0]])}")
    return " ".join(flags)


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.]+", name) else f"'{name}'"
