"""``erp_settings``: read once, validated whole, frozen.

::

    erp_settings:
      log_decisions: false             # one JSON line per decision on stderr; never the prompt
      reload_s: 2                      # how often a bundle folder is looked at for a new bundle; 0 never
      redis: {url: os.environ/REDIS_URL}   # and prefix, every_s; without it, LiteLLM's own Redis, if there is one
      budget_file: ./erp_budgets.json  # where budgets are kept, and shared by workers, without a Redis
      groups:
        erp-auto:                      # the routing group's name
          bundle: ./bundle             # relative to this file
          policy: {lambda: 0.5}        # or {budget_usd_per_1k_requests: 0.4} or {min_quality: 0.97}
          unknown: last                # deployments without a probe: last | first | exclude
          headers: all                 # all | reason | none
          safety: true                 # false: believe the probes even where they are not worth it
          allow_override: false        # may keys of no team state a λ: true, or [min, max]
          stay: priced                 # or off, always; or a map: {mode: priced, margin: 0.02, warm_s: 300}
          embedder: {timeout_ms: 250}  # and url, api_key, directory, trust_remote_code
          teams_by: id                 # or alias: whether names of teams are LiteLLM's ids, or may be aliases
          teams:
            research: {lambda: 0, allow_override: [0, 2]}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from litellm_erp.choice.decision import UNKNOWN_PLACES, UnknownPlace
from litellm_erp.config_file import from_environment, read_config, secret_reference
from litellm_erp.config_section import Section
from litellm_erp.errors import SettingsError
from litellm_erp.goals.goal import GOAL_KEYS, Goal

HeaderLevel = Literal["all", "reason", "none"]
TeamsBy = Literal["id", "alias"]
StayMode = Literal["off", "priced", "always"]
_HEADER_LEVELS: tuple[str, ...] = get_args(HeaderLevel)
SETTINGS_ENV = "ERP_SETTINGS"


@dataclass(frozen=True, slots=True)
class Override:
    """Whether the level below may state its own λ, and between which bounds."""

    allowed: bool = False
    low: float = 0.0
    high: float = math.inf

    def clamp(self, lambda_: float) -> float:
        """The nearest λ within the bounds."""
        return min(max(lambda_, self.low), self.high)


@dataclass(frozen=True, slots=True)
class TeamSettings:
    """What one team gets."""

    goal: Goal
    override: Override = Override()


@dataclass(frozen=True, slots=True)
class EmbedderSettings:
    """How the bundle's embedder is reached here; which embedder it is stands in the bundle."""

    timeout_s: float = 0.25
    url: str | None = None
    api_key: str | None = None
    directory: Path | None = None
    trust_remote_code: bool = False

    def __repr__(self) -> str:
        # The key must not reach a log by way of a printed dataclass.
        return f"EmbedderSettings(url={self.url!r}, timeout_s={self.timeout_s})"


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """Where budgets are shared with other processes.

    Attributes
    ----------
    url : None takes the Redis that LiteLLM itself is configured with, if any
    prefix : of every key; proxies with the same one share their budgets
    every_s : seconds between two exchanges
    """

    url: str | None = None
    prefix: str = "litellm_erp"
    every_s: float = 1.0

    def __repr__(self) -> str:
        # A URL may hold a password.
        return f"RedisSettings(prefix={self.prefix!r}, every_s={self.every_s})"


