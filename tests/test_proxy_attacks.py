"""Ways to get more out of a ``reject`` budget than it has, each tried on a real proxy.

The upstream's own log is the truth. Whatever a client does, it may spend what the budget has and one request's worth
for each that it has under way at once; afterwards it gets 429. ``pytest -s`` prints what each attack came to.
"""

from __future__ import annotations

import base64
import itertools
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from demo.proxy_process import ProxyProcess, StubProcess
from demo.stub.counting import MAX_COMPLETION_TOKENS
from tests.harness import GROUP, MODELS, PATHS, PRICES, SPARE, Json, ask, cost_of, deployment, proxy_config, write_keys
from tests.harness import prompt_fields as fields_of
from tests.planted import prompt_of
from tests.pools import add_group, erp_settings, group_settings, wait_until

pytestmark = pytest.mark.proxy

BUDGET_USD = 0.005
# What the longest answer of the dearest model costs, with its prompt.
ANSWER_USD = (MAX_COMPLETION_TOKENS * PRICES["big"][1] + 50 * PRICES["big"][0]) / 1e6
OTHER = "erp-other"
TEAMS = 120
STREAMS = ["chat", "completions", "responses", "messages", "google-stream"]
OUTPUT_LIMITS: dict[str, Json] = {
    "chat": {"max_tokens": 64},
    "completions": {"max_tokens": 64},
    "responses": {"max_output_tokens": 64},
    "messages": {"max_tokens": 64},
    "google-stream": {"generationConfig": {"maxOutputTokens": 64}},
}
Send = Callable[[str, str], int]
_WORD = re.compile(r'" \d+"')
_team_numbers, _prompt_numbers = itertools.count(), itertools.count()
_told: list[str] = []


@pytest.fixture(scope="module")
def proxy(start_module_proxy, stub_process, planted_bundle, tmp_path_factory) -> Iterator[ProxyProcess]:
    rejects = {"budget_usd": BUDGET_USD, "per": "month", "on_exhausted": "reject"}
    teams: Json = {f"t{i}": rejects for i in range(TEAMS)}
    teams |= {"rich": {"lambda": 0}, "lent": {**rejects, "allow_override": True}}
    settings = erp_settings(planted_bundle, {OTHER: group_settings(planted_bundle, teams=teams)}, teams=teams)
    config = proxy_config(
        stub_process,
        erp_settings=settings,
        router_settings={
            "num_retries": 2,
            "disable_cooldowns": True,
            "model_group_alias": {"nick": GROUP},
            "fallbacks": [{SPARE: [GROUP]}],
        },
        litellm_settings={"cache": True, "cache_params": {"type": "local"}},
    )
    add_group(config, stub_process, OTHER)
    config["model_list"].append(deployment(stub_process, SPARE))
    keys: Json = {f"sk-{name}": {"team_id": name} for name in teams}
    keys |= {f"sk-own-{i}": {"team_id": f"t{i}", "metadata": {"erp": {"lambda": 0}}} for i in range(TEAMS)}
    keys |= {f"sk-narrow-{i}": {"team_id": f"t{i}", "models": [GROUP]} for i in range(TEAMS)}
    started = start_module_proxy(config, env=write_keys(tmp_path_factory.mktemp("keys") / "keys.json", keys))
    yield started
    print("", "| attack | requests | refused | USD spent | allowed |", "|---|---|---|---|---|", *_told, sep="\n")


@pytest.fixture
def team(proxy: ProxyProcess, stub: StubProcess) -> str:
    """A team that has spent nothing; the stub's record is empty."""
    return f"t{next(_team_numbers)}"


def poem() -> str:
    """A prompt that ``big`` is best at, never asked before."""
    number = next(_prompt_numbers)
    return f"{prompt_of('poetry', number)} {number}"


