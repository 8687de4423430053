"""``python -m demo.live``: from real models to a routing proxy, and one more model while it serves.

A real vLLM serves small models. Their responses to questions with known answers are sampled, verified and fitted, a
LiteLLM proxy routes held-out questions by the bundle, and another member is added under traffic.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from demo.live import pool as pools
from demo.live import table
from demo.live.pool import Drawn, Member
from demo.live.questions import KINDS, Question, questions
from demo.live.serving import Reply, Traffic, ask_questions
from demo.prepare import erp_train
from demo.proxy_process import REPOSITORY, ProxyProcess
from demo.terminal import INDENT, Terminal, run_command, write_json
from demo.vllm_process import VLLMProcess
from erp_trainer.console import paragraph
from erp_trainer.outcomes.run import open_run
from erp_trainer.prompts.prompt_set import read_prompt_set
from litellm_erp.errors import ServingError

PICKED_UP_WITHIN_S = 120.0


@dataclass(frozen=True)
class Live:
    """One run of the live demo.

    Parameters
    ----------
    out : the folder that gets everything; replaced
    python : an interpreter that has vLLM
    models : the folder that holds the models' folders
    members : the last one is the newcomer
    """

    out: Path
    python: Path
    models: Path
    members: Sequence[Member]
    asked: Sequence[Question]
    drawn: Drawn
    terminal: Terminal

    def run(self) -> None:
        """Do it all.

        Raises
        ------
        ErpError : something did not start, or did not do what the demo is there to show
        """
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        with self._servers() as api_bases:
            self._first_bundle(api_bases)
            *_, newcomer = self.members
            config = pools.write_proxy_config(
                self.out / "config.yaml", self.members, api_bases, self.out / "bundle", self.drawn
            )
            with ProxyProcess(config, log_path=self.out / "proxy.log", start_deadline_s=600) as proxy:
                held_out = self._held_out()
                self.terminal.say(f"LiteLLM proxy up; asking {len(held_out)} held-out questions of {pools.GROUP}")
                before = self._well(ask_questions(proxy, held_out))
                self.terminal.show(table.headers(before, held_out, len(KINDS)))
                added = self._add(newcomer, api_bases, proxy, held_out)
                self.terminal.say(f"asking the {len(held_out)} held-out questions again")
                after = self._well(ask_questions(proxy, held_out))
        found = table.results(open_run(self.out / "run"), [m.name for m in self.members], before, after)
        self.terminal.show(table.results_table(found))
        self.terminal.show(table.reading(found))
        write_json(self.out / "summary.json", {**added, "policies": [row.to_json() for row in found]})
        write_json(self.out / "replies.json", {"before": [*map(asdict, before)], "after": [*map(asdict, after)]})
        self.terminal.say(f"done; everything is in {self.out}")

    @contextmanager
    def _servers(self) -> Iterator[dict[str, str]]:
        served = sorted({member.served for member in self.members})
        self.terminal.say(f"starting vLLM for {' and '.join(pools.FOLDERS[name] for name in served)}")
        # Interrupted while they start, they are stopped first, which ends the threads that wait for them.
        with ThreadPoolExecutor(len(served)) as threads, ExitStack() as stack:
            processes = {
                name: VLLMProcess(
                    self.python,
                    self.models / pools.FOLDERS[name],
                    name,
                    max_model_len=512,
                    log_path=self.out / f"vllm-{name}.log",
                )
                for name in served
            }
            for process in processes.values():
                stack.callback(process.stop)
            list(threads.map(VLLMProcess.start, processes.values()))
            self.terminal.say(f"up after {max(process.start_time_s for process in processes.values()):.0f} s")
            yield {name: process.api_base for name, process in processes.items()}

    def _first_bundle(self, api_bases: Mapping[str, str]) -> None:
        first = self.members[:-1]
        pools.write_tiny_reward_model(self.out / "tiny-reward-model")
        pools.write_questions(self.out / "questions.jsonl", self.asked)
        pool = pools.write_pool(self.out / "pool.yaml", first, api_bases, self.drawn)
        self.terminal.say(
            f"erp-train run pool.yaml: {len(self.asked)} questions × K = {self.drawn.k} × {len(first)} members: "
            + ", ".join(member.name for member in first)
        )
        report = erp_train("run", pool)
        for name, model in report["models"].items():
            rate = f"{model['samples']} samples, {model['output_tokens']} tokens"
            self.terminal.show(f"{INDENT}{name}: {rate}, {model['failed']} failed, {model['empty']} empty")
        self.terminal.show(paragraph(report["verdict"]["text"], INDENT))

    def _add(
        self, newcomer: Member, api_bases: Mapping[str, str], proxy: ProxyProcess, asked: Sequence[Question]
    ) -> dict[str, Any]:
        before = pools.probe_digests(self.out / "bundle")
        pool = pools.write_pool(self.out / "pool-with-newcomer.yaml", self.members, api_bases, self.drawn)
        with Traffic(proxy, asked) as traffic:
            traffic.wait_for(lambda reply: not reply.error, "the proxy answers", PICKED_UP_WITHIN_S)
            self.terminal.say(f"erp-train add-model bundle --model {newcomer.name}, while the proxy serves")
            report = erp_train("add-model", self.out / "bundle", "--pool", pool, "--model", newcomer.name)
            self.terminal.say(f"added as bundle {report['id']}; waiting for the proxy to pick it up by itself")
            traffic.wait_for(
                lambda reply: reply.bundle == report["id"], f"the proxy serves {report['id']}", PICKED_UP_WITHIN_S
            )
        replies = self._well(traffic.replies)
        after = pools.probe_digests(self.out / "bundle")
        if before.items() - after.items():
            raise ServingError(f"adding {newcomer.name} changed other probes: {sorted(before.items() - after.items())}")
        self.terminal.show(table.digests(before, after))
        self.terminal.say(f"picked up without a restart; {len(replies)} requests meanwhile, none failed")
        return {"requests_meanwhile": len(replies), "probes_before": before, "probes_after": after, "added": report}

    def _held_out(self) -> list[Question]:
        test = {prompt.prompt_id for prompt in read_prompt_set(self.out / "run") if prompt.split == "test"}
        return [question for question in self.asked if question.prompt_id in test]

    def _well(self, replies: Sequence[Reply]) -> list[Reply]:
        failed = [reply for reply in replies if reply.error]
        if failed:
            raise ServingError(f"{len(failed)} of {len(replies)} requests failed, the first with {failed[0].error}")
        return list(replies)


def vllm_python() -> Path:
    """``ERP_VLLM_PYTHON``, or .venv-vllm made here."""
    if named := os.environ.get("ERP_VLLM_PYTHON"):
        return Path(named)
    subprocess.run([REPOSITORY / "scripts" / "setup_vllm.sh"], check=True)
    return REPOSITORY / ".venv-vllm" / "bin" / "vllm-python"


def small_models(python: Path, names: Sequence[str]) -> Path:
    """The folder of small models, with these in it."""
    folder = Path(os.environ.get("ERP_SMALL_MODELS", REPOSITORY / "build" / "models"))
    script = REPOSITORY / "scripts" / "small_models.py"
    subprocess.run([python, script, "--out", folder, *names], check=True, stdout=sys.stderr)
    return folder


def main() -> int:
    """Run the demo; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m demo.live", description=__doc__)
    parser.add_argument("--per-kind", type=int, default=9, help=f"questions of each of {len(KINDS)} kinds, at most 32")
    parser.add_argument("--k", type=int, default=Drawn().k, help="samples of each question and member")
    parser.add_argument("--one-model", action="store_true", help="all members on one model, under three prompts")
    return run_command(parser, REPOSITORY / "build" / "demo-live", _run)


def _run(arguments: argparse.Namespace) -> None:
    members = pools.MEMBERS_OF_ONE if arguments.one_model else pools.MEMBERS
    python = vllm_python()
    models = small_models(python, sorted({member.served for member in members}))
    asked, drawn = questions(arguments.per_kind), Drawn(arguments.k)
    Live(arguments.out.resolve(), python, models, members, asked, drawn, Terminal()).run()


if __name__ == "__main__":
    sys.exit(main())
