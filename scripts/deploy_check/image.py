"""The image's own steps, in a folder instead of an image: installed by its script, started by its command, as its user.

Where this process is root and may, the proxy gets the user's id, a root file system that it can only read, and one
folder to write to. Elsewhere it runs as who asks.
"""

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from demo.proxy_process import StubProcess, free_port
from demo.redis_process import RedisProcess
from litellm_erp.errors import ServingError
from scripts.deploy_check.checks import run, stage

_KEY = "sk-of-the-deploy-check"
_START_S = 90.0
# Of an interpreter that the image's user may run, also through the links of an environment.
_CAN_BE_INSTALLED = "import os, sys, ensurepip; os.stat(sys.executable); assert sys.version_info >= (3, 10)"
# Its root file system read-only, but for the one folder that is named; then as the image's user.
_AS_USER = "exec setpriv --reuid 65532 --regid 65532 --clear-groups"
_CONFINED = f'mount --bind "$0" "$0" && mount -o remount,bind,ro / && {_AS_USER} "$@"'


def image(deploy: Path, venv: Path) -> Iterator[str]:
    """Start, health, a routed request, and red where the proxy is gone.

    Parameters
    ----------
    venv : what install.sh made
    """
    with tempfile.TemporaryDirectory(prefix="erp-image-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        if any(venv.glob("bin/pip*")):
            yield "install.sh: leaves pip in what serves"
        with StubProcess(["small", "large"]) as stub, RedisProcess() as redis:
            if said := _make_bundle(deploy, folder, stub):
                yield f"bundle-cpu: {said}"
                return
            with _proxy(deploy, venv, folder, stub, redis) as proxy:
                yield from _asked(proxy, deploy, venv)


def _make_bundle(deploy: Path, folder: Path, stub: StubProcess) -> str:
    """What compose's bundle-cpu does."""
    for name in ("pool-cpu.yaml", "questions-cpu.jsonl", "config.yaml"):
        text = (deploy / "config" / name).read_text(encoding="utf-8")
        (folder / name).write_text(
            text.replace("/bundles/", f"{folder}/bundles/").replace("/runs/", f"{folder}/runs/"), encoding="utf-8"
        )
    command = "from erp_trainer.cli import main; main()"
    said = run(sys.executable, "-c", command, "run", folder / "pool-cpu.yaml", **_addresses(stub))
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    return said


def _addresses(stub: StubProcess) -> dict[str, str]:
    return {"SMALL_API_BASE": stub.api_base("small"), "LARGE_API_BASE": stub.api_base("large")}


def command_of(deploy: Path, instruction: str) -> list[str]:
    """The JSON list after an instruction of the image's last stage."""
    found = re.search(rf"^{instruction}(?:.|\\\n)*?(\[.*\])", stage(deploy, "proxy"), re.MULTILINE)
    listed: list[str] = json.loads(found.group(1)) if found else []
    return listed


@contextmanager
def _proxy(deploy: Path, venv: Path, folder: Path, stub: StubProcess, redis: RedisProcess) -> Iterator[Any]:
    """The image's command in the environment that the image has; its process, port, environment and log."""
    port = free_port()
    environment = {
        "PATH": f"{venv}/bin:/usr/bin:/bin",
        "HOME": str(folder / "tmp"),
        "TMPDIR": str(folder / "tmp"),
        "PORT": str(port),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_MASTER_KEY": _KEY,
        "POOL_API_KEY": "none",
        "PYTHONUNBUFFERED": "1",
        "REDIS_URL": redis.url,
    } | _addresses(stub)
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o777)
    given = [*command_of(deploy, "ENTRYPOINT"), *command_of(deploy, "CMD")]
    command = [{"/etc/erp/config.yaml": f"{folder}/config.yaml", "4000": str(port)}.get(part, part) for part in given]
    confined = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _CONFINED, str(folder / "tmp")]
    log = folder / "proxy.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            (confined if _may_confine() else []) + command,
            env=environment,
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process, port, environment, folder
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@functools.cache
def _may_confine() -> bool:
    may = os.geteuid() == 0 and not run("unshare", "--mount", "--propagation", "private", "true")
    return may and bool(_shared_interpreter())


def interpreter() -> str:
    """The Python that the image's environment is made of: one that the image's user may run, where there is one."""
    return _shared_interpreter() or sys.executable


@functools.cache
def _shared_interpreter() -> str:
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        as_user = ["setpriv", "--reuid", "65532", "--regid", "65532", "--clear-groups"]
        if os.geteuid() == 0 and not run(*as_user, python, "-c", _CAN_BE_INSTALLED):
            return python
    return ""


def _asked(proxy: Any, deploy: Path, venv: Path) -> Iterator[str]:
    process, port, environment, folder = proxy
    log = folder / "proxy.log"
    health = command_of(deploy, "HEALTHCHECK")
    end = time.monotonic() + _START_S
    while said := _health(health, environment, venv):
        if process.poll() is not None or time.monotonic() > end or "not this plugin's" in said:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            yield f"the health check stays red: {said}; the proxy's last lines:\n{last}"
            return
        time.sleep(0.5)
    status = Path(f"/proc/{process.pid}/status")
    if _may_confine() and status.exists() and "Uid:\t65532" not in status.read_text():
        yield "the proxy does not run as the image's user"
    for question, expected in (
        ("What is 12 plus 30?", "small"),
        ("Write an eerie fable about a night train.", "large"),
    ):
        body = {"model": "erp-auto", "messages": [{"role": "user", "content": question}]}
        headers = {"Authorization": f"Bearer {_KEY}"}
        answer = httpx.post(
            f"http://127.0.0.1:{port}/v1/chat/completions", json=body, headers=headers, timeout=60, trust_env=False
        )
        served = (answer.status_code, answer.headers.get("x-erp-model"), answer.headers.get("x-erp-reason"))
        if served != (200, expected, "routed"):
            yield f"{question!r}: found {served}; expected {expected} to serve: {answer.text[:200]}"
    process.terminate()
    process.wait(60)
    if not _health(health, environment, venv):
        yield "the health check stays green when the proxy is gone"


def _health(command: list[str], environment: dict[str, str], venv: Path) -> str:
    if not command:
        raise ServingError("Dockerfile: found no HEALTHCHECK with a list as its command")
    # Only the image's own environment, as an engine would give it.
    program = venv / "bin" / command[0]
    done = subprocess.run(
        [str(program), *command[1:]], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip() or "red"
