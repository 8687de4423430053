"""``python -m scripts.deploy_check [--quick]``: every check, then every check on a copy of deploy/ that is broken.

Exit 1 where a check finds a problem, or does not find one that was made.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from demo.proxy_process import REPOSITORY
from scripts.deploy_check import checks
from scripts.deploy_check.breaks import BREAKS, IMAGE_BREAKS, Break
from scripts.deploy_check.image import image, interpreter

Check = Callable[[Path], Iterable[str]]

CHECKS: dict[str, Check] = {
    "dockerfiles": checks.dockerfiles,
    "compose": checks.compose,
    "manifests": checks.manifests,
    "promises": checks.promises,
    "configs": checks.configs,
    "monitoring": checks.monitoring,
    "bundle scripts": checks.bundle_scripts,
}


def main() -> int:
    """Run them; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.deploy_check", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the files alone: install and start nothing")
    quick = parser.parse_args().quick
    deploy, bad, started = REPOSITORY / "deploy", 0, time.monotonic()
    for name, check in CHECKS.items():
        bad += _report(name, list(check(deploy)))
    for broken in BREAKS:
        bad += _report_break(broken, _of_copy(CHECKS[broken.check], broken))
    if not quick:
        bad += _check_image(deploy)
    print(
        f"deploy-check: {'all as it should be' if not bad else f'{bad} problems'} ({time.monotonic() - started:.0f} s)"
    )
    return 1 if bad else 0


def _check_image(deploy: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="erp-installed-") as folder:
        Path(folder).chmod(0o755)
        venv = Path(folder) / "erp"
        done = subprocess.run(
            ["sh", deploy / "install.sh", venv],
            env=os.environ | {"PYTHON": interpreter()},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            return _report("image", [done.stdout + done.stderr])
        bad = _report("image", list(image(deploy, venv)))
        for broken in IMAGE_BREAKS:
            bad += _report_break(broken, _of_copy(lambda copy: image(copy, venv), broken))
        return bad


def _of_copy(check: Check, broken: Break) -> list[str]:
    """What a check finds in a copy of deploy/ in which one text is another."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "deploy"
        shutil.copytree(REPOSITORY / "deploy", copy)
        for each in REPOSITORY.iterdir():
            if each.name != "deploy" and not each.name.startswith("."):
                (copy.parent / each.name).symlink_to(each)
        path = copy / broken.file
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if broken.old not in text:
            return [f"{broken.file}: has no {broken.old!r} to break"]
        path.write_text(text.replace(broken.old, broken.new, 1), encoding="utf-8")
        return list(check(copy))


def _report(name: str, problems: list[str]) -> int:
    print(f"{name}: {'ok' if not problems else ''}", flush=True)
    for problem in problems:
        print(f"  error: {problem}", flush=True)
    return len(problems)


def _report_break(broken: Break, found: list[str]) -> int:
    what = f"{broken.check}: {broken.file} with {broken.new.strip()!r}"
    if any(broken.said in problem for problem in found):
        print(f"{what} is found", flush=True)
        return 0
    print(f"  error: {what}: expected {broken.said!r}, found {found}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
