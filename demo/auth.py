"""Keys without a database: ``sk-<team>`` is a key of that team.

Named in config.yaml as ``general_settings.custom_auth: demo.auth.user_api_key_auth``. The keys come from
the JSON file that ``ERP_DEMO_KEYS`` names, a map from key to the fields of LiteLLM's ``UserAPIKeyAuth``
(``team_id``, ``models``, ``team_models``, ``metadata``, ``team_metadata``, …); without it there is one
key for each team of the demo, and ``sk-admin``. The file is read once, when the proxy starts.
"""

import json
import os
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request
from litellm.proxy._types import UserAPIKeyAuth

DEFAULT_TEAMS = ("research", "support")


def load_keys(path: Path | None) -> dict[str, UserAPIKeyAuth]:
    """The known keys; ValidationError where a file's entry is not a ``UserAPIKeyAuth``."""
    table: dict[str, dict[str, Any]] = {f"sk-{team}": {"team_id": team} for team in DEFAULT_TEAMS}
    table["sk-admin"] = {"team_id": None, "team_alias": None, "user_role": "proxy_admin"}
    if path is not None:
        table = json.loads(path.read_text(encoding="utf-8"))
    return {key: _key(key, fields) for key, fields in table.items()}


def _key(key: str, fields: dict[str, Any]) -> UserAPIKeyAuth:
    team = fields.get("team_id", key.removeprefix("sk-"))
    defaults = {"api_key": key, "key_alias": key, "team_id": team, "team_alias": team}
    return UserAPIKeyAuth(**(defaults | fields))


_KEYS = load_keys(Path(os.environ["ERP_DEMO_KEYS"]) if "ERP_DEMO_KEYS" in os.environ else None)


async def user_api_key_auth(request: Request, api_key: str | None) -> UserAPIKeyAuth:
    """LiteLLM's custom auth hook: 401 for a key that is not in the table, and for none."""
    known = _KEYS.get((api_key or "").removeprefix("Bearer "))
    if known is None:
        raise HTTPException(status_code=401, detail="unknown key: use sk-<team> with a team of the demo")
    return known.model_copy(deep=True)
