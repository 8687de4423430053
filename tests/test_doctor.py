"""The doctor says what would keep a proxy from routing, and what it says is what a proxy does."""

import copy
import json
import os
import re

import httpx
import pytest
import yaml
from click.testing import CliRunner

from demo.proxy_process import ProxyProcess
from erp_trainer.cli import cli
from erp_trainer.console import columns, padded, printable
from erp_trainer.pool.config_checks import check_config
from erp_trainer.pool.proxy_config import parse_config
from erp_trainer.pool.settings_checks import check_settings
from litellm_erp import litellm_releases as releases
from litellm_erp.bundle.load import load_bundle
from litellm_erp.errors import ServingError
from litellm_erp.goals.settings import parse
from litellm_erp.goals.tenant import Tenant
from litellm_erp.serving.checks import check_router, near_miss, router_view
from litellm_erp.serving.deployments import MemberTable
from litellm_erp.serving.team_view import team_view
from tests.bundles import write_bundle
from tests.harness import GROUP, ask, proxy_config, served, write_config, write_keys
from tests.pools import erp_settings, prompts

NAMES = ("small", "org/mid", "big")


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "bundle", NAMES)


@pytest.fixture
def config(bundle):
    """A config that would route, of which nothing but info is to be said."""
    return {
        "model_list": [
            {
                "model_name": name,
                "litellm_params": {"model": f"openai/{name}", "api_base": "http://127.0.0.1:9/v1", "api_key": "x"},
                "model_info": {"max_input_tokens": 8192},
            }
            for name in (*NAMES, "spare")
        ],
        "litellm_settings": {"callbacks": ["litellm_erp.proxy.erp_router"]},
        "general_settings": {"master_key": "sk-of-this-test"},
        "router_settings": {
            "routing_groups": [{"group_name": "auto", "models": list(NAMES), "routing_strategy": "simple-shuffle"}],
            "optional_pre_call_checks": ["responses_api_deployment_check"],
        },
        "erp_settings": {"groups": {"auto": {"bundle": str(bundle), "teams": {"a": {"lambda": 2}}}}},
    }


