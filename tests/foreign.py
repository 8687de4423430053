"""Foreign outcome files in the shape in which other tools write them, and what is read from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from erp_trainer.files.opening import first_bytes
from erp_trainer.outcomes.formats.base import HEAD_BYTES
from erp_trainer.outcomes.formats.registry import guessed
from erp_trainer.outcomes.importing import ImportOptions, import_outcomes
from erp_trainer.outcomes.table import OutcomesTable

FOLDER = Path(__file__).parent / "formats"
# A file of every format, by the name of the format.
SAMPLES = {
    "lm-eval": FOLDER / "lm_eval/meta-llama__Llama-3.1-8B/samples_gsm8k_2025-01-02T03-04-05.678901.jsonl",
    "inspect": FOLDER / "inspect.json",
    "promptfoo": FOLDER / "promptfoo_v3.json",
    "openai-evals": FOLDER / "openai_evals.jsonl",
    "routerbench": FOLDER / "routerbench.csv",
    "embedllm": FOLDER / "embedllm.csv",
    "alpaca-eval": FOLDER / "alpaca_eval.json",
    "battles": FOLDER / "battles.jsonl",
    "litellm": FOLDER / "litellm_spend.jsonl",
    "langfuse": FOLDER / "langfuse_traces.json",
}


def guess(path: Path) -> str | None:
    """The name of the format that a file is taken for."""
    found = guessed(path, first_bytes(path, HEAD_BYTES))
    return None if found is None else found.name


def read(*paths: Path, name: str | None = None, metric: str | None = None, model: str | None = None):
    """The outcomes of files of one format, guessed from the first where ``name`` is None, and what was left out."""
    options = ImportOptions(format=name or guess(paths[0]), metric=metric, model=model)
    imported = import_outcomes(list(paths), options)
    return imported.outcomes, imported.left_out


def cells(outcomes: OutcomesTable, quantity: str = "rewards") -> dict[tuple[str, str], float]:
    """A quantity of every outcome, by prompt and model; what is not recorded is left out."""
    values_PM = getattr(outcomes, f"{quantity}_PM")
    return {
        (outcomes.prompts[p], outcomes.models[m]): round(float(values_PM[p, m]), 9)
        for p, m in zip(*np.nonzero(outcomes.n_samples_PM), strict=True)
        if not np.isnan(values_PM[p, m])
    }
