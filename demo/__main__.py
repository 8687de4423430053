"""``python -m demo``: fit on recorded outcomes, serve unseen prompts through a real proxy, print what was served."""

import argparse
import asyncio
import json
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo import prepare, table
from demo.policies import Row, rows
from demo.prepare import EXAMPLE, PROXY_CONFIG, HeldOut
from demo.proxy_process import REPOSITORY, ProxyProcess, StubProcess
from demo.sending import Served, ask_all, join, write_served
from demo.terminal import INDENT, WIDTH, Terminal, run_command, short, write_json
from erp_trainer.console import progress
from erp_trainer.outcomes.run import open_run
from litellm_erp.bundle.load import load_bundle
from litellm_erp.errors import ServingError
from litellm_erp.goals import settings
from litellm_erp.goals.solve import solve

# What an earlier run may have left, and what must not be taken for this one's. Logs are appended to.
_STALE = ("summary.json", "served.jsonl", "stub.jsonl", "stub.log", "proxy.log", "proxy-no-safety.log")


@dataclass(frozen=True)
class Demo:
    """One run of the demo.

    Parameters
    ----------
    out : the folder that gets everything
    n_prompts : held-out prompts to send
    """

    out: Path
    n_prompts: int
    terminal: Terminal

    def run(self) -> None:
        """Do it all.

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
        write_json(self.out / "summary.json", summary)
        if failed:
            raise ServingError(f"{len(failed)} of {len(served)} requests failed, the first with {failed[0].error}")
        if strayed:
            raise ServingError(
                f"{len(strayed)} of {len(served)} answers came from another model than was decided, the first from "
                f"{strayed[0].stub_model} in place of {strayed[0].header_model}"
            )
        self._show(data, served, found)

    def serve(self, config: Path) -> None:
        """Keep a proxy of a config up, in front of the stub upstreams, until it is interrupted.

        Raises
        ------
        ErpError : something did not start, or ended
        """
        self.out.mkdir(parents=True, exist_ok=True)
        if not (self.out / "bundle").exists():
            self._fit()
        models = prepare.held_out(open_run(self.out / "run"), self.n_prompts).outcomes.models
        recorded, logs = self.out / "tokens.jsonl", [self.out / "stub.log", self.out / "proxy.log"]
        for log in logs:
            log.unlink(missing_ok=True)
        with StubProcess(models, recorded=recorded, log_path=logs[0]) as stub:
            self.terminal.say(f"stub upstream for {len(models)} models on {stub.base_url}")
            env = prepare.stub_environment(models, stub.base_url)
            if config == PROXY_CONFIG:
                env |= self._settings(safety=True)
            with ProxyProcess(config, env=env, log_path=logs[1]) as proxy:
                self.terminal.say(f"LiteLLM proxy from {short(config)} on {proxy.base_url}; Ctrl-C ends it")
                self.terminal.show(
                    "\nKeys: sk-research and sk-support of two teams, sk-admin of an admin. Console: "
                    f"{proxy.base_url}/erp\n\n"
                    f"curl -i {proxy.base_url}/v1/chat/completions -H 'Authorization: Bearer sk-research' \\\n"
                    "  -H 'Content-Type: application/json' \\\n"
                    """  -d '{"model": "erp-auto", "messages": [{"role": "user", "content": "hello"}]}'\n"""
                    f"curl {proxy.base_url}/erp/teams -H 'Authorization: Bearer sk-admin'\n\n"
                    f"Its log: {short(logs[1])}. To try settings, copy {short(PROXY_CONFIG)} beside itself and name it."
                )
                while proxy.returncode is None:
                    time.sleep(0.5)
        raise ServingError(f"the proxy ended; see {short(logs[1])}")

    def _fit(self) -> HeldOut:
        source = prepare.without_split(EXAMPLE / "outcomes.parquet", self.out / "outcomes.parquet")
        self.terminal.say(f"erp-train import {short(source)} --wide: a split of its own, half train and half test")
        run, bundle = self.out / "run", self.out / "bundle"
        prepare.erp_train("import", source, "--wide", "--prices", EXAMPLE / "prices.yaml", "--out", run)
        data = prepare.held_out(open_run(run), self.n_prompts)
        self.terminal.say(
            f"erp-train fit: what each model earns, from {len(data.train.prompt_ids):,} train prompts → {short(bundle)}"
        )
        prepare.erp_train("fit", run, "--out", bundle)
        verdict = load_bundle(bundle).frontier.document["verdict"]["text"]
        lines = textwrap.wrap(f"Its verdict on train: {verdict}", WIDTH - 2 - len(INDENT))
        self.terminal.show("\n".join(INDENT + line for line in lines))
        prepare.write_tokens(data, self.out / "tokens.jsonl")
        return data

    def _serve(self, data: HeldOut) -> list[Served]:
        models = data.outcomes.models
        log, recorded = self.out / "stub.jsonl", self.out / "tokens.jsonl"
        with StubProcess(models, request_log=log, recorded=recorded, log_path=self.out / "stub.log") as stub:
            self.terminal.say(f"stub upstream for {len(models)} models on {stub.base_url}")
            served = self._serve_once(data, stub.base_url, safety=True)
            if any(request.error for request in served):
                return served
            return served + self._serve_once(data, stub.base_url, safety=False)

    def _serve_once(self, data: HeldOut, stub_url: str, *, safety: bool) -> list[Served]:
        bundle = self.out / "bundle"
        configured = settings.load_settings(PROXY_CONFIG)
        if configured is None:
            raise ServingError(f"{PROXY_CONFIG}: no erp_settings")
        (group,) = configured.groups.values()
        frontier = load_bundle(bundle).frontier
        lambdas = {team: solve(entry.goal, frontier).lambda_ for team, entry in group.teams.items()}
        env = prepare.stub_environment(data.outcomes.models, stub_url)
        env |= self._settings(safety=safety)
        log = self.out / ("proxy.log" if safety else "proxy-no-safety.log")
        self.terminal.say(f"LiteLLM proxy from {short(PROXY_CONFIG)}" + ("" if safety else ", again with safety off"))
        with ProxyProcess(PROXY_CONFIG, env=env, log_path=log) as proxy:
            n_requests = len(data) * len(lambdas)
            asking = " and ".join(f"{team} (λ={lambda_:.3g})" for team, lambda_ in lambdas.items())
            self.terminal.say(f"{n_requests:,} requests: {len(data)} unseen prompts as {asking}")
            with progress(n_requests, "asking") as advance:
                answers = asyncio.run(
                    ask_all(proxy.base_url, group.name, data.outcomes.prompts, list(lambdas), advance)
                )
        # Its log and not the stub itself, which may be what failed.
        records = [json.loads(line) for line in (self.out / "stub.jsonl").read_text(encoding="utf-8").splitlines()]
        return join(answers, records, data, lambdas, safety=safety)

    def _settings(self, *, safety: bool) -> dict[str, str]:
        """What has a proxy of the config use this folder's bundle; nothing where it names that one."""
        bundle, configured = self.out / "bundle", settings.load_settings(PROXY_CONFIG)
        named = [] if configured is None else [group.bundle.resolve() for group in configured.groups.values()]
        if safety and named == [bundle.resolve()]:
            return {}
        name = "safety.yaml" if safety else "no_safety.yaml"
        return {settings.SETTINGS_ENV: str(prepare.write_settings(self.out / name, bundle, safety=safety))}

    def _show(self, data: HeldOut, served: Sequence[Served], found: Sequence[Row]) -> None:
        show = self.terminal.show
        self.terminal.say(
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
            f"Points are hundredths of a reward. One recorded answer per prompt and model; {len(data)} of the "
            f"{data.n_unseen:,} test prompts\nwere sent. Token counts are the stub's: input by length, output drawn "
            "per prompt and model, since the data has\nnone; every row pays for the same ones."
        )
        names = ", ".join(("summary.json", "served.jsonl", "stub.jsonl", "bundle/", "proxy.log"))
        show(f"\nIn {short(self.out)}: {names}   ({self.terminal.elapsed_s:.0f} s)")


def main() -> int:
    """Run the demo; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--prompts", type=count, default=500, help="how many held-out prompts to send (500)")
    parser.add_argument(
        "--serve",
        nargs="?",
        type=Path,
        const=PROXY_CONFIG,
        metavar="CONFIG",
        help=f"send none: keep a proxy of CONFIG up to try things on ({short(PROXY_CONFIG)})",
    )

    def run(arguments: argparse.Namespace) -> None:
        demo = Demo(arguments.out, arguments.prompts, Terminal())
        demo.run() if arguments.serve is None else demo.serve(arguments.serve)

    return run_command(parser, REPOSITORY / "build" / "demo", run)


def count(text: str) -> int:
    if (found := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"found {text}; expected at least 1")
    return found


if __name__ == "__main__":
    sys.exit(main())
