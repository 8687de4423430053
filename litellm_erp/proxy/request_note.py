"""A request's note in LiteLLM's metadata, and which of a request's two metadata that is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import Any

from litellm_erp.goals.tenant import Tenant
from litellm_erp.proxy.litellm_request import (
    CALLER_KEY,
    MAPPING,
    METADATA_KEYS,
    SPAN_KEY,
    SPEND_METADATA_KEY,
    is_object,
    map_of,
    tenant_in,
)
from litellm_erp.serving.note import Note, facts

NOTE_KEY = "litellm_erp"
# Under which a decision stands in what LiteLLM logs.
LOGGED_KEY = "erp"


def metadata_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata that LiteLLM itself uses for a request; an empty one where there is none.

    Which of two it is differs by route, and clients can send either. LiteLLM's own holds who asks as an object, which
    no body of a request can; without a proxy nobody else writes metadata. On Google's routes a retry has two of them,
    and the request's note is in one.
    """
    found: dict[str, Any] | None = None
    ours: dict[str, Any] | None = None
    for name in METADATA_KEYS:
        metadata = request.get(name)
        if isinstance(metadata, dict):
            if isinstance(metadata.get(NOTE_KEY), Note):
                return metadata
            if ours is None and is_object(metadata.get(CALLER_KEY)):
                ours = metadata
            found = metadata if found is None else found
    # An empty one may be LiteLLM's all the same, and is to be written into.
    kept = found if ours is None else ours
    return {} if kept is None else kept


def note_of(metadata: dict[str, Any]) -> Note:
    """The request's note: made when it is first asked for and changed in place, since fallbacks copy the metadata."""
    note = metadata.get(NOTE_KEY)
    if not isinstance(note, Note):
        note = metadata[NOTE_KEY] = Note()
    return note


def known_note(request: Mapping[str, Any]) -> Note | None:
    """The note that a request has already."""
    note = metadata_of(request).get(NOTE_KEY)
    return note if isinstance(note, Note) else None


def noted(holder: Mapping[str, Any]) -> tuple[Note | None, Mapping[str, Any]]:
    """The note in one of a request's two metadata, and that metadata; (None, {}) where neither has one."""
    for name in METADATA_KEYS:
        metadata = holder.get(name)
        if isinstance(metadata, MAPPING) and isinstance(note := metadata.get(NOTE_KEY), Note):
            return note, metadata
    return None, {}


def tenant_of(metadata: Mapping[str, Any], note: Note) -> Tenant:
    """Who asks, read once for a request: again only where LiteLLM has put another caller there."""
    caller = metadata.get(CALLER_KEY)
    if note.tenant is None or note.caller is not caller or caller is None:
        note.tenant, note.caller = tenant_in(metadata), caller
    return note.tenant


def tell_loggers(note: Note, metadata: dict[str, Any], span: Any) -> None:
    """Hand a decision to whatever LiteLLM logs to: in its ``spend_logs_metadata``, and on the request's span.

    Parameters
    ----------
    span : of OpenTelemetry, where requests are traced
    """
    told = {"group": note.group, **facts(note, note.model or None, "all")}
    kept = metadata.get(SPEND_METADATA_KEY)
    # A key's own may be shared by its requests, and a fallback's is a copy that still has this one.
    metadata[SPEND_METADATA_KEY] = {**kept, LOGGED_KEY: told} if isinstance(kept, dict) else {LOGGED_KEY: told}
    span = span or metadata.get(SPAN_KEY) or _span_in_progress()
    if span is not None:
        with contextlib.suppress(Exception):
            span.set_attributes({f"{LOGGED_KEY}.{name}": value for name, value in told.items()})


def _span_in_progress() -> Any:
    """The span that tracing of the server itself has begun, as newer FastAPIs do; None where nothing traces."""
    if "opentelemetry.sdk.trace" not in sys.modules:
        return None
    from opentelemetry.trace import get_current_span

    return get_current_span()


def group_called(kwargs: Mapping[str, Any]) -> object:
    """The model group that a deployment is about to be called for; None where that is not said."""
    return noted(kwargs)[1].get("model_group")


def called(kwargs: Mapping[str, Any]) -> tuple[Note | None, str]:
    """The note of a request whose deployment is about to be called, and the deployment's id."""
    note, _ = noted(kwargs)
    return note, str(map_of(kwargs.get("model_info")).get("id") or "")
