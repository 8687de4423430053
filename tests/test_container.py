"""What an image does: it starts where it will route, else says why not in one line, and its health tells which."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.proxy_process import PORT, PROXY_ENVIRONMENT, REPOSITORY, ServerProcess, free_port
from demo.redis_process import RedisProcess
from tests.harness import Json, ask, proxy_config, write_config
from tests.pools import erp_settings

START = [sys.executable, "-m", "litellm_erp.container.start"]
HEALTH = [sys.executable, "-m", "litellm_erp.container.health"]
KEY = "sk-of-the-container"


class Container(ServerProcess):
    """A proxy started as the image starts it, ready when it routes."""

    master_key = KEY

    def __init__(self, config: Path, **env: str) -> None:
        super().__init__(
            [*START, "--config", str(config), "--host", "127.0.0.1", "--port", PORT],
            ready_path="/erp/health",
            log_path=config.parent / "proxy.log",
            env=PROXY_ENVIRONMENT | {"LITELLM_MASTER_KEY": KEY} | env,
        )


def run(command: list[str], *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A command to its end, with nothing of this environment that could name a config or a Redis."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REDIS_", "ERP_", "LITELLM_"))}
    environment = kept | {"PYTHONPATH": str(REPOSITORY), "ERP_WAIT_S": "0"} | env
    return subprocess.run(
        [*command, *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def config_of(stub_process, tmp_path) -> Callable[..., Path]:
    def write(bundle: Path, erp: Json | None = None, **parts: Json) -> Path:
        settings = erp_settings(bundle) | (erp or {})
        return write_config(tmp_path / "config.yaml", proxy_config(stub_process, erp_settings=settings, **parts))

    return write


def test_the_image_routes_and_its_health_says_so(stub, config_of, planted_bundle):
    config = config_of(planted_bundle)
    with Container(config) as proxy:
        healthy = run(HEALTH, PORT=str(proxy.port))
        assert (healthy.returncode, healthy.stdout) == (0, "routing: groups 1, budgets of this process\n")
        assert ask(proxy).erp["reason"] == "routed"
        # It names nothing: no group, no bundle, no model.
        assert not {"erp-auto", "small", planted_bundle.name} & set(healthy.stdout.replace(",", " ").split())
        taken = run(START, "--config", str(config), "--host", "127.0.0.1", f"--port={proxy.port}")
        assert taken.returncode == 1
        assert taken.stderr.startswith(f"error: port {proxy.port} on 127.0.0.1 cannot be listened on: Address already")
    gone = run(HEALTH, PORT=str(proxy.port))
    assert gone.returncode == 1
    assert gone.stdout.startswith("no answer from http://127.0.0.1")


def test_a_proxy_that_serves_and_does_not_route_is_not_healthy(stub, config_of, planted_bundle, tmp_path):
    settings = tmp_path / "settings.yaml"
    # The image's checks pass, and the router knows no such group.
    write_config(settings, {"erp_settings": {"groups": {"elsewhere": {"bundle": str(planted_bundle)}}}})
    config = config_of(planted_bundle)
    with ServerProcess(
        [*START, "--config", str(config), "--host", "127.0.0.1", "--port", PORT],
        ready_path="/health/liveliness",
        log_path=tmp_path / "proxy.log",
        env=PROXY_ENVIRONMENT | {"LITELLM_MASTER_KEY": KEY, "ERP_SETTINGS": str(settings)},
    ) as proxy:
        found = run(HEALTH, f"{proxy.base_url}/erp/health")
        assert (found.returncode, found.stdout) in (
            (1, "HTTP 503: not routing: no group has a deployment in the router\n"),
            (1, "HTTP 503: not routing: starting\n"),
        )
        assert "is not this plugin's" in run(HEALTH, f"{proxy.base_url}/erp/nowhere").stdout


def no_config(config: Path, bundle: Path) -> Path:
    return config.with_name("not-there.yaml")


def folder_for_config(config: Path, bundle: Path) -> Path:
    config.unlink()
    config.mkdir()
    return config


def config_of_another(config: Path, bundle: Path) -> Path:
    config.write_text("model_list: []\n")
    return config


def no_yaml(config: Path, bundle: Path) -> Path:
    config.write_text("model_list: [\n")
    return config


def no_bundle(config: Path, bundle: Path) -> Path:
    shutil.rmtree(bundle)
    return config


def empty_bundle(config: Path, bundle: Path) -> Path:
    shutil.rmtree(bundle)
    bundle.mkdir()
    return config


def half_a_bundle(config: Path, bundle: Path) -> Path:
    (bundle / "frontier.json").unlink()
    return config


def link_to_nothing(config: Path, bundle: Path) -> Path:
    shutil.rmtree(bundle)
    bundle.symlink_to("not-there", target_is_directory=True)
    return config


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (no_config, "not-there.yaml"),
        (folder_for_config, "found a folder; expected the config file"),
        (config_of_another, "found no erp_settings"),
        (no_yaml, "config.yaml"),
        (no_bundle, "bundle"),
        (empty_bundle, "bundle"),
        (half_a_bundle, "frontier.json"),
        (link_to_nothing, "bundle"),
    ],
)
def test_what_is_not_mounted_is_one_line_and_no_proxy(config_of, planted_bundle, tmp_path, spoil, said):
    bundle = Path(shutil.copytree(planted_bundle, tmp_path / "bundle"))
    config = spoil(config_of(bundle), bundle)
    one_line(run(START, "--config", str(config), "--port", str(free_port())), said)


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["--port", "http"], {}, "port 'http' is none"),
        (["--port", "70000"], {}, "port '70000' is none"),
        ([], {"PORT": "0"}, "port '0' is none"),
        (["--host", "192.0.2.1"], {}, "on 192.0.2.1 cannot be listened on"),
        (["--host", "no host"], {}, "on no host cannot be listened on"),
        ([], {"REDIS_URL": "redis://:hunter2@127.0.0.1:1/0", "ERP_WAIT_S": "soon"}, "ERP_WAIT_S: found 'soon'"),
    ],
)
def test_an_option_that_makes_no_sense_is_one_line(config_of, planted_bundle, arguments, env, said):
    env = {"PORT": str(free_port())} | env
    one_line(run(START, "--config", str(config_of(planted_bundle)), *arguments, **env), said)


@pytest.mark.parametrize("named", ["erp_settings", "environment", "router_settings", "cache_params"])
def test_a_redis_that_does_not_answer_is_one_line_that_keeps_its_password(config_of, planted_bundle, named):
    port, secret = free_port(), "hunter2"
    url = f"redis://:{secret}@127.0.0.1:{port}/0"
    parts: dict[str, Json] = {
        "erp_settings": {"erp": {"redis": {"url": "os.environ/OUR_REDIS"}}},
        "environment": {},
        "router_settings": {
            "router_settings": {"redis_host": "127.0.0.1", "redis_port": port, "redis_password": secret}
        },
        "cache_params": {"litellm_settings": {"cache_params": {"type": "redis", "host": "127.0.0.1", "port": port}}},
    }
    env = {"environment": {"REDIS_URL": url}, "erp_settings": {"OUR_REDIS": url}}.get(named, {})
    config = config_of(planted_bundle, **parts[named])
    arguments = ("--config", str(config), "--port", str(free_port()))
    found = run(START, *arguments, **env)
    one_line(found, f"Redis at 127.0.0.1:{port} does not answer")
    assert secret not in found.stdout + found.stderr


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    with RedisProcess() as process:
        yield process


def test_a_redis_that_is_late_is_waited_for(planted_bundle, config_of, redis):
    config = config_of(planted_bundle, {"redis": {"url": "os.environ/REDIS_URL"}})
    redis.stop()
    arguments = ["--config", str(config), "--host", "127.0.0.1", "--port", str(free_port())]
    check = f"import os; from litellm_erp.container.start import check; check({arguments!r}, os.environ)"
    env = os.environ | {"PYTHONPATH": str(REPOSITORY), "ERP_WAIT_S": "60", "REDIS_URL": redis.url}
    waiting = subprocess.Popen([sys.executable, "-c", check], env=env, cwd=REPOSITORY)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(3)
    redis.start()
    assert waiting.wait(60) == 0


def one_line(found: subprocess.CompletedProcess[str], said: str) -> None:
    assert found.returncode in (1, 2)
    assert found.stdout == ""
    assert found.stderr.startswith("error: ")
    assert found.stderr.count("\n") == 1
    assert said in found.stderr
