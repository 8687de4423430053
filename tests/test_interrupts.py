"""Ctrl-C, whenever it comes: one line, exit code 130, no traceback."""

import signal
import subprocess
import sys
import time

import pytest

from erp_trainer.interrupts import LINE
from tests.planted import planted_rows, write_outcomes

# What the script `erp-train` does; it says when its first statement holds, of what is before nobody is master.
SCRIPT = """
from erp_trainer import interrupts
with interrupts.one_line():
    print("up", flush=True)
    from erp_trainer.cli import main
main()
"""


def interrupted(after_s: float, *arguments: object, presses: int = 1) -> tuple[int, list[str]]:
    """Exit code and lines of stderr of a command that is interrupted so long after its start."""
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        time.sleep(after_s)
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            time.sleep(0.005)
        _, stderr = process.communicate(timeout=120)
    return process.returncode, stderr.splitlines()


@pytest.mark.parametrize("after_s", [0.002, 0.01, 0.03, 0.06, 0.1, 0.2, 0.4, 0.8, 1.5])
def test_an_interrupt_in_the_first_seconds_is_one_line(tmp_path, after_s):
    outcomes = write_outcomes(tmp_path / "outcomes.jsonl", planted_rows())
    code, lines = interrupted(after_s, "import", outcomes, "--out", tmp_path / "run")
    assert (code, lines) == (130, [LINE]) or (code == 0 and (tmp_path / "run" / "run.json").exists())


@pytest.mark.parametrize("after_s", [0.05, 0.3])
def test_pressing_twice_is_one_line_too(tmp_path, after_s):
    outcomes = write_outcomes(tmp_path / "outcomes.jsonl", planted_rows())
    code, lines = interrupted(after_s, "import", outcomes, "--out", tmp_path / "run", presses=3)
    assert (code, set(lines)) == (130, {LINE}), (code, "\n".join(lines))
