"""What metrics tell of an embedder that waits: what its cache had, and that it is left alone while it fails."""

import numpy as np
import pytest
from prometheus_client import REGISTRY

from litellm_erp.choice.prompt import from_messages
from litellm_erp.embedding import reader
from litellm_erp.embedding.base import Array
from litellm_erp.embedding.cache import CachedEmbedder
from litellm_erp.embedding.static import StaticEmbedder
from litellm_erp.errors import EmbeddingError
from litellm_erp.goals.settings import parse
from litellm_erp.goals.tenant import Tenant
from litellm_erp.metrics.recorder import metrics
from litellm_erp.serving.deployments import MemberTable
from litellm_erp.serving.group import Ask, RoutedGroup
from litellm_erp.serving.reload import ReloadedBundle

NAME = "erp-embedder-metrics"


class Waiting(StaticEmbedder):
    """An embedder that is awaited, and fails on command."""

    inline = False
    fails = False

    async def aembed(self, text: str) -> Array:
        if self.fails:
            raise EmbeddingError("told to fail")
        return np.asarray(self.embed([text])[0])


def told(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"group": NAME, **labels}) or 0.0


async def test_hits_and_an_open_breaker_are_told(planted_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "_BREAKER_PAUSE_S", 0.0)
    settings = parse({"groups": {NAME: {"bundle": str(planted_bundle)}}}, tmp_path / "erp").groups[NAME]
    waiting = Waiting()
    cached = CachedEmbedder(waiting, looked_up=lambda hit: metrics.looked_up(NAME, hit))
    group = RoutedGroup(settings, ReloadedBundle(settings, embedder=cached))
    table = MemberTable(lambda deployment: {}, lambda *_: None)
    deployments = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}"}, "model_info": {"id": name}}
        for name in group.state.bundle.models
    ]
    members = [table.member(deployment) for deployment in deployments]

    async def decide(text: str) -> None:
        prompt = from_messages([{"role": "user", "content": text}])
        await group.decide(prompt, members, group.grant_of(Tenant()), Ask())

    await decide("once")
    await decide("once")
    assert told("erp_embedder_lookups_total", outcome="miss") == 1
    assert told("erp_embedder_lookups_total", outcome="hit") == 1
    waiting.fails = True
    for i in range(5):
        assert told("erp_embedder_breaker_open") == 0
        with pytest.raises(EmbeddingError):
            await decide(f"failing {i}")
    assert told("erp_embedder_breaker_open") == 1
    waiting.fails = False
    await decide("well again")
    assert told("erp_embedder_breaker_open") == 0
