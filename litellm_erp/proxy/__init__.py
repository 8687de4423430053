"""The adapter between LiteLLM and the router; the only package that imports LiteLLM.

Name ``litellm_erp.proxy.erp_router`` under ``litellm_settings.callbacks`` of a proxy config, or call
:func:`attach` on a ``litellm.Router`` of your own.

It is a package, not a file, because LiteLLM executes a file that lies at the dotted path beside config.yaml
as a second, unregistered copy of the module (docs/design/003-proxy-hook.md).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import litellm
from litellm import Router

from litellm_erp.errors import ErpError, ServingError, SettingsError
from litellm_erp.goals import settings as settings_file
from litellm_erp.goals.settings import Settings
from litellm_erp.proxy import litellm_router
from litellm_erp.proxy.hooks import ErpRouter
from litellm_erp.proxy.routes import mount
from litellm_erp.telemetry import logger

__all__ = ["ErpRouter", "attach", "erp_router"]


def attach(router: Router, settings: Settings | Mapping[str, Any] | Path | str, **options: Any) -> ErpRouter:
    """Route the groups of a ``litellm.Router`` in your own program, without a proxy.

    Parameters
    ----------
    settings : the path of a YAML file, or the content of ``erp_settings``; relative paths in the latter start
        from the current folder
    options : passed to :class:`ErpRouter`

    Returns
    -------
    the callback, already registered with LiteLLM; pass it to ``litellm.callbacks.remove`` to undo

    Raises
    ------
    ErpError : bad settings or a bad bundle, or a group that the router is attached for already
    """
    if isinstance(settings, (str, Path)):
        loaded = settings_file.load_settings(settings)
        if loaded is None:
            raise SettingsError(f"{settings}: found no erp_settings; expected a map under that key")
        settings = loaded
    elif not isinstance(settings, Settings):
        settings = settings_file.parse(settings, Path("erp_settings"))
    _check_unattached(router, settings)
    callback = ErpRouter(settings, router=router, **options)
    for finding in callback.check(router):
        logger.warning("%s", finding.text)
    litellm.callbacks.append(callback)
    litellm_router.place_callback(callback)
    for name in litellm_router.SYNCHRONOUS:
        if hasattr(router, name):
            setattr(router, name, _refusing(getattr(router, name), name, callback))
    return callback


def _check_unattached(router: Router, settings: Settings) -> None:
    """Two callbacks would narrow one after the other, and count every answer twice."""
    for entry in litellm.callbacks:
        if isinstance(entry, ErpRouter) and entry.router() is router:
            common = sorted(set(entry.groups) & set(settings.groups))
            if common:
                raise SettingsError(
                    f"attach: this router is attached for {', '.join(map(repr, common))} already; pass the callback "
                    "that attach returned to litellm.callbacks.remove first"
                )


def _refusing(call: Callable[..., Any], name: str, callback: ErpRouter) -> Callable[..., Any]:
    """A synchronous call of a router that does not serve a routed group unrouted: LiteLLM asks no callback there."""

    @functools.wraps(call)
    def checked(*args: Any, **kwargs: Any) -> Any:
        model = kwargs.get("model", args[0] if args else None)
        if model in callback.groups and any(entry is callback for entry in litellm.callbacks):
            raise ServingError(
                f"router.{name}(model={model!r}) is synchronous, and LiteLLM routes only asynchronous calls by what "
                f"callbacks decide; use await router.a{name}(…), or name a model of the group"
            )
        return call(*args, **kwargs)

    return checked


def _mount(plugin: ErpRouter) -> None:
    try:
        mount(plugin)
    except Exception as e:
        # Routing needs none of these routes.
        logger.warning("no /erp routes on this version of LiteLLM: %s: %s", type(e).__name__, e)


def _start() -> ErpRouter:
    try:
        plugin = ErpRouter()
        if litellm_router.proxy_server() is not None:
            _mount(plugin)
        return plugin
    except ErpError as e:
        if litellm_router.proxy_server() is None:
            raise
        # The proxy stops; its last line should be the message, not three hundred lines of traceback.
        sys.tracebacklimit = 0
        raise e from None


erp_router = _start()
