"""``python -m demo.live``: from real models to a routing proxy, and one more model while it serves.

A real vLLM serves small models. Their responses to questions with known answers are sampled, verified and fitted, a
LiteLLM proxy routes held-out questions by the bundle, and another member is added under traffic.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from demo import live_pool as pools
from demo import live_table, table
from demo.live_pool import Drawn, Member
from demo.live_questions import KINDS, Question, questions
from demo.live_serving import Reply, Traffic, ask_all
from demo.prepare import erp_train
from demo.proxy_process import REPOSITORY, ProxyProcess
from demo.vllm_process import VLLMProcess
from erp_trainer.outcomes.run import open_run
from erp_trainer.prompts.prompt_set import read_prompt_set
from litellm_erp.errors import ErpError, ServingError

DEFAULT_OUT = REPOSITORY / "build" / "demo-live"
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
    console: Console
    started: float = field(default_factory=time.perf_counter)

    def run(self) -> int:
        """Do it all; the exit status.

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
                self._say(f"LiteLLM proxy up; asking {len(held_out)} held-out questions of {pools.GROUP}")
                before = self._well(ask_all(proxy, held_out))
                self.console.print(live_table.headers(before, held_out, len(KINDS)))
                added = self._add(newcomer, api_bases, proxy, held_out)
                self._say(f"asking the {len(held_out)} held-out questions again")
                after = self._well(ask_all(proxy, held_out))
        found = live_table.results(open_run(self.out / "run"), [m.name for m in self.members], before, after)
        self.console.print(live_table.table(found))
        self.console.print(live_table.reading(found))
        self._write("summary.json", {**added, "policies": [row.to_json() for row in found]})
        self._write("replies.json", {"before": [*map(asdict, before)], "after": [*map(asdict, after)]})
        self._say(f"done; everything is in {self.out}")
        return 0

    @contextmanager
    def _servers(self) -> Iterator[dict[str, str]]:
        served = sorted({member.served for member in self.members})
        self._say(f"starting vLLM for {' and '.join(pools.FOLDERS[name] for name in served)}")
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
            self._say(f"up after {max(process.start_time_s for process in processes.values()):.0f} s")
            yield {name: process.api_base for name, process in processes.items()}

    def _first_bundle(self, api_bases: Mapping[str, str]) -> None:
        first = self.members[:-1]
        pools.write_tiny_reward_model(self.out / "tiny-reward-model")
        pools.write_questions(self.out / "questions.jsonl", self.asked)
        pool = pools.write_pool(self.out / "pool.yaml", first, api_bases, self.drawn)
        self._say(
            f"erp-train run pool.yaml: {len(self.asked)} questions × K = {self.drawn.k} × {len(first)} members: "
            + ", ".join(member.name for member in first)
        )
        report = erp_train("run", pool)
        for name, model in report["models"].items():
            rate = f"{model['samples']} samples, {model['output_tokens']} tokens"
            self.console.print(f"          {name}: {rate}, {model['failed']} failed, {model['empty']} empty")
        self.console.print(f"          {report['verdict']['text']}", soft_wrap=True)

    def _add(
        self, newcomer: Member, api_bases: Mapping[str, str], proxy: ProxyProcess, asked: Sequence[Question]
    ) -> dict[str, Any]:
        before = pools.probe_digests(self.out / "bundle")
        pool = pools.write_pool(self.out / "pool-with-newcomer.yaml", self.members, api_bases, self.drawn)
        with Traffic(proxy, asked) as traffic:
            traffic.wait_for(lambda reply: not reply.error, "the proxy answers", PICKED_UP_WITHIN_S)
            self._say(f"erp-train add-model bundle --model {newcomer.name}, while the proxy serves")
            report = erp_train("add-model", self.out / "bundle", "--pool", pool, "--model", newcomer.name)
            self._say(f"added as bundle {report['id']}; waiting for the proxy to pick it up by itself")
            traffic.wait_for(
                lambda reply: reply.bundle == report["id"], f"the proxy serves {report['id']}", PICKED_UP_WITHIN_S
            )
        replies = self._well(traffic.replies)
        after = pools.probe_digests(self.out / "bundle")
        if before.items() - after.items():
            raise ServingError(f"adding {newcomer.name} changed other probes: {sorted(before.items() - after.items())}")
        self.console.print(live_table.digests(before, after))
        self._say(f"picked up without a restart; {len(replies)} requests meanwhile, none failed")
        return {"requests_meanwhile": len(replies), "probes_before": before, "probes_after": after, "added": report}

    def _held_out(self) -> list[Question]:
        test = {prompt.prompt_id for prompt in read_prompt_set(self.out / "run") if prompt.split == "test"}
        return [question for question in self.asked if question.prompt_id in test]

    def _well(self, replies: Sequence[Reply]) -> list[Reply]:
        failed = [reply for reply in replies if reply.error]
        if failed:
            raise ServingError(f"{len(failed)} of {len(replies)} requests failed, the first with {failed[0].error}")
        return list(replies)

    def _write(self, name: str, value: object) -> None:
        (self.out / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _say(self, what: str) -> None:
        self.console.print(f"[{time.perf_counter() - self.started:5.0f} s] {what}", soft_wrap=True)


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
    """Run the demo; 0 done, 1 failed, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m demo.live", description=__doc__)
    parser.add_argument("--per-kind", type=int, default=9, help=f"questions of each of {len(KINDS)} kinds, at most 32")
    parser.add_argument("--k", type=int, default=Drawn().k, help="samples of each question and member")
    parser.add_argument("--one-model", action="store_true", help="all members on one model, under three prompts")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder for everything it writes")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    members = pools.MEMBERS_OF_ONE if arguments.one_model else pools.MEMBERS
    try:
        python = vllm_python()
        models = small_models(python, sorted({member.served for member in members}))
        asked, drawn = questions(arguments.per_kind), Drawn(arguments.k)
        return Live(arguments.out.resolve(), python, models, members, asked, drawn, table.console()).run()
    except (ErpError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; everything it started is stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