@dataclass(frozen=True, slots=True)
class StaySettings:
    """What a conversation's next turn counts of who served it last.

    Attributes
    ----------
    mode : ``priced`` counts what the prompt cache saves, ``always`` keeps the model, ``off`` decides every turn anew;
        but for ``off``, an answer that called tools is gone on with by its own model
    margin : by how much another model has to be better for a change of voice, in reward units
    warm_s : after so many seconds a prompt cache is expected to hold a share of 1/e
    """

    mode: StayMode = "priced"
    margin: float = 0.0
    warm_s: float = 300.0


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """One routing group."""

    name: str
    bundle: Path
    goal: Goal
    unknown: UnknownPlace
    headers: HeaderLevel
    safety: bool
    override: Override
    embedder: EmbedderSettings
    teams: Mapping[str, TeamSettings]
    teams_by: TeamsBy = "id"
    stay: StaySettings = StaySettings()


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole of ``erp_settings``."""

    source: Path
    groups: Mapping[str, GroupSettings]
    log_decisions: bool = False
    reload_s: float = 2.0
    redis: RedisSettings = RedisSettings()
    budget_file: Path | None = None


def load_settings(path: Path | str) -> Settings | None:
    """Read ``erp_settings`` from a proxy config, or from a file of its own.

    Returns
    -------
    None where the file is a config without ``erp_settings``

    Raises
    ------
    SettingsError : names the file, which may be an included one, and the key
    """
    found, source = read(path)
    return None if found is None else parse(found, source)


def read(path: Path | str) -> tuple[Any, Path]:
    """What stands under ``erp_settings``, unchecked, and the file that it stands in; None where it is in none.

    Raises
    ------
    SettingsError : the file, or one that it includes, cannot be read
    """
    config = read_config(Path(path))
    document = config.document
    found = document.get("erp_settings", document if "groups" in document else None)
    return found, config.origins.get("erp_settings", config.path)


def parse(value: object, source: Path) -> Settings:
    """Validate ``erp_settings``; ``source`` is the file that relative paths start from.

    Raises
    ------
    SettingsError : names the file and the key
    """
    top = Section(value, f"{source}: erp_settings", SettingsError, _TOP_KEYS)
    groups = top.section("groups")
    if not groups.value:
        raise groups.wrong(None, None, "at least one routing group")
    teams_by = top.choice("teams_by", get_args(TeamsBy), "id")
    return Settings(
        source=source,
        groups={name: _group(name, groups.section(name, _GROUP_KEYS), source, teams_by) for name in groups},
        log_decisions=top.boolean("log_decisions", False),
        reload_s=top.number("reload_s", 2.0, low=0.0),
        redis=_redis(top),
        budget_file=top.path("budget_file", source.parent),
    )


def _redis(top: Section) -> RedisSettings:
    entry = top.section("redis", {"url", "prefix", "every_s"}, default={})
    return RedisSettings(
        url=_secret(entry, "url", "REDIS_URL"),
        prefix=entry.text("prefix", "litellm_erp"),
        every_s=entry.number("every_s", 1.0, low=0.05, high=60.0),
    )


_TOP_KEYS = {"groups", "log_decisions", "reload_s", "redis", "budget_file", "teams_by"}
_GROUP_KEYS = {"bundle", "policy", "unknown", "headers", "safety", "allow_override", "embedder", "stay"}
_GROUP_KEYS |= {"teams", "teams_by"}


def _group(name: str, group: Section, source: Path, teams_by: str) -> GroupSettings:
    teams = group.section("teams", default={})
    bundle = group.path("bundle", source.parent)
    if bundle is None:
        raise group.wrong("bundle", None, "the path of a bundle")
    return GroupSettings(
        name=name,
        bundle=bundle,
        goal=Goal.from_mapping(group.get("policy", {"lambda": 0.0}), where=group.at("policy")),
        unknown=cast(UnknownPlace, group.choice("unknown", UNKNOWN_PLACES, UNKNOWN_PLACES[0])),
        headers=cast(HeaderLevel, group.choice("headers", _HEADER_LEVELS, _HEADER_LEVELS[0])),
        safety=group.boolean("safety", True),
        override=_override(group),
        embedder=_embedder(group, source),
        teams={team: team_settings(teams.get(team), where=teams.at(team)) for team in teams},
        teams_by=cast(TeamsBy, group.choice("teams_by", get_args(TeamsBy), teams_by)),
        stay=_stay(group),
    )


def _stay(group: Section) -> StaySettings:
    stated = group.get("stay", {})
    if stated is False:
        # YAML reads a bare `off` as false.
        stated = "off"
    if isinstance(stated, str):
        stated = {"mode": stated}
    entry = Section(stated, group.at("stay"), SettingsError, {"mode", "margin", "warm_s"})
    mode = "off" if entry.value.get("mode") is False else entry.choice("mode", get_args(StayMode), "priced")
    return StaySettings(
        cast(StayMode, mode),
        entry.number("margin", 0.0, low=0.0),
        entry.number("warm_s", 300.0, low=1.0, high=86_400.0),
    )


def team_settings(value: object, *, where: str) -> TeamSettings:
    """Read what one team gets: one goal, and whether its keys may override it.

    The same form stands in ``erp_settings`` and in LiteLLM's team and key metadata under ``erp``.

    Raises
    ------
    SettingsError : names the key
    """
    entry = Section(value, where, SettingsError, {*GOAL_KEYS, "allow_override"})
    goals = {key: number for key, number in entry.value.items() if key in GOAL_KEYS}
    return TeamSettings(Goal.from_mapping(goals, where=where), _override(entry))


def _embedder(group: Section, source: Path) -> EmbedderSettings:
    keys = {"timeout_ms", "url", "api_key", "directory", "trust_remote_code"}
    entry = group.section("embedder", keys, default={})
    if "api_key" in entry and "url" not in entry:
        # Else whoever made a bundle could have the key sent to a server of their own.
        raise SettingsError(f"{entry.at('api_key')}: found a key and no url; state the url that it belongs to")
    return EmbedderSettings(
        timeout_s=entry.number("timeout_ms", 250.0, low=1.0) / 1000.0,
        url=entry.optional_text("url"),
        api_key=_secret(entry, "api_key", "EMBEDDING_API_KEY"),
        directory=entry.path("directory", source.parent),
        trust_remote_code=entry.boolean("trust_remote_code", False),
    )


def _secret(entry: Section, key: str, example: str) -> str | None:
    reference = secret_reference(entry, key, example)
    return None if reference is None else from_environment(reference, entry.at(key))


def _override(entry: Section) -> Override:
    value = entry.get("allow_override", False)
    if isinstance(value, bool):
        return Override(value)
    if isinstance(value, list) and len(value) == 2:
        bounds = Section(dict(zip(("min", "max"), value, strict=True)), entry.at("allow_override"), SettingsError)
        low, high = bounds.number("min", low=0.0), bounds.number("max", low=0.0)
        if low <= high:
            return Override(True, low, high)
    raise entry.wrong("allow_override", value, "true, false, or [min, max] with 0 ≤ min ≤ max")
