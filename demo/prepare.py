"""IO. What the demo needs before it can ask anything: a run, a bundle, the held-out prompts, settings.

Invariant: how long each model's answer to each prompt is, is drawn once, written to ``tokens.jsonl``, and read
from there by the stub; so a policy that was served and one that was only computed pay for the same tokens.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml

from demo.proxy_process import REPOSITORY
from demo.stub.counting import count_tokens, draw_completion_tokens
from erp_trainer.outcomes.run import Run
from erp_trainer.outcomes.table import OutcomesTable
from litellm_erp.choice.cost import PriceTable
from litellm_erp.errors import ServingError, SettingsError

EXAMPLE = REPOSITORY / "examples" / "llmrouter_example"
PROXY_CONFIG = REPOSITORY / "proxy_config.yaml"

_ERP_TRAIN = "from erp_trainer.cli import main; main()"


@dataclass(frozen=True, eq=False)
class HeldOut:
    """P test prompts whose text does not occur in the train split, and what M models would earn and cost on them.

    Attributes
    ----------
    outcomes : of these prompts; models sorted by name
    train : outcomes of the train split
    groups_P : shape (P,), int; duplicate prompts share a number
    input_tokens_P, output_tokens_PM : shape (P,) and (P, M), as the stub reports them
    prices : of the M models
    n_unseen : test prompts whose text does not occur in train, of which these are a part
    """

    outcomes: OutcomesTable
    train: OutcomesTable
    groups_P: np.ndarray
    input_tokens_P: np.ndarray
    output_tokens_PM: np.ndarray
    prices: PriceTable
    n_unseen: int

    def __len__(self) -> int:
        return len(self.outcomes.prompt_ids)

    @cached_property
    def cost_PM(self) -> np.ndarray:
        """Cost of every answer, shape (P, M), USD."""
        return self.prices.expected_cost(self.input_tokens_P[:, None], self.output_tokens_PM)


def erp_train(*arguments: object) -> dict[str, Any]:
    """Run ``erp-train … --json`` as a user would, in a process of its own, and return what it reports.

    Raises
    ------
    ServingError : it failed; the message is its last line
    """
    command = [sys.executable, "-c", _ERP_TRAIN, *map(str, arguments), "--json"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["nothing was printed"])[-1]
        raise ServingError(f"erp-train {arguments[0]} ended with status {done.returncode}: {said}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def without_split(source: Path, target: Path) -> Path:
    """The same outcomes without the split they came with, so that `erp-train import` assigns its own."""
    pq.write_table(pq.read_table(source).drop_columns(["split"]), target)
    return target


def held_out(run: Run, n_prompts: int | None) -> HeldOut:
    """Held-out prompts of a run, all of them or a seeded sample."""
    outcomes = run.outcomes()
    groups = outcomes.duplicate_groups()
    train, test = (np.array([split == name for split in outcomes.splits]) for name in ("train", "test"))
    unseen = test & ~np.isin(groups, groups[train])
    n_unseen = int(unseen.sum())
    if n_prompts is not None and n_prompts < unseen.sum():
        kept = np.random.default_rng(0).choice(np.flatnonzero(unseen), n_prompts, replace=False)
        unseen = np.isin(np.arange(len(groups)), kept)
    chosen = outcomes.subset(unseen)
    prices = run.prices()
    return HeldOut(
        outcomes=chosen,
        train=outcomes.subset(train),
        groups_P=groups[unseen],
        input_tokens_P=np.array([count_tokens(prompt) for prompt in chosen.prompts]),
        output_tokens_PM=np.array([[draw_completion_tokens(p, m) for m in chosen.models] for p in chosen.prompts]),
        prices=PriceTable.from_prices([prices[model] for model in chosen.models]),
        n_unseen=n_unseen,
    )


def write_tokens(data: HeldOut, path: Path) -> None:
    """Write the token table as the stub reads it: one line per (prompt, model)."""
    with path.open("w", encoding="utf-8") as file:
        for prompt, tokens_M in zip(data.outcomes.prompts, data.output_tokens_PM.tolist(), strict=True):
            for model, tokens in zip(data.outcomes.models, tokens_M, strict=True):
                row = {"prompt": prompt, "model": model, "output_tokens": tokens}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_settings(path: Path, bundle: Path, *, safety: bool) -> Path:
    """Write the proxy config's ``erp_settings`` with this bundle and this ``safety`` in every group."""
    settings = read_config()["erp_settings"]
    for group in settings["groups"].values():
        group |= {"bundle": str(bundle.resolve()), "safety": safety}
    path.write_text(yaml.safe_dump({"erp_settings": settings}, sort_keys=False), encoding="utf-8")
    return path


def read_config() -> dict[str, Any]:
    """``proxy_config.yaml`` as it stands."""
    config: dict[str, Any] = yaml.safe_load(PROXY_CONFIG.read_text(encoding="utf-8"))
    return config


def stub_environment(models: Sequence[str], base_url: str) -> dict[str, str]:
    """The variables that ``proxy_config.yaml`` reads its addresses from, pointed at the stub.

    Raises
    ------
    SettingsError : the config and the data are not about the same models
    """
    bases = {entry["model_name"]: entry["litellm_params"]["api_base"] for entry in read_config()["model_list"]}
    if set(bases) != set(models):
        raise SettingsError(f"{PROXY_CONFIG}: serves {', '.join(sorted(bases))}; the data is about {', '.join(models)}")
    addresses = {base.removeprefix("os.environ/"): f"{base_url}/{model}/v1" for model, base in bases.items()}
    return addresses | {"POOL_API_KEY": "none"}