def doctor(folder, config, *options):
    path = write_config(folder / "config.yaml", config)
    result = CliRunner().invoke(cli, ["doctor", str(path), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def findings(folder, config):
    result = doctor(folder, config, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == (0 if report["routes"] else 1)
    return report, [(finding["level"], finding["text"]) for finding in report["findings"]]


def router(config, **settings):
    config["router_settings"] |= settings


def test_of_a_config_that_routes_nothing_is_said(tmp_path, config):
    report, found = findings(tmp_path, config)
    assert (report["routes"], found) == (True, [])
    assert doctor(tmp_path, config).output.splitlines()[-1] == "would route"


def group_of(config):
    return config["router_settings"]["routing_groups"][0]


def settings_of(config):
    return config["erp_settings"]["groups"]


def first(config):
    return config["model_list"][0]["litellm_params"]


MONTHLY = {"budget_usd": 5, "per": "month"}
# What is changed, the level of what is said, and what is said.
MISTAKES = {
    "in no routing group": (
        lambda c: settings_of(c).update(other=settings_of(c)["auto"]), "error", "'other': is in no"),
    "a slip in its name": (
        lambda c: settings_of(c).update(Auto=settings_of(c).pop("auto")), "error", "did you mean 'auto'?"),
    "no groups at all": (lambda c: c["router_settings"].pop("routing_groups"), "error", "is in no routing group"),
    "a group without deployments": (
        lambda c: c.update(model_list=c["model_list"][3:]), "error", "none of its models is in model_list"),
    "a fallback to nothing": (
        lambda c: router(c, fallbacks=[{"auto": ["spar"]}]),
        "warning", "no model, alias or routing group is called so; "
        "did you mean 'spare'?"),
    "a fallback of LiteLLM's to nothing": (
        lambda c: c["litellm_settings"].update(fallbacks=[{"auto": ["gone"]}]), "warning", "lead to 'gone'"),
    "a fallback of nobody": (lambda c: router(c, fallbacks=[{"atuo": ["spare"]}]), "warning", "'atuo' never apply"),
    "a fallback to itself": (lambda c: router(c, fallbacks=[{"auto": ["auto"]}]), "warning", "what has just failed"),
    "a fallback to a member": (lambda c: router(c, fallbacks=[{"auto": ["big"]}]), "info", "a member of that group"),
    "a fallback of a member": (
        lambda c: router(c, fallbacks=[{"big": ["spare"]}]), "info", "do not apply to requests for group 'auto'"),
    "a default fallback": (
        lambda c: router(c, default_fallbacks=["gone"]), "warning", "default_fallbacks of '*' lead to"),
    "a longer window": (
        lambda c: router(c, context_window_fallbacks=[{"auto": ["gone"]}]), "warning", "context_window_fallbacks of"),
    "a content policy": (
        lambda c: router(c, content_policy_fallbacks=[{"auto": ["gone"]}]), "warning", "content_policy_fallbacks of"),
    "exploring that nobody learns from": (
        lambda c: settings_of(c)["auto"].update(explore={"share": 0.05, "extra_cost": 0.02}),
        "warning", "explore: there is no decision_log"),
    "exploring as a word": (
        lambda c: settings_of(c)["auto"].update(explore="on"), "error", "explore: found 'on'; expected a map"),
    "no retries": (lambda c: router(c, num_retries=0), "warning", "num_retries is 0"),
    "no retries of LiteLLM's": (lambda c: c["litellm_settings"].update(num_retries=0), "warning", "num_retries is 0"),
    "an unset key": (
        lambda c: first(c).update(api_key="os.environ/NOT_SET_1"), "warning",
        "NOT_SET_1 is not set: model_list[0] (small).litellm_params.api_key"),
    "an unset base": (lambda c: first(c).update(api_base="os.environ/NOT_SET_2"), "warning", "NOT_SET_2 is not set"),
    "an unset model": (
        lambda c: first(c).update(model="os.environ/NOT_SET_3"), "error", "a deployment without a model"),
    "an unset master key": (
        lambda c: c.update(general_settings={"master_key": "os.environ/NOT_SET_4"}),
        "error", "refuses to start"),
    "set too late": (
        lambda c: (c.update(environment_variables={"NOT_SET_5": "x"}), first(c).update(api_key="os.environ/NOT_SET_5")),
        "warning", "reads references before"),
    "an unset secret of ours": (
        lambda c: settings_of(c)["auto"].update(embedder={"url": "http://e", "api_key": "os.environ/NOT_SET_6"}),
        "error", "NOT_SET_6"),
    "a cache": (lambda c: c["litellm_settings"].update(cache=True), "info", "litellm_settings.cache is on"),
    "a cache that is off": (
        lambda c: c["litellm_settings"].update(cache_params={"type": "local"}), "info", "do nothing"),
    "no affinity": (lambda c: c["router_settings"].pop("optional_pre_call_checks"), "info", "previous_response_id"),
    "a strategy that asks nobody": (
        lambda c: router(c, routing_strategy="usage-based-routing"), "error", "which never asks callbacks"),
    "no such strategy": (lambda c: group_of(c).update(routing_strategy="shuffle"), "error", "Invalid routing_strategy"),
    "no strategy": (lambda c: group_of(c).pop("routing_strategy"), "error", "expected group_name, models"),
    "an order": (lambda c: first(c).update(order=1), "info", "litellm_params.order"),
    "a weight": (lambda c: first(c).update(weight=1), "info", "litellm_params.weight"),
    "an unknown window": (lambda c: c["model_list"][0].pop("model_info"), "info", "is not known of small"),
    "a wildcard": (
        lambda c: (c["model_list"].append({"model_name": "openai/*", "litellm_params": {"model": "openai/*"}}),
                   group_of(c)["models"].append("openai/*")), "warning", "is a wildcard"),
    "one id twice": (
        lambda c: [d.update(model_info={"id": "x", "max_input_tokens": 1}) for d in c["model_list"]], "warning",
        "model_info.id 'x' stands at 'small' and at"),
    "another case": (
        lambda c: (c["model_list"][0].update(model_name="Small"),
                   group_of(c).update(models=["Small", "org/mid", "big"])),
        "warning", "did you mean 'Small'?"),
    "without the prefix": (
        lambda c: (c["model_list"][1].update(model_name="mid"), group_of(c).update(models=["small", "mid", "big"])),
        "warning", "did you mean 'mid'?"),
    "a member in two groups": (
        lambda c: c["router_settings"]["routing_groups"].append(
            {"group_name": "b", "models": ["big"], "routing_strategy": "simple-shuffle"}),
            "error", "LiteLLM allows one"),
    "a group twice": (
        lambda c: c["router_settings"]["routing_groups"].append(
            {"group_name": "auto", "models": ["spare"], "routing_strategy": "simple-shuffle"}),
            "error", "stands twice"),
    "a reserved name": (lambda c: group_of(c).update(group_name="default"), "error", "reserved"),
    "a provider that is none": (
        lambda c: first(c).update(model="nonsense"), "warning", "leaves out a deployment of 'small'"),
    "no such setting": (
        lambda c: router(c, routing_group=[]), "warning", "did you mean 'routing_groups'?"),
    "a price in words": (
        lambda c: first(c).update(input_cost_per_token="free"), "warning", "leaves out a deployment of 'small'"),
    "only such": (
        lambda c: [d["litellm_params"].update(model="x") for d in c["model_list"]], "error", "none of its models"),
    "an alias of the same name": (lambda c: router(c, model_group_alias={"auto": "small"}), "error", "hides the group"),
    "no model": (lambda c: first(c).pop("model"), "error", "expected a map with model_name and litellm_params.model"),
    "a list for a map": (lambda c: c.update(litellm_settings=["x"]), "error", "litellm_settings: found a list"),
    "no plugin": (
        lambda c: c["litellm_settings"].update(callbacks=["prometheus"]), "error", "does not name the plugin"),
    "no settings": (lambda c: c.pop("erp_settings"), "error", "no erp_settings"),
    "teams that nobody is asked for": (
        lambda c: c.pop("general_settings"), "warning", "teams (a) never apply, because LiteLLM asks nobody for a key"),
    "a budget in memory": (
        lambda c: settings_of(c)["auto"].update(policy=MONTHLY), "warning", "a restart begins them anew"),
    "a team's budget in memory": (
        lambda c: settings_of(c)["auto"].update(teams={"a": MONTHLY}), "warning", "a restart begins them anew"),
    "a decision log that is a file": (
        lambda c: c["erp_settings"].update(decision_log={"path": __file__}), "warning", "is no folder; name another"),
    "a decision log in a file": (
        lambda c: c["erp_settings"].update(decision_log={"path": f"{__file__}/log"}), "warning", "is no folder"),
    "a budget file nowhere": (
        lambda c: c["erp_settings"].update(budget_file="gone/b.json"), "warning", "its folder is not there; make it"),
    "no bundle": (lambda c: settings_of(c)["auto"].update(bundle="gone"), "error", "gone"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_each_mistake_is_found_and_only_an_error_keeps_from_routing(tmp_path, config, case, monkeypatch):
    # From 1.110 on, no strategy is a mistake.
    monkeypatch.setattr(releases, "installed", lambda: "1.108.7")
    change, level, said = MISTAKES[case]
    change(config)
    report, found = findings(tmp_path, config)
    assert [text for known, text in found if known == level and said in text], found
    assert report["routes"] == ("error" not in {known for known, _ in found})
    assert level == "error" or report["routes"], found


SOUND = {
    "a budget file": lambda c: c["erp_settings"].update(budget_file="./budgets.json"),
    "a Redis of ours": lambda c: c["erp_settings"].update(redis={"url": "os.environ/A_REDIS_URL"}),
    "LiteLLM's Redis": lambda c: router(c, redis_host="localhost"),
    "a Redis cache": lambda c: c["litellm_settings"].update(cache=True, cache_params={"type": "redis"}),
    "a folder to be made": lambda c: c["erp_settings"].update(
        decision_log={"path": "./of/logs"}, budget_file="./budgets.json"
    ),
}


@pytest.mark.parametrize("case", SOUND)
def test_of_budgets_that_are_kept_nothing_is_said(tmp_path, config, case, monkeypatch):
    monkeypatch.setenv("A_REDIS_URL", "redis://localhost")
    settings_of(config)["auto"].update(policy=MONTHLY)
    SOUND[case](config)
    settings = parse(config["erp_settings"], tmp_path / "config.yaml")
    monkeypatch.delenv("A_REDIS_URL")
    assert check_settings(settings, parse_config(config)) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_decision_log_where_this_user_may_not_write_is_found(tmp_path, config):
    (tmp_path / "logs").mkdir(mode=0o500)
    config["erp_settings"]["decision_log"] = {"path": str(tmp_path / "logs")}
    assert [text for _, text in findings(tmp_path, config)[1] if "this user may not write in" in text]


def test_priorities_of_a_routed_group_are_told_to_be_without_effect(config):
    group_of(config).update(routing_strategy="priority", model_priorities=dict.fromkeys(NAMES, 1))
    told = check_config(config, parse_config(config), lambda model: None)
    assert [finding.level for finding in told if "model_priorities of routing group 'auto'" in finding.text] == ["info"]


def test_no_finding_holds_a_secret(tmp_path, config, monkeypatch):
    monkeypatch.setenv("A_KEY", "sk-secret-1")
    first(config).update(model="nonsense", api_key="os.environ/A_KEY", api_base="http://u:sk-secret-2@host/v1")
    config["model_list"][1]["litellm_params"] |= {"rpm": "sk-secret-3", "api_key": ["sk-secret-4"]}
    config["erp_settings"]["groups"]["auto"]["embedder"] = {"api_key": "sk-secret-5"}
    assert "sk-secret" not in doctor(tmp_path, config).output


def test_the_last_line_counts_errors_and_warnings(tmp_path, config):
    router(config, num_retries=0)
    result = doctor(tmp_path, config)
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "would route (1 warning)")
    settings_of(config)["auto"]["bundle"] = "gone"
    settings_of(config)["other"] = {"bundle": "gone"}
    result = doctor(tmp_path, config)
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == "would not route: 3 errors, 1 warning"


def test_a_running_proxy_warns_of_a_group_that_may_still_appear(bundle):
    settings = parse({"groups": {"auto": {"bundle": str(bundle)}}}, bundle)
    view = router_view([], {})
    levels = {running: check_router(view, settings, {}, MemberTable(lambda name: None), running=running)[0].level
              for running in (True, False)}  # fmt: skip
    assert levels == {True: "warning", False: "error"}


def test_making_a_router_to_try_a_config_leaves_no_trace_in_litellm(tmp_path, config):
    import litellm

    before = (dict(litellm.model_cost), list(litellm.callbacks))
    findings(tmp_path, config)
    assert (dict(litellm.model_cost), list(litellm.callbacks)) == before


def test_what_litellm_prints_stays_out_of_the_json(tmp_path, config, monkeypatch):
    import litellm

    monkeypatch.setattr(litellm, "suppress_debug_info", False)
    first(config).update(model="nonsense")
    assert "leaves out a deployment" in findings(tmp_path, config)[1][0][1]


@pytest.mark.parametrize(
    ("release", "standing"),
    [("1.99.4", "tried"), ("1.110.2", "tried"), ("1.110.1", "tried"), ("1.110.9", "untried"), ("1.111.0", "untried"),
     ("2.0.0", "untried"), ("1.104.1", "untried"), ("1.99.0", "too-old"),
     ("1.82.7", "compromised"), ("1.82.8", "compromised"),
     ("1.107.0", "compromised"), ("1.107.12", "compromised"), ("1.82.6", "too-old"), ("nightly", "too-old")],
)  # fmt: skip
def test_what_is_known_of_a_release(release, standing):
    assert releases.standing(release) == standing
    assert (releases.warning(release) is None) == (standing == "tried")


@pytest.mark.parametrize(("release", "level"), [("1.111.0", "warning"), ("1.107.3", "error"), ("1.98.1", "error")])
def test_a_release_that_is_not_known_to_work_is_a_finding(tmp_path, config, monkeypatch, release, level):
    monkeypatch.setattr(releases, "installed", lambda: release)
    report, found = findings(tmp_path, config)
    assert [text for known, text in found if known == level and release in text]
    assert report["routes"] == (level == "warning")


@pytest.mark.parametrize(("release", "asks"), [("1.109.3", False), ("1.110.2", True), (None, False)])
def test_which_strategies_ask_callbacks_is_known_by_release(release, asks):
    assert releases.asks_callbacks("usage-based-routing", release) == asks
    assert releases.asks_callbacks("simple-shuffle", release)
    assert releases.asks_callbacks("lar1", release)


def test_a_near_miss_is_one_of_case_prefix_or_a_slip():
    assert near_miss("gpt-4o", ["openai/GPT-4o", "claude"]) == "; did you mean 'openai/GPT-4o'?"
    assert near_miss("claud-3", ["claude-3"]) == "; did you mean 'claude-3'?"
    assert near_miss("small", ["big", "small"]) == ""


def test_lambda_and_expectation_of_a_team_are_those_of_the_proxys_teams(tmp_path, config, bundle):
    teams = {"a": {"min_quality": 0.5}, "b": {"budget_usd_per_1k_requests": 1.5}, "c": {"budget_usd": 5, "per": "day"}}
    settings_of(config)["auto"] |= {"teams": teams, "policy": {"lambda": 3}, "allow_override": [0, 1]}
    said = findings(tmp_path, config)[0]["groups"]["auto"]
    group = parse(config["erp_settings"], tmp_path).groups["auto"]
    loaded = load_bundle(bundle)
    for team in teams:
        view = team_view(group, loaded.frontier, Tenant(team_id=team), cost_scale=loaded.cost_scale)
        assert (said["teams"][team], said["expected_of_teams"][team]) == (view["lambda"], view["expected"])
    everybody = team_view(group, loaded.frontier, Tenant(), cost_scale=loaded.cost_scale)
    assert (said["lambda"], said["expected"]) == (everybody["lambda"], everybody["expected"])


HOSTILE = ["a\nwould route", "a\x1b[2Jb", "a\u202egpj.exe", "a\x9b31m", "a\rb", "a\u2028b", "a\x7f"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_a_config_move_no_cursor(tmp_path, config, name):
    settings_of(config)["auto"]["teams"] = {name: {"lambda": 1}}
    settings_of(config)[name] = {"bundle": "gone"}
    router(config, fallbacks=[{name: [name + "x"]}])
    for options in ((), ("--json",)):
        output = doctor(tmp_path, config, *options).output
        lines = output.removesuffix("\n").split("\n")
        assert all(line.isprintable() for line in lines), output
        assert options or lines[-1].startswith("would not route")
    assert name in json.loads(doctor(tmp_path, config, "--json").stdout)["groups"]["auto"]["teams"]


@pytest.mark.parametrize("name", HOSTILE)
def test_an_error_and_a_draft_print_names_safely_too(tmp_path, config, name):
    settings_of(config)[name] = {"bundel": 1}
    path = write_config(tmp_path / "config.yaml", config)
    config["model_list"].append({"model_name": f"{name}*", "litellm_params": {"model": "openai/*"}})
    drafted = write_config(tmp_path / "other.yaml", config)
    for arguments in (["inspect", "--teams", path], ["init", drafted, "--out", tmp_path / "pool.yaml"]):
        output = CliRunner().invoke(cli, [str(argument) for argument in arguments]).output
        assert all(line.isprintable() for line in output.split("\n")), output


def test_wide_names_keep_their_columns():
    assert columns("模型-big") == 8
    assert columns("e\u0301") == 1
    assert {columns(padded(text, 12)) for text in ("模型-big", "a", "🚀🚀", "e\u0301")} == {12}
    assert printable("模型 👩\u200d💻 é") == "模型 👩\u200d💻 é"


TEAMS = {
    "research": {"lambda": 0},
    "support": {"min_quality": 0.5},
    "sales": {"budget_usd_per_1k_requests": 0.7},
    "ops": {"budget_usd": 50, "per": "day"},
}
# Started as real proxies: (change, whether it starts, whether it routes).
REAL = {
    "healthy": (lambda c: None, True, True),
    "included": (lambda c: None, True, True),
    "in no routing group": (lambda c: c["router_settings"].pop("routing_groups"), True, False),
    "a strategy that asks nobody": (
        lambda c: router(c, routing_strategy="usage-based-routing"), True,
        releases.asks_callbacks("usage-based-routing", releases.installed())),
    "no such strategy": (lambda c: group_of(c).update(routing_strategy="shuffle"), False, False),
    "an alias hides it": (lambda c: router(c, model_group_alias={GROUP: "big"}), True, False),
    "a fallback of two": (lambda c: router(c, fallbacks=[{"a": ["b"], "c": ["d"]}]), False, False),
}  # fmt: skip


@pytest.mark.proxy
@pytest.mark.parametrize("case", REAL)
def test_a_real_proxy_does_what_the_doctor_says(tmp_path, stub, planted_bundle, case, monkeypatch):
    change, starts, routes = REAL[case]
    monkeypatch.setenv("LITELLM_MASTER_KEY", "sk-for-the-doctor")
    config = proxy_config(stub, erp_settings=erp_settings(planted_bundle, teams=TEAMS))
    change(config)
    if case == "included":
        included = {key: config.pop(key) for key in ("erp_settings", "router_settings")}
        (tmp_path / "more.yaml").write_text(yaml.safe_dump(included))
        config |= {"include": ["more.yaml"], "router_settings": {}}
    report, found = findings(tmp_path, copy.deepcopy(config))
    assert report["routes"] == routes, found
    keys = write_keys(tmp_path / "keys.json", {"sk-research": {}, "sk-admin": {"user_role": "proxy_admin"}})
    path = tmp_path / "config.yaml"
    try:
        with ProxyProcess(path, log_path=tmp_path / "proxy.log", env=keys, start_deadline_s=120) as proxy:
            views = httpx.get(f"{proxy.base_url}/erp/teams", headers={"Authorization": "Bearer sk-admin"}, timeout=60)
            answers = [ask(proxy, text) for _, text in prompts(6)]
    except ServingError:
        assert not starts
        return
    assert starts
    right = [(answer.status, answer.model) for answer in answers] == [(200, best) for best, _ in prompts(6)]
    said = all(re.match("routed|safe-default", answer.headers.get("x-erp-reason", "")) for answer in answers)
    assert (right and said) == routes, [(a.status, a.model, dict(a.headers)) for a in answers]
    told = {view["team"]: (view["lambda"], view["expected"]) for view in views.json()["teams"]}
    of_doctor = report["groups"][GROUP]
    for team in TEAMS:
        # The λ of a sum of money depends on what is left of its window, and what is expected follows it.
        if team != "ops":
            assert told[team] == (of_doctor["teams"][team], of_doctor["expected_of_teams"][team])
    assert set(of_doctor["paced"]) == {"sales", "ops"}
    if routes:
        assert set(served(answers)) == {"small", "mid", "big"}


def test_settings_of_the_environment_count_as_in_the_proxy(tmp_path, config, monkeypatch):
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({"erp_settings": config.pop("erp_settings")}))
    assert not findings(tmp_path, config)[0]["routes"]
    monkeypatch.setenv("ERP_SETTINGS", str(own))
    report, found = findings(tmp_path, config)
    assert report["routes"], found


def test_a_wrong_key_hides_no_other_mistake(tmp_path, config):
    group = next(iter(config["erp_settings"]["groups"].values()))
    group["policy"] = {"lamda": 1}
    config["erp_settings"]["groups"]["elsewhere"] = {"bundle": str(tmp_path / "missing")}
    text = str(findings(tmp_path, config)[1])
    assert "lamda" in text
    assert "missing does not exist" in text
    assert "is in no routing group" in text


def test_a_slip_in_a_models_name_is_told_in_the_last_line_beside_the_groups_own_expectation(tmp_path, config):
    assert ", expected reward" in next(
        line for line in doctor(tmp_path, config).output.splitlines() if "group " in line
    )
    slip = config["model_list"][0]["model_name"]
    config["model_list"][0]["model_name"] = f"{slip}x"
    for group in config["router_settings"]["routing_groups"]:
        group["models"] = [f"{slip}x" if name == slip else name for name in group["models"]]
    result = doctor(tmp_path, config)
    assert result.output.splitlines()[-1].startswith(f"would route without {slip} (")
    assert json.loads(doctor(tmp_path, config, "--json").stdout)["groups"]["auto"]["without"] == [slip]
    assert all(len(line) <= 110 for line in result.output.splitlines() if "Routing helps" in line)
