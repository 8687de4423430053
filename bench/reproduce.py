"""``python -m bench.reproduce``: every table and figure, on all three example data sets, from the vendored outcomes on.

llmrouter_example comes twice, by its own split and by `import`'s, and paretobandit_k4 with the three models that its
authors publish figures of, too. LiteLLM's complexity_router is asked about the same prompts, and the last table is over
all data sets. For each: import, fit (embedding included), evaluate and report, with the commands a user has. What it
writes lies in ``build/reproduce/NAME/``: ``report.html``, ``.json``, ``.csv``, ``.png``, and the same tables as text.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.across import beside_published, over_all
from bench.complexity_router import Compared, compare
from demo.prepare import erp_train
from demo.proxy_process import REPOSITORY
from erp_trainer.outcomes.run import open_run
from erp_trainer.words import points_from_to
from litellm_erp.errors import ErpError

OWN_SPLIT, THREE = "llmrouter_own_split", "paretobandit_k3"
EXAMPLES = ("llmrouter_example", OWN_SPLIT, "routellm_mmlu_gsm8k", "paretobandit_k4", THREE)
SOURCES = {OWN_SPLIT: "llmrouter_example", THREE: "paretobandit_k4"}
# Not among the three models whose figures ParetoBandit publishes.
FOURTH = "google/gemini-2.5-flash"
DEFAULT_OUT = REPOSITORY / "build" / "reproduce"
FORMATS = ("html", "json", "csv", "png")


@dataclass(frozen=True)
class Reproduced:
    """One data set, done.

    Attributes
    ----------
    payload : of `erp-train evaluate`
    router : LiteLLM's complexity_router on the same prompts
    """

    name: str
    folder: Path
    payload: dict[str, Any]
    router: Compared
    seconds: float


def reproduce(name: str, folder: Path, n_prompts: int | None = None) -> Reproduced:
    """Do one data set.

    Parameters
    ----------
    folder : gets everything
    n_prompts : a seeded sample of so many; all where None
    """
    started = time.perf_counter()
    source = REPOSITORY / "examples" / SOURCES.get(name, name)
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = _outcomes(name, source, folder, n_prompts)
    run = folder / "run"
    priced = ("--wide", "--prices", source / "prices.yaml") if (source / "prices.yaml").exists() else ()
    erp_train("import", outcomes, *priced, "--out", run)
    erp_train("fit", run, "--out", folder / "bundle")
    outs = [argument for suffix in FORMATS for argument in ("--out", folder / f"report.{suffix}")]
    # The same prompts under another split, or fewer models, need no second study.
    everything = () if name in SOURCES else ("--studies", "--leave-one-task-out", "--price-of-adding")
    erp_train("report", run, "--bundle", folder / "bundle", *everything, *outs, "--title", name)
    payload = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    router = compare(open_run(run))
    return Reproduced(name, folder, payload, router, time.perf_counter() - started)


def main_table(payload: dict[str, Any], router: Compared) -> list[str]:
    """The main table, as Markdown: each policy once, LiteLLM's router, and the bundle at every λ that was listed."""
    best, lambda_ = f"single: {payload['verdict']['best_single']}", payload["lambda"]
    own = next(iter(payload["curves"]))
    policies = list(payload["policies"].values())
    once = {policy["curve"]: policy for policy in policies if policy["lambda"] in (None, lambda_)}
    shown = [policy for policy in once.values() if policy["kind"] != "single" or policy["label"] == best]
    shown.sort(key=lambda policy: -policy["reward"])
    shown += [policy for policy in policies if policy["curve"] == own and policy["lambda"] != lambda_]
    return [
        "| policy | mean reward | against the best single model | ERP against it | USD per 1,000 requests |",
        "|---|---|---|---|---|",
        *(_row(policy, payload, bold=policy["curve"] == own) for policy in shown),
        *(
            _line(
                [
                    f"LiteLLM complexity_router, tiers {way.name}",
                    f"{way.reward:.3f}",
                    _points(way.gain.to_json()),
                    "",
                    f"{way.cost:.3f}",
                ]
            )
            for way in router.settings
        ),
    ]


