"""IO. The shards of a fit on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from erp_trainer.bundles.fit_shards import Map, ShardSums
from erp_trainer.pool.pool import RaySettings
from erp_trainer.pool.ray import Workers


def on_ray(settings: RaySettings) -> Map:
    """For ``fit_from_shards``: an embedder in every actor; the driver reads, and a few shards are on their way."""

    def spread(make: Callable[[], Callable[[Any], ShardSums]], shards: Iterable[Any]) -> Iterator[ShardSums]:
        workers = Workers(settings, make)
        try:
            yield from workers.map(shards)
        finally:
            workers.close()

    return spread
