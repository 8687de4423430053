"""Whatever breaks inside the plugin, no user's request fails: 1,000 requests and none lost.

Embedders that wait (endpoint, transformer) are also made to hang. The static one is not: it does no IO and runs on the
event loop, where nothing can interrupt it; what bounds its time is the cut of a prompt before it is read, which the
hostile prompts put to the test.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from bench.synthetic import write_bundle
from demo.proxy_process import ProxyProcess, StubProcess
from litellm_erp.bundle.load import load_bundle
from tests.harness import ERP_CALLBACK, GROUP, SPARE, proxy_config, served
from tests.planted import BEST
from tests.pools import add_group, ask_all, erp_settings, failures, fit_bundle, group_settings, prompts, wait_until

pytestmark = pytest.mark.proxy

# Sixteen modes; with the requests of the other tests more than 1,000.
PER_MODE = 55
MODES = {
    "erp-endpoint": ["500", "429", "hang", "close", "wrong_shape", "nan"],
    "erp-transformer": ["raises", "bug", "hang", "shape", "nan"],
    "erp-static": ["raises", "shape", "nan", "bug", "zero"],
}
BROKEN = [(kind, mode) for kind, modes in MODES.items() for mode in modes]
MEGABYTES_5 = 5_000_000
HOSTILE = {
    "one-word": "a" * MEGABYTES_5,
    "punctuation": "!?;" * (MEGABYTES_5 // 3),
    "lone-surrogates": "\ud800\udfff \udc00" * 50,
    "control-characters": "".join(map(chr, range(32))) * 50,
    "null": "\0",
    "newlines": "\n" * 10_000,
    "combining": "e" + "\u0301" * 10_000,
    "bidi": "\u202e\u2066abc\u2069" * 500,
}


@dataclass(frozen=True)
class Broken:
    """A proxy with groups for each kind of embedder, and what breaks them.

    A group is left alone for some seconds after repeated failures, so every mode has one of its own.
    """

    proxy: ProxyProcess
    stub: StubProcess
    mode_file: Path
    bundle: Path

    def set_mode(self, kind: str, mode: str) -> None:
        if kind == "erp-endpoint":
            self.stub.set_mode(SPARE, mode)
        else:
            self.mode_file.write_text(mode, encoding="utf-8")

    def ask(self, group: str, count: int, **options: int):
        """Answers to prompts that were never asked before, so that no cache has them."""
        first = next(_numbers) * 1000
        return ask_all(self.proxy, [{"prompt": f"{text} ({first + i})", "model": group}
                                    for i, (_, text) in enumerate(prompts(count, first))], **options)  # fmt: skip


_numbers = iter(range(1, 10_000))


def groups_of(kind: str) -> list[str]:
    return [kind, *(f"{kind}.{mode}" for mode in MODES[kind])]


@pytest.fixture(scope="module")
def broken(start_module_proxy, stub_process, planted_bundle, tmp_path_factory) -> Broken:
    folder = tmp_path_factory.mktemp("broken")
    stub_process.reset()
    endpoint = stub_process.api_base(SPARE)
    bundles = dict.fromkeys(MODES, planted_bundle) | {"erp-endpoint": fit_bundle(folder / "fit", embedder=endpoint)}
    urls = {"erp-endpoint": {"url": endpoint}}

    def embedder(kind: str, group: str) -> dict[str, object]:
        # A busy machine may take a quarter of a second over what works; what is broken must not be waited for.
        return {**urls.get(kind, {}), "timeout_ms": 10_000 if group == kind else 250}

    groups = {
        kind: {group: group_settings(bundle, embedder=embedder(kind, group)) for group in groups_of(kind)}
        for kind, bundle in bundles.items()
    }
    own = Path(shutil.copytree(planted_bundle, folder / "bundle"))
    config = proxy_config(
        stub_process,
        erp_settings=erp_settings(own, groups["erp-endpoint"]),
        callbacks=[ERP_CALLBACK, "tests.broken_embedders.static_router", "tests.broken_embedders.transformer_router"],
    )
    for group in (group for kind in MODES for group in groups_of(kind)):
        add_group(config, stub_process, group)
    (folder / "mode").write_text("ok", encoding="utf-8")
    env = {"BROKEN_MODE": str(folder / "mode")}
    for kind, variable in (("erp-static", "BROKEN_STATIC"), ("erp-transformer", "BROKEN_TRANSFORMER")):
        path = folder / f"{kind}.yaml"
        path.write_text(yaml.safe_dump({"groups": groups[kind]}), encoding="utf-8")
        env[variable] = str(path)
    return Broken(start_module_proxy(config, env=env), stub_process, folder / "mode", own)


@pytest.fixture
def well(broken: Broken, stub: StubProcess) -> Broken:
    """The proxy, with every embedder at work again."""
    broken.mode_file.write_text("ok", encoding="utf-8")
    return broken


@pytest.mark.parametrize("kind", MODES)
def test_an_embedder_that_works_finds_the_planted_signal(well, kind):
    answers = well.ask(kind, 30)
    right = sum(BEST[about] == model for about, model in zip(list(BEST) * 10, served(answers), strict=True))
    assert right >= 24
    # A prompt unlike those of training may lean towards the best single model.
    reasons = [answer.erp["reason"] for answer in answers]
    assert set(reasons) <= {"routed", "safe-default"}
    assert reasons.count("routed") >= 24


@pytest.mark.parametrize(("kind", "mode"), BROKEN)
def test_a_broken_embedder_costs_no_request_and_is_named(well, kind, mode):
    well.set_mode(kind, mode)
    answers = well.ask(f"{kind}.{mode}", PER_MODE)
    assert failures(answers) == []
    assert [answer.erp["model"] for answer in answers] == served(answers)
    # A zero vector is what the static embedder gives text without a token; a hang is skipped once it repeats.
    named = {"zero": {"routed"}, "hang": {"fallback:embedding-timeout", "fallback:embedding"}}
    expected = {"fallback:error"} if (kind, mode) == ("erp-static", "bug") else named.get(mode, {"fallback:embedding"})
    assert {answer.erp["reason"] for answer in answers} == expected


@pytest.mark.parametrize(("kind", "mode"), [("erp-endpoint", "hang"), ("erp-transformer", "raises")])
def test_an_embedder_that_recovers_is_used_again(well, kind, mode):
    well.set_mode(kind, mode)
    assert failures(well.ask(kind, 10)) == []
    well.set_mode(kind, "ok")
    wait_until(lambda: well.ask(kind, 1)[0].erp["reason"] == "routed")


@pytest.mark.parametrize("name", HOSTILE)
def test_no_prompt_is_too_odd(well, name):
    # Without the plugin, `small`; LiteLLM itself can send no lone surrogate.
    expected = ask_ascii(well.proxy, "small", HOSTILE[name]).status_code
    assert (expected == 200) == (name != "lone-surrogates")
    for kind in MODES:
        answer = ask_ascii(well.proxy, kind, HOSTILE[name])
        assert answer.status_code == expected
        # What LiteLLM refuses before it routes has no decision.
        assert expected != 200 or answer.headers["x-erp-reason"] in ("routed", "safe-default", "retry")


def ask_ascii(proxy: ProxyProcess, model: str, prompt: str) -> httpx.Response:
    """As ``ask``, with escapes for what UTF-8 cannot write."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": prompt}]})
    headers = {"Authorization": "Bearer sk-research", "Content-Type": "application/json"}
    url = f"{proxy.base_url}/v1/chat/completions"
    return httpx.post(url, content=body, headers=headers, timeout=120, trust_env=False, verify=False)