def _row(policy: dict[str, Any], payload: dict[str, Any], *, bold: bool) -> str:
    ahead = None if bold else (policy["bundle_ahead"] or {}).get("reward")
    name = policy["label"].removeprefix("single: ") + (" (bound)" if policy["kind"] == "bound" else "")
    name += "" if policy["lambda"] is None else f", λ = {policy['lambda']:.3g}"
    cost = "" if policy["cost_usd"] is None else f"{policy['cost_usd'] * payload['cost']['scale']:.3f}"
    gain = _points(policy["against_best_single"])
    cells = [name, f"{policy['reward']:.3f}", gain, _points(ahead), cost]
    return _line([f"**{cell}**" if bold and cell else cell for cell in cells])


def duels(payload: dict[str, Any]) -> list[str]:
    """The bundle's utility, reward less λ times cost, less that of every other policy over λ, as Markdown."""
    own = next(iter(payload["curves"]))
    others = {
        key: curve
        for key, curve in payload["curves"].items()
        if key != own and curve["kind"] != "bound" and curve["points"][0]["lambda"] is not None
    }
    found = {(policy["curve"], policy["lambda"]): policy["bundle_ahead"] for policy in payload["policies"].values()}
    asked = sorted(lambda_ for key, lambda_ in found if key == own)
    heads = ["ERP's utility less that of", *(f"λ = {lambda_:.3g}" for lambda_ in asked), "mean over λ"]
    rows = [
        [
            curve["label"],
            *(_points((found[key, lambda_] or {}).get("utility")) for lambda_ in asked),
            _points(curve["bundle_ahead"]),
        ]
        for key, curve in others.items()
    ]
    return [_line(heads), "|" + "---|" * len(heads), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _points(interval: dict[str, float] | None) -> str:
    """An interval in hundredths, with a second decimal where it is narrow."""
    if interval is None:
        return ""
    digits = 2 if interval["high"] - interval["low"] < 0.02 else 1
    return points_from_to(interval["mean"], interval["low"], interval["high"], digits)


def _outcomes(name: str, source: Path, folder: Path, n_prompts: int | None) -> Path:
    """The vendored outcomes, as this data set has them."""
    path = source / "outcomes.parquet"
    if n_prompts is None and name not in SOURCES:
        return path
    table = pq.read_table(path)
    if name == OWN_SPLIT:
        table = table.drop_columns(["split"])
    if name == THREE:
        table = table.filter(pc.not_equal(table["model"], FOURTH))
    if n_prompts is not None:
        kept = np.sort(np.random.default_rng(0).choice(len(table), min(n_prompts, len(table)), replace=False))
        table = table.take(kept)
    path = folder / "outcomes.parquet"
    pq.write_table(table, path)
    return path


def _show(found: Reproduced) -> None:
    from erp_trainer.report.text import report_text

    text = report_text(found.payload)
    (found.folder / "report.txt").write_text(text + "\n", encoding="utf-8")
    print(f"\n{'=' * 100}\n{found.name}\n{'=' * 100}\n{text}\n")
    print("\n".join([*main_table(found.payload, found.router), "", *duels(found.payload)]))
    if found.name == THREE:
        print("\n".join(["", *beside_published(found.payload)]))
    places = ", ".join(f"report.{suffix}" for suffix in (*FORMATS, "txt"))
    print(f"\nIn {found.folder}: {places}   ({found.seconds:.0f} s)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Reproduce; 0 done, 1 failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.reproduce", description=__doc__)
    parser.add_argument("--only", choices=EXAMPLES, action="append", help="a data set; repeatable")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder for everything it writes")
    parser.add_argument("--prompts", type=int, help="a seeded sample of so many prompts; all by default")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="data sets at a time")
    asked = parser.parse_args(arguments)
    started = time.perf_counter()
    names = asked.only or list(EXAMPLES)
    # One thread per process: with two at a time, more would only take turns.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        with ThreadPoolExecutor(max(1, asked.jobs)) as pool:
            done = []
            for found in pool.map(lambda name: reproduce(name, asked.out / name, asked.prompts), names):
                _show(found)
                done.append(found)
        # The three models are a part of the four, which are counted already.
        shown = [found for found in done if found.name != THREE]
        payloads, routers = ({f.name: getattr(f, what) for f in shown} for what in ("payload", "router"))
        if len(shown) > 1:
            print("\nOver all data sets: " + ", ".join(payloads) + "\n")
            print("\n".join(over_all(payloads, routers)))
    except ErpError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = spent.ru_utime + spent.ru_stime + time.process_time()
    print(f"\n{time.perf_counter() - started:.0f} s, {cpu:.0f} s of CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
