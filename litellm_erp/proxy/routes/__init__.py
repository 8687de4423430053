"""The plugin's own routes on LiteLLM's app: one file each, mounted here.

Who calls is LiteLLM's to say (its own dependency checks the key). An admin's key sees every team, any other its own
team only; ``/erp/health`` asks for no key and names nothing. Nothing here calls a model, and no prompt is logged or
kept.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Protocol

from litellm_erp.errors import ErpError
from litellm_erp.proxy.routes import console
from litellm_erp.proxy.routes import explain as explaining
from litellm_erp.proxy.routes import feedback as feeding
from litellm_erp.proxy.routes import health as healthy
from litellm_erp.proxy.routes import teams as teams_of
from litellm_erp.proxy.routes.caller import ApiError
from litellm_erp.proxy.routes.explain import explain
from litellm_erp.proxy.routes.feedback import feedback
from litellm_erp.proxy.routes.health import health
from litellm_erp.proxy.routes.teams import every_team, one_team

# As FastAPI has them: a team's id may hold a slash.
ROUTES = ("/erp/teams", "/erp/teams/{team:path}", "/erp/explain", "/erp/feedback", *console.ROUTES)


class Plugin(teams_of.Plugin, explaining.Plugin, feeding.Plugin, healthy.Plugin, console.Plugin, Protocol):
    """What the routes show."""


def mount(plugin: Plugin) -> None:
    """Add the routes to the app of this process's proxy.

    LiteLLM refuses unknown routes to keys that are not an admin's, unless they stand among those whose function
    decides itself who may call it.
    """
    from fastapi import APIRouter, Body, Depends
    from fastapi.responses import JSONResponse, Response
    from litellm.proxy._types import LiteLLMRoutes
    from litellm.proxy.auth.user_api_key_auth import user_api_key_auth

    app = sys.modules["litellm.proxy.proxy_server"].app
    for route in ROUTES:
        if route not in LiteLLMRoutes.self_managed_routes.value:
            LiteLLMRoutes.self_managed_routes.value.append(route)
    routes = APIRouter(prefix="/erp", tags=["expected reward routing"])
    caller, sent = Depends(user_api_key_auth), Body(None)

    def answer(content: object, status: int = 200) -> Response:
        # In ASCII, since no UTF-8 can be made of a name with a lone surrogate.
        return Response(json.dumps(content, allow_nan=False), status, media_type=JSONResponse.media_type)

    @routes.get("/health")
    async def health_route() -> Response:
        return answer(*health(plugin, plugin.sharing.status().shared))

    @routes.get("/teams")
    async def teams(auth: Any = caller) -> Response:
        # Looking names the accounts that are to be asked for.
        every_team(plugin, auth)
        await plugin.sharing.refresh()
        return answer({"teams": every_team(plugin, auth)})

    @routes.get("/teams/{team:path}")
    async def team(team: str, auth: Any = caller) -> Response:
        try:
            one_team(plugin, auth, team)
            await plugin.sharing.refresh()
            return answer({"teams": one_team(plugin, auth, team)})
        except ApiError as e:
            return answer({"error": {"message": e.message}}, e.status)

    @routes.post("/explain")
    async def explain_route(body: Any = sent, auth: Any = caller) -> Response:
        try:
            return answer(await explain(plugin, auth, body))
        except ApiError as e:
            return answer({"error": {"message": e.message}}, e.status)
        except ErpError as e:
            return answer({"error": {"message": str(e)}}, 503)

    @routes.post("/feedback")
    async def feedback_route(body: Any = sent, auth: Any = caller) -> Response:
        try:
            status, content = feedback(plugin, auth, body)
            return answer(content, status)
        except ApiError as e:
            return answer({"error": {"message": e.message}}, e.status)

    @routes.get("/groups")
    async def groups(auth: Any = caller) -> Response:
        console.every_group(plugin, auth)
        await plugin.sharing.refresh()
        return answer(console.every_group(plugin, auth))

    @routes.get("/decisions")
    async def decisions(limit: int = console.MOST_DECISIONS, auth: Any = caller) -> Response:
        return answer(console.decisions(plugin, auth, limit))

    def file(name: str, media_type: str) -> Response:
        content = console.asset(name)
        if content is None:
            return Response(b"not found", 404, media_type="text/plain", headers=console.HEADERS)
        return Response(content, media_type=media_type, headers=console.HEADERS)

    # The page and its files are for whoever asks: they hold nothing but themselves.
    @routes.get("", include_in_schema=False)
    def page() -> Response:
        return file(console.PAGE, "text/html")

    @routes.get("/", include_in_schema=False)
    def page_with_slash() -> Response:
        # Relative, since a proxy may serve under a path of its own.
        return Response(status_code=307, headers={"Location": "../erp", **console.HEADERS})

    @routes.get("/console/{name}", include_in_schema=False)
    def page_file(name: str) -> Response:
        return file(name, console.MEDIA_TYPES.get(name, "text/plain"))

    app.include_router(routes)
