"""Everything that would keep a proxy config from routing as its owner thinks, in one go."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from erp_trainer.pool.config_checks import check_config, check_shape
from erp_trainer.pool.litellm_map import listed_model
from erp_trainer.pool.proxy_config import info_of, parse_config
from erp_trainer.pool.router_trial import try_arms, try_picks, try_router
from erp_trainer.pool.settings_checks import check_settings
from litellm_erp.budgets.book import SpendBook
from litellm_erp.budgets.counters import Counters
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.load import load_bundle
from litellm_erp.config_file import ConfigFile, read_config
from litellm_erp.embedding import embedder_from_spec
from litellm_erp.errors import ErpError, SettingsError
from litellm_erp.goals import settings as settings_file
from litellm_erp.goals.goal import MONEY
from litellm_erp.goals.settings import Settings
from litellm_erp.goals.tenant import Tenant
from litellm_erp.serving.checks import Finding, check_router, router_view, undeployed, worst_first
from litellm_erp.serving.deployments import Deployment, MemberTable
from litellm_erp.serving.team_view import mode_text, team_view


def examine(config: Path) -> tuple[list[Finding], dict[str, Any]]:
    """Check a proxy config file, the files it includes and the bundles it names.

    Returns
    -------
    findings, and what each routable group would do

    Raises
    ------
    SettingsError : the file does not exist, is not YAML, or includes what cannot be read
    """
    read = read_config(config)
    # LiteLLM prints advice on stdout, where --json has its one object.
    with contextlib.redirect_stdout(io.StringIO()):
        return _examine(read)


def _examine(read: ConfigFile) -> tuple[list[Finding], dict[str, Any]]:
    proxy = parse_config(read.document)
    findings = [
        Finding("warning", f"{line}: the key stands twice in one map; only the last counts") for line in read.repeated
    ]
    findings += check_config(read.document, proxy, listed_model)
    deployments = list(proxy.model_list)
    if not any(finding.level == "error" for finding in check_shape(read.document, proxy)):
        refused, deployments = try_router(proxy)
        findings += refused
    value, source = read.document.get("erp_settings"), read.origins.get("erp_settings", read.path)
    if override := os.environ.get(settings_file.SETTINGS_ENV):
        value, source = settings_file.read(override)
        findings.append(Finding("info", f"{settings_file.SETTINGS_ENV} is set: erp_settings are those of {source}"))
    if value is None:
        return worst_first([*findings, Finding("error", "no erp_settings: nothing is routed")]), {}
    settings, problems = _settings(value, source)
    findings += problems
    if settings is None:
        return worst_first(findings), {}
    loaded: dict[str, Bundle] = {}
    for name, group in settings.groups.items():
        try:
            loaded[name] = load_bundle(group.bundle)
            _check_embedder(loaded[name], group.embedder)
        except ErpError as e:
            findings.append(Finding("error", f"group {name!r}: {e}"))
    deployments = _with_ids(deployments)
    view = router_view(deployments, proxy.router_settings)
    members = MemberTable(listed_model)
    findings += check_router(view, settings, loaded, members, running=False)
    findings += check_settings(settings, proxy)
    if not any(finding.level == "error" for finding in findings):
        findings += try_picks(proxy, deployments, list(settings.groups))
        findings += try_arms(deployments, members)
    summary = _summary(settings, loaded)
    for name, group in summary.items():
        group["without"] = undeployed(view, settings.groups[name], loaded[name], members)
    return worst_first(findings), summary


def _with_ids(model_list: Sequence[Deployment]) -> list[Deployment]:
    """The deployments of a config, each with an id of its own, as LiteLLM gives them when it starts."""
    found = []
    for number, entry in enumerate(model_list):
        own = info_of(entry)
        found.append({**entry, "model_info": {**own, "id": own.get("id") or f"deployment {number} of the config"}})
    return found


def _settings(value: object, config: Path) -> tuple[Settings | None, list[Finding]]:
    """Settings as far as they can be read, and one finding for each key that is wrong: each is read apart, too."""
    try:
        return settings_file.parse(value, config), []
    except SettingsError as whole:
        found: list[str] = []
        sound: dict[str, Any] = {}
        groups = value.get("groups") if isinstance(value, Mapping) else None
        for name, group in groups.items() if isinstance(groups, Mapping) else ():
            for part in _parts(group):
                try:
                    settings_file.parse({"groups": {name: part}}, config)
                    sound[name] = _joined(sound.get(name, {}), part)
                except SettingsError as e:
                    found.append(str(e))
        if isinstance(value, Mapping):
            rest = {key: entry for key, entry in value.items() if key != "groups"}
            try:
                settings_file.parse({**rest, "groups": {"_": {"bundle": "_"}}}, config)
            except SettingsError as e:
                found.append(str(e))
        sound = {name: group for name, group in sound.items() if group.get("bundle") != "_"}
        settings = settings_file.parse({"groups": sound}, config) if sound else None
        return settings, [Finding("error", text) for text in dict.fromkeys(found or [str(whole)])]


def _joined(group: Mapping[str, Any], part: Any) -> dict[str, Any]:
    """A group with one more of its parts; the bundle that only makes a part a group gives way to its own."""
    teams = {**group.get("teams", {}), **part.get("teams", {})}
    bundle = next((b for b in (part.get("bundle"), group.get("bundle")) if b not in (None, "_")), "_")
    return {**group, **part, "bundle": bundle, **({"teams": teams} if teams else {})}


def _parts(group: object) -> list[object]:
    """The keys of a group one by one, each with the bundle that makes it a group; teams one by one too."""
    if not isinstance(group, Mapping):
        return [group]
    bundle = {"bundle": "_"}
    teams = group.get("teams")
    apart = {key: value for key, value in group.items() if key != "teams" or not isinstance(teams, Mapping)}
    parts: list[object] = [{key: value} if key == "bundle" else {**bundle, key: value} for key, value in apart.items()]
    if isinstance(teams, Mapping):
        parts += [{**bundle, "teams": {team: entry}} for team, entry in teams.items()]
    return parts if "bundle" in group else [{}, *parts]


def _check_embedder(bundle: Bundle, options: settings_file.EmbedderSettings) -> None:
    # An endpoint is asked when a request needs it; whether it is up now says little.
    embedder_from_spec(
        bundle.manifest.embedder,
        url=options.url,
        directory=options.directory or bundle.embedder_directory(),
        trust_remote_code=options.trust_remote_code,
    ).close()


def _summary(settings: Settings, loaded: Mapping[str, Bundle]) -> dict[str, Any]:
    """Per group what ``GET /erp/teams`` of a proxy without traffic says of everybody else, and of each team."""
    found = {}
    pacer = SpendBook(Counters("doctor"))
    for name, bundle in loaded.items():
        group = settings.groups[name]
        everybody, *teams = (
            team_view(group, bundle.frontier, tenant, cost_scale=bundle.cost_scale, pacer=pacer)
            for tenant in (Tenant(), *(Tenant(team_id=team) for team in dict.fromkeys((*group.teams, *group.modes))))
        )
        found[name] = {
            "bundle": bundle.id,
            "lambda": everybody["lambda"],
            "expected": everybody["expected"],
            "teams": {view["team"]: view["lambda"] for view in teams},
            "expected_of_teams": {view["team"]: view["expected"] for view in teams},
            # Their λ moves with what is spent; this is where it starts from.
            "paced": [team for team, entry in group.teams.items() if entry.goal.form in MONEY],
            "modes": {view["team"] or "": mode_text(view) for view in (everybody, *teams)},
            "verdict": bundle.frontier.document["verdict"]["text"],
        }
    return found
