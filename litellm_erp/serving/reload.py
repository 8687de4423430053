"""Which bundle a group serves from: loaded at start, and again whenever its folder holds a new one.

Invariants
----------
* A reload builds a new ``GroupState`` and swaps it, so a request sees one bundle from start to end.
* A bundle that cannot be loaded never replaces one that could.
* Files are read in a thread, never on the event loop.
"""

from __future__ import annotations

import asyncio
import functools
import time
from datetime import datetime
from pathlib import Path

from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.load import load_bundle
from litellm_erp.embedding.base import Embedder
from litellm_erp.embedding.cache import CachedEmbedder
from litellm_erp.embedding.load import embedder_from_spec
from litellm_erp.errors import BundleError, ErpError
from litellm_erp.goals.settings import GroupSettings
from litellm_erp.metrics.recorder import metrics
from litellm_erp.serving.offers import GroupState, Offers
from litellm_erp.shown import shown_names
from litellm_erp.telemetry import logger

# Name, modification time, inode and size of every file.
Signature = tuple[tuple[str, int, int, int], ...]


class ReloadedBundle:
    """The bundle of one group, as it is in its folder.

    Parameters
    ----------
    embedder : used instead of the one the bundle names; for tests and for programs with an embedder at hand
    reload_s : how often the bundle's folder is looked at; 0 never

    Attributes
    ----------
    state : what is served from now

    Raises
    ------
    BundleError, EmbeddingError : the bundle or its embedder cannot be used
    """

    def __init__(self, settings: GroupSettings, *, embedder: Embedder | None = None, reload_s: float = 2.0) -> None:
        self._settings = settings
        self._given_embedder = embedder
        self._reload_s = reload_s
        self._next_look = time.monotonic() + reload_s
        self._loaded = _signature(settings.bundle)
        self._refused: Signature | None = None
        self._reloading: asyncio.Task[bool] | None = None
        self.state = self._load(None)
        _show(settings.name, self.state.bundle)

    def look_periodically(self) -> None:
        """Look for a new bundle in a thread, where it is time to; returns at once."""
        now = time.monotonic()
        if self._reload_s == 0 or now < self._next_look or (self._reloading and not self._reloading.done()):
            return
        self._next_look = now + self._reload_s
        self._reloading = asyncio.get_running_loop().create_task(asyncio.to_thread(self.reload_if_changed))

    def reload_if_changed(self) -> bool:
        """Load the bundle again if its files changed; blocks.

        Returns
        -------
        whether a new bundle is in use; a bad one is reported once and the old one stays
        """
        signature, name, current = _signature(self._settings.bundle), self._settings.name, self.state
        if signature in (self._loaded, self._refused):
            if signature == self._loaded and self._refused is not None:
                self._refused = None
                metrics.refusing(name, False)
            return False
        try:
            state = self._load(current)
            _check_pool(state.bundle, current)
        except ErpError as e:
            self._refused = signature
            metrics.reload(name, "refused")
            logger.warning("group %r: keeping bundle %s: %s", name, current.bundle.id, e)
            return False
        self._loaded, self._refused = signature, None
        logger.warning("group %r: bundle %s replaces %s", name, state.bundle.id, current.bundle.id)
        _show(name, state.bundle)
        metrics.reload(name, "ok")
        self.state = state
        return True

    def _load(self, current: GroupState | None) -> GroupState:
        bundle = load_bundle(self._settings.bundle)
        # An embedder with an empty cache is one too, and has no length.
        embedder = self._embedder(bundle, current) if self._given_embedder is None else self._given_embedder
        return GroupState(bundle, embedder, Offers(self._settings.name, bundle))

    def _embedder(self, bundle: Bundle, current: GroupState | None) -> Embedder:
        wanted = bundle.manifest.embedder
        if current is not None and current.embedder.spec == wanted:
            return current.embedder
        options = self._settings.embedder
        embedder = embedder_from_spec(
            wanted,
            trust_remote_code=options.trust_remote_code,
            api_key=options.api_key,
            url=options.url,
            directory=options.directory or bundle.embedder_directory(),
            timeout_s=options.timeout_s,
        )
        # The static embedder is as fast as a look-up.
        if embedder.inline:
            return embedder
        return CachedEmbedder(embedder, looked_up=functools.partial(metrics.looked_up, self._settings.name))


def _check_pool(bundle: Bundle, current: GroupState) -> None:
    """Refuse a bundle of another pool: none of the models that are deployed would be ranked by it."""
    deployed = current.offers.pool_models()
    if deployed & set(current.bundle.models) and not deployed & set(bundle.models):
        raise BundleError(
            f"{bundle.path}: found probes of {shown_names(bundle.models)}; expected some of the deployed models, "
            f"{shown_names(deployed)}. Is it the bundle of another pool?"
        )


def _show(group: str, bundle: Bundle) -> None:
    try:
        created_s = datetime.fromisoformat(str(bundle.manifest.created.get("at"))).timestamp()
    except (ValueError, OverflowError):
        created_s = None
    metrics.loaded(group, bundle.id, created_s, bundle.frontier.document["verdict"])


def _signature(path: Path) -> Signature:
    """What tells one state of a bundle's folder from another: a copy in progress differs from the finished one."""
    try:
        stats = [(file, file.stat()) for file in sorted(path.rglob("*")) if file.is_file()]
    except OSError:
        return ()
    return tuple((str(file), stat.st_mtime_ns, stat.st_ino, stat.st_size) for file, stat in stats)
