"""open-perfectblend: the prompts of arXiv 2603.20217, in its four categories."""

from __future__ import annotations

import numpy as np

from erp_trainer.prompts.conversation import first_user_turn
from erp_trainer.prompts.hub_dataset import load_dataset, require_in_dataset
from erp_trainer.prompts.prompt_set import Prompt, prompt_id_of
from erp_trainer.prompts.source import SourceSpec

DATASET = "mlabonne/open-perfectblend"

# The data set's `source` column, without the organisation, to the four categories of arXiv 2603.20217, section 2.3.
CATEGORIES: dict[str, tuple[str, ...]] = {
    "chat": ("ultrachat_200k", "lmsys-arena-human-preference-55k-sharegpt", "ultrafeedback_binarized"),
    "instruction following": ("AutoIF-instruct-61k",),
    "math": ("MetaMathQA", "orca-math-word-problems-200k", "UltraInteract_sft"),
    "code": ("evol-codealpaca-v1", "UltraInteract_sft"),
}
# open-perfectblend has the columns `conversations` and `source` only: UltraInteract_sft's `task` (Coding, Math_CoT,
# Math_PoT, Logic) is gone. Its instructions open with fixed words per task, which tell its rows apart: both math tasks
# hold the first text below, coding tasks start with the second, and what has neither (logic) belongs to no category.
_MATH_WORDS = "Solve the following math problem step-by-step"
_CODE_WORDS = "Write Python code to solve the task"


def category_of(source: str, text: str, task: str | None = None) -> str | None:
    """Category of an open-perfectblend row; None where it belongs to none.

    Parameters
    ----------
    source : the row's ``source``, with or without the organisation
    text : its first user turn
    task : UltraInteract's own task name, where a copy of the data set kept it
    """
    name = source.rpartition("/")[2]
    found = [category for category, sources in CATEGORIES.items() if name in sources]
    if len(found) < 2:
        return found[0] if found else None
    if task is not None:
        return "code" if task == "Coding" else "math" if task.startswith("Math") else None
    if _MATH_WORDS in text:
        return "math"
    return "code" if text.lstrip().startswith(_CODE_WORDS) else None


def draw(spec: SourceSpec, counts: dict[str, int], rng: np.random.Generator) -> list[Prompt]:
    """Draw rows of each category at random until it has enough different prompts."""
    table = load_dataset(spec)
    require_in_dataset(table, ("conversations", "source"), spec)
    has_task = "task" in table.column_names
    sources = np.array([str(name).rpartition("/")[2] for name in table["source"]])
    counts["rows"] = len(sources)
    prompts: list[Prompt] = []
    seen: set[str] = set()
    neither: set[int] = set()
    for category, names in CATEGORIES.items():
        taken = 0
        for index in rng.permutation(np.flatnonzero(np.isin(sources, names))).tolist():
            if taken == spec.per_category:
                break
            row = table[index]
            text = first_user_turn(row["conversations"])
            if text is None:
                counts["without_text"] += 1
                continue
            found = category_of(sources[index], text, row["task"] if has_task else None)
            if found != category:
                # A mixed source: the row is another category's, or none's.
                neither.update([index] if found is None else [])
                continue
            same = " ".join(text.split()).casefold()
            if same in seen:
                counts["repeated"] += 1
                continue
            seen.add(same)
            prompts.append(Prompt(prompt_id_of(text), text, category, "", tags=(sources[index],)))
            taken += 1
    counts["uncategorised"] = len(neither)
    return prompts