def attack(
    request: pytest.FixtureRequest,
    stub: StubProcess,
    team: str,
    send: Send,
    *,
    answers: int = 1,
    at_once: int = 1,
    most: int = 400,
    budgets: int = 1,
    unsettled: int = 0,
    refused: bool = True,
) -> list[int]:
    """Send until the team is refused twice, and compare what that cost with what it may.

    Parameters
    ----------
    send : takes a key and a prompt, and returns the status
    answers : that one request asks for, at most
    budgets : that it may spend
    unsettled : requests whose cost may not be known yet when the next comes, on a busy machine
    refused : whether it is to end in 429
    """
    statuses: list[int] = []
    with ThreadPoolExecutor(at_once) as threads:
        while len(statuses) < most and statuses[-2:] != [429, 429]:
            statuses += threads.map(lambda _: send(f"sk-{team}", poem()), range(at_once))
    settled = -1.0
    while settled != cost_of(stub):
        settled = cost_of(stub)
        time.sleep(0.05)
    allowed = budgets * BUDGET_USD + (at_once + unsettled) * answers * ANSWER_USD
    name = request.node.name.removeprefix("test_").replace("_", " ")
    _told.append(f"| {name} | {len(statuses)} | {statuses.count(429)} | {settled:.4f} | {allowed:.4f} |")
    assert settled <= allowed, statuses
    if refused:
        assert statuses[-2:] == [429, 429], statuses
    return statuses


def plain(proxy: ProxyProcess, route: str = "chat", **body: Any) -> Send:
    return lambda key, prompt: ask(proxy, prompt, route=route, key=key, **body).status


def drop(proxy: ProxyProcess, route: str, key: str, prompt: str, *, after: int, **body: Any) -> int:
    """Read so many words of a streamed answer, or only its first bytes, and hang up; the status."""
    sent = {"model": GROUP, **fields_of(route, prompt), "stream": True, **body}
    url = f"{proxy.base_url}{PATHS[route].format(model=GROUP)}"
    words = 0
    with (
        httpx.Client(trust_env=False, verify=False, timeout=60.0) as client,
        client.stream("POST", url, json=sent, headers={"Authorization": f"Bearer {key}"}) as answer,
    ):
        for line in answer.iter_lines() if after else itertools.islice(answer.iter_raw(), 1):
            words += _WORD.search(str(line)) is not None
            if words >= after:
                break
        return answer.status_code


def window(proxy: ProxyProcess, team: str) -> Json:
    answer = httpx.get(
        f"{proxy.base_url}/erp/teams/{team}",
        headers={"Authorization": f"Bearer sk-{team}"},
        trust_env=False,
        timeout=60.0,
    )
    return next(t["window"] for t in answer.json()["teams"] if t["group"] == GROUP)


# --- Many answers for one ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [8, 100, "100", 100.0, 10**400], ids=lambda n: repr(n)[:6])
@pytest.mark.parametrize("route", ["chat", "completions"])
def test_n(request, proxy, stub, team, route, n):
    asked = int(min(float(n), 128)) if n != 10**400 else 1
    attack(request, stub, team, plain(proxy, route, n=n), answers=asked, most=24, refused=n != 10**400)
    if asked * 1e-4 > BUDGET_USD:
        assert cost_of(stub) == 0


@pytest.mark.parametrize("best_of", [8, "100"])
def test_best_of(request, proxy, stub, team, best_of):
    attack(request, stub, team, plain(proxy, "completions", best_of=best_of), answers=int(best_of), most=24)


def test_n_where_litellm_hands_on_what_it_does_not_know(request, proxy, stub, team):
    attack(request, stub, team, plain(proxy, extra_body={"n": 100}), answers=1, most=12)
    assert cost_of(stub) == 0


def test_candidates_of_google(request, proxy, stub, team):
    config = {"candidateCount": 8, "maxOutputTokens": 400}
    attack(request, stub, team, plain(proxy, "google", generationConfig=config), answers=8)


@pytest.mark.parametrize("kind", ["texts", "tokens"])
def test_lists_of_prompts(request, proxy, stub, team, kind):
    def send(key: str, prompt: str) -> int:
        listed: Any = [f"{prompt} {i}" for i in range(8)] if kind == "texts" else [[7, 8, next(_prompt_numbers)]] * 8
        return ask(proxy, listed, route="completions", key=key).status

    attack(request, stub, team, send, answers=8)


def test_one_prompt_of_many_tokens_without_a_text(request, proxy, stub, team):
    def send(key: str, prompt: str) -> int:
        tokens: Any = [next(_prompt_numbers)] * 4000
        return ask(proxy, tokens, route="completions", key=key).status

    attack(request, stub, team, send, answers=4)


# --- Streams that nobody reads to their end ---------------------------------------------------------------------------


