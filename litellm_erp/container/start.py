"""``python -m litellm_erp.container.start --config FILE …``: the checks, then ``litellm`` with the same arguments.

LiteLLM alone starts on a config that is not there with a traceback, and on another port where 4000 is taken; in a
container both look like a proxy that nobody reaches. Here each ends in one line and an exit status.

Environment: ``CONFIG_FILE_PATH``, ``HOST`` and ``PORT`` as LiteLLM reads them; ``ERP_WAIT_S`` (30), how long a Redis
may take to answer; ``ERP_WITHOUT_REDIS=start`` starts on local counts where it does not.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from litellm_erp.bundle.load import load_bundle
from litellm_erp.config_file import from_environment, is_reference, read_config
from litellm_erp.errors import ErpError, ServingError, SettingsError
from litellm_erp.goals.settings import SETTINGS_ENV, Settings, load_settings

_RUN_PROXY = "from litellm import run_server; run_server()"
_PAUSE_S = 0.5
_CONNECT_S = 2.0
# Where LiteLLM's config may name its own Redis, whose budgets ours share.
_REDIS_PLACES = (
    ("general_settings", "coordination_redis", ""),
    ("litellm_settings", "cache_params", ""),
    ("router_settings", "", "redis_"),
)


def main() -> None:
    """Check, then become LiteLLM's proxy."""
    arguments = sys.argv[1:]
    try:
        check(arguments, os.environ)
    except ErpError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
    os.execv(sys.executable, [sys.executable, "-c", _RUN_PROXY, *arguments])  # noqa: S606


def check(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Everything a proxy needs that can be known before it starts.

    Parameters
    ----------
    arguments : of ``litellm``

    Raises
    ------
    ErpError : a config, settings, a bundle, a port or a Redis that cannot be used; the first of them
    """
    stated = option(arguments, "--config", "-c") or environment.get("CONFIG_FILE_PATH")
    named = environment.get(SETTINGS_ENV) or stated
    if named is None:
        raise SettingsError("no config: found neither --config nor CONFIG_FILE_PATH; mount one and name it")
    _refuse_wrong_mount(Path(named))
    settings = load_settings(Path(named).absolute())
    if settings is None:
        raise SettingsError(f"{named}: found no erp_settings; expected that key, with the groups that are routed")
    for group in settings.groups.values():
        load_bundle(group.bundle)
    host = option(arguments, "--host") or environment.get("HOST", "0.0.0.0")  # noqa: S104
    check_port(host, option(arguments, "--port") or environment.get("PORT", "4000"))
    config = {} if stated is None else read_config(Path(stated)).document
    if environment.get("ERP_WITHOUT_REDIS") != "start":
        for url in redis_urls(settings, config, environment):
            wait_for_redis(url, _wait_s(environment))
    return settings


def option(arguments: Sequence[str], *names: str) -> str | None:
    """The value of an option as click reads it, the last where it stands twice; None where it stands nowhere."""
    found = None
    for i, argument in enumerate(arguments):
        name, separator, value = argument.partition("=")
        if name in names:
            found = value if separator else next(iter(arguments[i + 1 : i + 2]), None)
    return found


def check_port(host: str, port: str) -> None:
    """Refuse a port that cannot be listened on.

    Raises
    ------
    ServingError : it is none, it is taken, or this user may not
    """
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ServingError(f"port {port!r} is none; expected a number from 1 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As uvicorn does: a port whose last connections linger is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as e:
            raise ServingError(
                f"port {port} on {host} cannot be listened on: {e.strerror or e}; stop what uses it, or state another "
                "--port"
            ) from None


def redis_urls(settings: Settings, config: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Where budgets are to be shared: our own Redis, else LiteLLM's; empty where there is none."""
    if settings.redis.url is not None:
        return [settings.redis.url]
    found = [_url_in(environment, "REDIS_")]
    for section, key, prefix in _REDIS_PLACES:
        place = _map(config.get(section))
        place = _map(place.get(key)) if key else place
        if place.get("type", "redis") == "redis":
            found.append(_url_in(place, prefix))
    return list(dict.fromkeys(url for url in found if url))


def wait_for_redis(url: str, wait_s: float) -> None:
    """Wait until a Redis answers.

    Raises
    ------
    ServingError : it does not in time; names host and port, never the password
    """
    from redis import Redis, RedisError

    end = time.monotonic() + wait_s
    while True:
        try:
            with Redis.from_url(url, socket_timeout=_CONNECT_S, socket_connect_timeout=_CONNECT_S) as client:
                client.ping()
            return
        except (RedisError, OSError, ValueError) as e:
            if time.monotonic() >= end:
                raise ServingError(
                    f"Redis at {_place(url)} does not answer ({type(e).__name__}) after {wait_s:g} s: budgets would be "
                    "counted by each process alone. Start it or correct its address; ERP_WITHOUT_REDIS=start starts "
                    "without"
                ) from None
            time.sleep(_PAUSE_S)


def _refuse_wrong_mount(path: Path) -> None:
    if path.is_dir():
        raise SettingsError(
            f"{path}: found a folder; expected the config file. A container engine makes an empty folder where the "
            "file to mount is not there: correct the path on the host"
        )


def _wait_s(environment: Mapping[str, str]) -> float:
    text = environment.get("ERP_WAIT_S", "30")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise SettingsError(f"ERP_WAIT_S: found {text!r}; expected seconds from 0 to 3600")
    return seconds


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _url_in(place: Mapping[str, Any], prefix: str) -> str | None:
    """A Redis that a map names by URL, or by host, port and password."""
    values = {name: _value(place, prefix, name) for name in ("url", "host", "port", "password", "ssl")}
    if values["url"] or not values["host"]:
        return values["url"]
    secret = f":{quote(values['password'], safe='')}@" if values["password"] else ""
    scheme = "rediss" if str(values["ssl"]).lower() in ("true", "1") else "redis"
    return f"{scheme}://{secret}{values['host']}:{values['port'] or 6379}"


def _value(place: Mapping[str, Any], prefix: str, name: str) -> str | None:
    key = prefix + (name.upper() if prefix.isupper() else name)
    value = place.get(key)
    if is_reference(value):
        value = from_environment(str(value), key)
    return None if value is None or value == "" else str(value)


def _place(url: str) -> str:
    parts = urlsplit(url)
    try:
        return f"{parts.hostname}:{parts.port or 6379}"
    except ValueError:
        return "an address that is none"


if __name__ == "__main__":
    main()
