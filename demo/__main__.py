"""``python -m demo``: fit on recorded outcomes, serve unseen prompts through a real proxy, print what was served."""

import argparse
import asyncio
import json
import signal
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from demo import prepare, table
from demo.policies import Row, rows
from demo.prepare import EXAMPLE, PROXY_CONFIG, HeldOut
from demo.proxy_process import REPOSITORY, ProxyProcess, StubProcess
from demo.sending import Served, ask_all, join, write_served
from erp_trainer.console import progress
from erp_trainer.outcomes.run import open_run
from litellm_erp.bundle.load import load_bundle
from litellm_erp.errors import ErpError, ServingError
from litellm_erp.goals import settings
from litellm_erp.goals.solve import solve

DEFAULT_OUT = REPOSITORY / "build" / "demo"
# What an earlier run may have left, and what must not be taken for this one's. Logs are appended to.
_STALE = ("summary.json", "served.jsonl", "stub.jsonl", "stub.log", "proxy.log", "proxy-no-safety.log")
_INDENT = " " * 10


@dataclass(frozen=True)
class Demo:
    """One run of the demo.

    Parameters
    ----------
    out : the folder that gets everything
    n_prompts : held-out prompts to send; all of them where None
    """

    out: Path
    n_prompts: int | None
    console: Console
    started: float = field(default_factory=time.perf_counter)

    def run(self) -> int:
        """Do it all; the exit status.

        Raises
        ------
        ErpError : something did not start, or answered what it must not
        """
        self.out.mkdir(parents=True, exist_ok=True)
        for name in _STALE:
            (self.out / name).unlink(missing_ok=True)
        data = self._fit()
        served = self._serve(data)
        write_served(served, self.out / "served.jsonl")
        failed = [request for request in served if request.error]
        strayed = [request for request in served if not request.error and not request.is_as_decided]
        found = [] if failed else rows(data, served)
        summary = {
            "policies": {row.name: row.to_json(data.outcomes.models) for row in found},
            "requests": {"sent": len(served), "failed": len(failed), "not as decided": len(strayed)},
        }
        _write_json(self.out / "summary.json", summary)
        if failed:
            raise ServingError(f"{len(failed)} of {len(served)} requests failed, the first with {failed[0].error}")
        if strayed:
            raise ServingError(
                f"{len(strayed)} of {len(served)} answers came from another model than was decided, the first from "
                f"{strayed[0].stub_model} in place of {strayed[0].header_model}"
            )
        self._show(data, served, found)
        return 0

    def _fit(self) -> HeldOut:
        source = EXAMPLE / "outcomes.parquet"
        self._say(f"erp-train import {_short(source)} --wide")
        run, bundle = self.out / "run", self.out / "bundle"
        prepare.erp_train("import", source, "--wide", "--prices", EXAMPLE / "prices.yaml", "--out", run)
        data = prepare.held_out(open_run(run), self.n_prompts)
        self._say(
            f"erp-train fit: one probe per model on {len(data.train.prompt_ids):,} train prompts → {_short(bundle)}"
        )
        prepare.erp_train("fit", run, "--out", bundle)
        verdict = load_bundle(bundle).frontier.document["verdict"]["text"]
        lines = textwrap.wrap(f"Its verdict on train: {verdict}", table.WIDTH - 2 - len(_INDENT))
        self.console.print("\n".join(_INDENT + line for line in lines))
        prepare.write_tokens(data, self.out / "tokens.jsonl")
        return data

    def _serve(self, data: HeldOut) -> list[Served]:
        models = data.outcomes.models
        with StubProcess(
            models,
            request_log=self.out / "stub.jsonl",
            recorded=self.out / "tokens.jsonl",
            log_path=self.out / "stub.log",
        ) as stub:
            self._say(f"stub upstream for {len(models)} models on {stub.base_url}")
            served = self._serve_once(data, stub.base_url, safety=True)
            if any(request.error for request in served):
                return served
            return served + self._serve_once(data, stub.base_url, safety=False)

    def _serve_once(self, data: HeldOut, stub_url: str, *, safety: bool) -> list[Served]:
        bundle = self.out / "bundle"
        (group,) = _settings().groups.values()
        frontier = load_bundle(bundle).frontier
        lambdas = {team: solve(entry.goal, frontier).lambda_ for team, entry in group.teams.items()}
        env = prepare.stub_environment(data.outcomes.models, stub_url)
        # As it stands wherever it can: the config names the default folder's bundle, with safety on.
        if not safety or bundle.resolve() != group.bundle.resolve():
            name = "safety.yaml" if safety else "no_safety.yaml"
            env[settings.SETTINGS_ENV] = str(prepare.write_settings(self.out / name, bundle, safety=safety))
        log = self.out / ("proxy.log" if safety else "proxy-no-safety.log")
        self._say(f"LiteLLM proxy from {_short(PROXY_CONFIG)}" + ("" if safety else ", again with safety off"))
        with ProxyProcess(PROXY_CONFIG, env=env, log_path=log) as proxy:
            n_requests = len(data) * len(lambdas)
            asking = " and ".join(f"{team} (λ={lambda_:g})" for team, lambda_ in lambdas.items())
            self._say(f"{n_requests:,} requests: {len(data)} unseen prompts as {asking}")
            with progress(n_requests, "asking") as advance:
                answers = asyncio.run(
                    ask_all(proxy.base_url, group.name, data.outcomes.prompts, list(lambdas), advance)
                )
        # Its log and not the stub itself, which may be what failed.
        records = [json.loads(line) for line in (self.out / "stub.jsonl").read_text(encoding="utf-8").splitlines()]
        return join(answers, records, data, lambdas, safety=safety)

    def _show(self, data: HeldOut, served: Sequence[Served], found: Sequence[Row]) -> None:
        show = self.console.print
        self._say(
            f"{len(served):,} requests served, none failed, each by the model that was decided; the servers are stopped"
        )
        show("\nThe pool, cheapest first")
        show(table.pool(data))
        show(
            f"\nServed: mean recorded reward (0 to 1) and mean cost over {len(data)} held-out prompts, "
            "and each model's share in %"
        )
        show(table.policies(data, found))
        show("Prompts and their response headers, x-erp-…")
        show("\n".join(table.examples(data, served)))
        show("\n" + "\n".join(table.conclusions(data, found)))
        show(
            f"One recorded answer per prompt and model; {data.n_repeated} test prompts that occur in train were left "
            "out. Token counts\nare the stub's: input by length, output drawn per prompt and model, since the data has "
            "none; every row pays\nfor the same ones."
        )
        names = ", ".join(("summary.json", "served.jsonl", "stub.jsonl", "bundle/", "proxy.log"))
        show(f"\nIn {_short(self.out)}: {names}   ({time.perf_counter() - self.started:.0f} s)")

    def _say(self, what: str) -> None:
        self.console.print(f"[{time.perf_counter() - self.started:5.1f} s] {what}")


def _settings() -> settings.Settings:
    found = settings.load(PROXY_CONFIG)
    if found is None:
        raise ServingError(f"{PROXY_CONFIG}: no erp_settings")
    return found


def _short(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)


def _one_line(message: str) -> str:
    """A message that quotes a log is cut to its own line and the log's first line about an error."""
    first, *quoted = message.splitlines()
    return " ".join([first, *next(([line.strip()] for line in quoted if "rror:" in line), quoted[-1:])])


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> int:
    """Run the demo; 0 done, 1 failed, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--prompts", type=int, help="how many held-out prompts to send; all by default")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder for everything it writes")
    arguments = parser.parse_args()
    if arguments.prompts is not None and arguments.prompts < 1:
        parser.error(f"--prompts: found {arguments.prompts}; expected at least 1")
    # Whoever ends the demo, its servers end with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return Demo(arguments.out, arguments.prompts, table.console()).run()
    except ErpError as error:
        print(f"error: {_one_line(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; everything it started is stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