@pytest.mark.parametrize(("route", "at_once"), [("chat", 1), *((route, 8) for route in STREAMS)])
def test_a_stream_dropped_just_before_its_end(request, proxy, stub, team, route, at_once):
    for model in MODELS:
        stub.set_mode(model, "drip:0")
    limit = OUTPUT_LIMITS[route]
    attack(request, stub, team, lambda *sent: drop(proxy, route, *sent, after=58, **limit), at_once=at_once)


@pytest.mark.parametrize("route", STREAMS)
def test_a_long_stream_dropped_late_counts_what_was_streamed(proxy, stub, team, route):
    for model in MODELS:
        stub.set_mode(model, "drip:0")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: drop(proxy, route, f"sk-{team}", poem(), after=300), range(4)))
    wait_until(lambda: window(proxy, team)["reserved_usd"] < 1e-9, 10.0)
    # The upstream is ahead of what its client has read, by a third at most: 300 words of 448.
    assert window(proxy, team)["spent_usd"] >= 0.6 * cost_of(stub) > 0


@pytest.mark.parametrize("route", STREAMS)
def test_a_stream_dropped_at_once(request, proxy, stub, team, route):
    for model in MODELS:
        stub.set_mode(model, "drip:0")
    attack(request, stub, team, lambda *sent: drop(proxy, route, *sent, after=0, **OUTPUT_LIMITS[route]))


def test_a_request_whose_client_does_not_wait_for_the_answer(request, proxy, stub, team):
    for model in MODELS:
        stub.set_mode(model, "slow:0.4")

    def send(key: str, prompt: str) -> int:
        try:
            return ask(proxy, prompt, key=key, timeout_s=0.2, max_tokens=64).status
        except httpx.ReadTimeout:
            return 0

    attack(request, stub, team, send)


# --- Failures that a client asks for ----------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["chat", "completions", "responses", "messages"])
def test_a_time_out_that_the_client_sets(request, proxy, stub, team, route):
    for model in MODELS:
        stub.set_mode(model, "slow:0.4")
    # Each of three tries has reached an upstream.
    attack(request, stub, team, plain(proxy, route, timeout=0.1, **OUTPUT_LIMITS[route]), answers=3)


def test_upstreams_that_fail_first(request, proxy, stub, team):
    def send(key: str, prompt: str) -> int:
        stub.set_mode("big", "fail:1")
        return ask(proxy, prompt, key=key).status

    attack(request, stub, team, send, answers=3, most=48, refused=False)


# What LiteLLM cannot read as a number at all is no answer for the client either, but in a stream.
USAGE = [("chat", True, kind) for kind in ("negative", "huge", "nan", "text", "missing")]
USAGE += [(route, False, kind) for route in ("chat", "responses", "messages") for kind in ("negative", "missing")]


@pytest.mark.parametrize(("route", "stream", "kind"), USAGE)
def test_usage_that_makes_no_sense(request, proxy, stub, team, kind, route, stream):
    for model in MODELS:
        stub.set_mode(model, f"usage:{kind}")
    limit = OUTPUT_LIMITS[route]
    attack(request, stub, team, plain(proxy, route, stream=stream, **limit), answers=3, refused=False, most=24)


# --- Other names, and several at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "calls"),
    [
        ("nick", 1),
        (SPARE, 1),
        (f"{GROUP},small", 2),
        (f"small,{GROUP}", 2),
        (f"{GROUP},{GROUP}", 2),
        (f"{GROUP}, nick ,{GROUP}", 3),
        (f"{GROUP},{OTHER}", 2),
        (",".join([GROUP] * 12), 12),
    ],
)
def test_another_name(request, proxy, stub, team, model, calls):
    stub.set_mode(SPARE, "401")
    send, several = plain(proxy, model=model), int(calls > 1)
    attack(request, stub, team, send, answers=calls, budgets=2 if OTHER in model else 1, unsettled=several)


@pytest.mark.parametrize("model", [f"{GROUP},small", f"{GROUP},{GROUP}"])
def test_the_fastest_of_several(request, proxy, stub, team, model):
    attack(request, stub, team, plain(proxy, model=model, fastest_response=True), answers=2)


def test_lists_of_conversations(request, proxy, stub, team):
    def send(key: str, prompt: str) -> int:
        many = [[{"role": "user", "content": f"{prompt} {i}"}] for i in range(10)]
        return ask(proxy, key=key, model=f"{GROUP},{GROUP}", messages=many).status

    attack(request, stub, team, send, answers=20)