def test_a_bundle_that_vanishes_keeps_serving(well, planted_bundle):
    shutil.rmtree(well.bundle)
    answers = well.ask(GROUP, 60, at_once=2)
    wait_until(lambda: "keeping bundle" in well.proxy.log_text())
    answers += well.ask(GROUP, 10)
    assert failures(answers) == []
    assert {answer.erp["bundle"] for answer in answers} == {load_bundle(planted_bundle).id}
    assert "does not exist" in well.proxy.log_text()


def test_a_corrupt_bundle_is_reported_and_the_old_one_keeps_serving(well, planted_bundle, shuffled_bundle):
    shutil.rmtree(well.bundle, ignore_errors=True)
    shutil.copytree(shuffled_bundle, well.bundle)
    probe = next((well.bundle / "probes").iterdir())
    probe.write_bytes(probe.read_bytes()[:-1])
    answers = well.ask(GROUP, 40)
    wait_until(lambda: f"{probe}: truncated" in (well.ask(GROUP, 1) and well.proxy.log_text()))
    answers += well.ask(GROUP, 10)
    assert failures(answers) == []
    assert {answer.erp["bundle"] for answer in answers} == {load_bundle(planted_bundle).id}


def test_a_copy_that_was_seen_half_done_is_used_once_it_is_whole(well, shuffled_bundle):
    shutil.rmtree(well.bundle, ignore_errors=True)
    shutil.copytree(shuffled_bundle, well.bundle)
    probe = next((well.bundle / "probes").iterdir())
    whole = probe.read_bytes()
    probe.write_bytes(whole[:100])
    wait_until(lambda: f"{probe}: truncated: 100 bytes" in (well.ask(GROUP, 1) and well.proxy.log_text()))
    probe.write_bytes(whole)
    wait_until(lambda: well.ask(GROUP, 1)[0].erp["bundle"] == load_bundle(shuffled_bundle).id)


def test_a_bundle_of_another_pool_is_reported_and_the_old_one_keeps_serving(well):
    before = well.ask(GROUP, 1)[0].erp["bundle"]
    shutil.rmtree(well.bundle, ignore_errors=True)
    write_bundle(well.bundle, 3)
    wait_until(lambda: "the bundle of another pool?" in (well.ask(GROUP, 1) and well.proxy.log_text()))
    assert well.ask(GROUP, 1)[0].erp["bundle"] == before


def test_a_good_new_bundle_is_picked_up_without_a_restart(well, tmp_path):
    new = fit_bundle(tmp_path, seed=5)
    before = well.ask(GROUP, 1)[0].erp["bundle"]
    shutil.rmtree(well.bundle, ignore_errors=True)
    shutil.copytree(new, well.bundle)
    wait_until(lambda: well.ask(GROUP, 1)[0].erp["bundle"] == load_bundle(new).id != before)
    assert failures(well.ask(GROUP, 10)) == []