def test_a_fallback_that_the_client_names(request, proxy, stub, team):
    stub.set_mode(SPARE, "401")
    attack(request, stub, team, plain(proxy, model=SPARE, fallbacks=[GROUP]))


def test_the_same_again_from_the_cache_is_free_and_not_for_ever(request, proxy, stub, team):
    poems = [poem() for _ in range(3)]
    attack(
        request, stub, team, lambda key, _: ask(proxy, poems[next(_prompt_numbers) % 3], key=key).status, refused=False
    )
    attack(request, stub, team, plain(proxy, cache={"no-cache": True}))


# --- Lies -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 10**400], ids=lambda limit: repr(limit)[:6])
@pytest.mark.parametrize(
    ("route", "field"),
    [
        ("responses", "max_tokens"),
        ("messages", "max_output_tokens"),
        ("google", "max_tokens"),
        ("chat", "max_output_tokens"),
        ("completions", "max_output_tokens"),
    ],
)
def test_a_lie_about_the_length(request, proxy, stub, team, route, field, limit):
    attack(request, stub, team, plain(proxy, route, **{field: limit}), refused=False, most=24)


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": {"erp": {"lambda": 0}}},
        {"metadata": {"user_api_key_team_id": "rich", "team_id": "rich", "user_api_key_auth": {"team_id": "rich"}}},
        {"litellm_metadata": {"user_api_key_team_id": "rich", "user_api_key_auth": {"team_id": "rich"}}},
        {"metadata": {"tags": ["rich"]}, "user": "rich"},
        {"metadata": {"litellm_erp": {"group": "none"}}, "litellm_erp": {"x": 1}},
        {"metadata": {"previous_models": [1], "model_group": "small"}, "_target_order": 1},
    ],
    ids=range(6),
)
@pytest.mark.parametrize("route", ["chat", "responses"])
def test_whose_request_it_is_said_to_be(request, proxy, stub, team, route, body):
    attack(request, stub, team, plain(proxy, route, **body))


def test_a_wish_of_the_request(request, proxy, stub, team):
    attack(request, stub, team, plain(proxy, headers={"x-erp-lambda": "0"}))


def test_a_wish_that_is_granted_lifts_no_budget(request, proxy, stub):
    attack(request, stub, "lent", plain(proxy, headers={"x-erp-lambda": "0"}))


def test_a_goal_of_the_key(request, proxy, stub, team):
    attack(request, stub, team, lambda _, prompt: ask(proxy, prompt, key=f"sk-own-{team[1:]}").status)


def test_a_forged_id_of_an_earlier_response(request, proxy, stub, team):
    written = "litellm:custom_llm_provider:openai;model_id:dep-big;response_id:resp_1"
    forged = f"resp_{base64.b64encode(written.encode()).decode()}"
    attack(request, stub, team, plain(proxy, "responses", previous_response_id=forged), most=24, refused=False)


def test_forged_reasoning(request, proxy, stub, team):
    wrapped = base64.b64encode(b"model_id:dep-big").decode()
    item = {"type": "reasoning", "id": "rs_1", "encrypted_content": f"litellm_enc:{wrapped};x", "summary": []}

    def send(key: str, prompt: str) -> int:
        items = [item, {"role": "user", "content": prompt}]
        return ask(proxy, route="responses", key=key, input=items).status

    attack(request, stub, team, send, most=48, refused=False)


def test_a_deployments_id_is_litellms_to_allow(proxy, stub, team):
    assert ask(proxy, poem(), key=f"sk-narrow-{team[1:]}", model="dep-big").status in (401, 403)
    assert stub.requests() == []


# --- At once, and no lock-out -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["chat", "responses", "messages"])
def test_a_burst(request, proxy, stub, team, route):
    attack(request, stub, team, plain(proxy, route), at_once=16, most=96)


def test_nothing_stays_held_of_what_was_reported(proxy, stub, team):
    key = f"sk-{team}"
    for route in STREAMS:
        ask(proxy, poem(), route=route, key=key, stream=True, **OUTPUT_LIMITS[route])
    for model in MODELS:
        stub.set_mode(model, "drip:0.001")
    for route in STREAMS:
        drop(proxy, route, key, poem(), after=3, **OUTPUT_LIMITS[route])
    wait_until(lambda: window(proxy, team)["reserved_usd"] < 1e-9, 10.0)
    assert window(proxy, team)["spent_usd"] > 0
