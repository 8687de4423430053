"""``erp_settings``: read once, validated whole, frozen.

::

    erp_settings:
      log_decisions: false             # one JSON line per decision on stderr; never the prompt
      reload_s: 2                      # how often a bundle folder is looked at for a new bundle; 0 never
      redis: {url: os.environ/REDIS_URL}   # and prefix, every_s; without it, LiteLLM's own Redis, if there is one
      budget_file: ./erp_budgets.json  # where budgets are kept, and shared by workers, without a Redis
      decision_log: {path: ./erp_decisions}   # and max_mb, rotate_mb, prompts, answers, redact
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
          drift: quarantine            # or alarm, off: what becomes of a model whose feedback has become worse
          mode: route                  # or shadow, or {percent: 10}: whether what is decided serves
          baseline: big                # who serves where it does not; without it LiteLLM's own order
          teams_by: id                 # or alias: whether names of teams are LiteLLM's ids, or may be aliases
          teams:
            research: {lambda: 0, allow_override: [0, 2], mode: shadow}
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from litellm_erp.choice.decision import UNKNOWN_PLACES, UnknownPlace
from litellm_erp.config_file import from_environment, is_reference, read_config, secret_reference
from litellm_erp.config_section import Section
from litellm_erp.errors import SettingsError
from litellm_erp.goals.goal import GOAL_KEYS, Goal
from litellm_erp.goals.mode import MODE_KEYS, ROUTE, Mode
from litellm_erp.shown import is_finite_number

HeaderLevel = Literal["all", "reason", "none"]
TeamsBy = Literal["id", "alias"]
StayMode = Literal["off", "priced", "always"]
DriftMode = Literal["quarantine", "alarm", "off"]
_HEADER_LEVELS: tuple[str, ...] = get_args(HeaderLevel)
SETTINGS_ENV = "ERP_SETTINGS"
_MOST_EXPLORED = 0.5


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
class ExploreSettings:
    """How much is tried, so that something is learned of models that are not chosen.

    Attributes
    ----------
    share : of the requests, in (0, 0.5]
    extra_cost : at most so much of what routing without it is expected to cost
    """

    share: float
    extra_cost: float


@dataclass(frozen=True, slots=True)
class DecisionLogSettings:
    """Where every decision is written down, and what came of it.

    Attributes
    ----------
    path : a folder; None where nothing is written
    max_mb, rotate_mb : of all files together, and of one, in megabytes
    prompts : whether the text of prompts is kept
    redact : ``package.module:function``, which gets a text and gives what is kept of it; None keeps it whole
    answers : whether the text of answers is kept too
    """

    path: Path | None = None
    max_mb: float = 512.0
    rotate_mb: float = 32.0
    prompts: bool = False
    redact: str | None = None
    answers: bool = False


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """One routing group.

    Attributes
    ----------
    modes : of the teams for which one is stated
    feedback_range : least and greatest reward that feedback may state; None takes what the bundle's look like
    explore : None explores nothing
    drift : what becomes of a model whose feedback says that it has become worse: it counts for no more than its mean
        until it is fitted anew, it is only told of, or nobody looks
    """

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
    mode: Mode = ROUTE
    modes: Mapping[str, Mode] = field(default_factory=dict)
    feedback_range: tuple[float, float] | None = None
    explore: ExploreSettings | None = None
    drift: DriftMode = "quarantine"


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole of ``erp_settings``."""

    source: Path
    groups: Mapping[str, GroupSettings]
    log_decisions: bool = False
    reload_s: float = 2.0
    redis: RedisSettings = RedisSettings()
    budget_file: Path | None = None
    decision_log: DecisionLogSettings = DecisionLogSettings()


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
        decision_log=_decision_log(top, source),
    )


def _decision_log(top: Section, source: Path) -> DecisionLogSettings:
    keys = {"path", "max_mb", "rotate_mb", "prompts", "answers", "redact"}
    entry = top.section("decision_log", keys, default={})
    if not entry.value:
        return DecisionLogSettings()
    path = entry.path("path", source.parent)
    if path is None:
        raise entry.wrong("path", None, "the path of a folder")
    max_mb = entry.number("max_mb", 512.0, low=1.0, high=1e6)
    rotate_mb = entry.number("rotate_mb", min(32.0, max_mb / 4), low=0.1, high=max_mb / 2)
    prompts, redact = entry.boolean("prompts", False), entry.optional_text("redact")
    answers = entry.boolean("answers", False)
    if answers and not prompts:
        raise entry.wrong("answers", True, "prompts: true beside it; an answer says little without its prompt")
    if prompts and redact is None:
        raise entry.wrong("redact", None, "package.module:function, or the word none to keep prompts as they are")
    if redact is not None and redact != "none" and not _FUNCTION.fullmatch(redact):
        raise entry.wrong("redact", redact, "package.module:function, or none")
    return DecisionLogSettings(path, max_mb, rotate_mb, prompts, None if redact == "none" else redact, answers)


def _redis(top: Section) -> RedisSettings:
    entry = top.section("redis", {"url", "prefix", "every_s"}, default={})
    return RedisSettings(
        url=_secret(entry, "url", "REDIS_URL"),
        prefix=entry.text("prefix", "litellm_erp"),
        every_s=entry.number("every_s", 1.0, low=0.05, high=60.0),
    )


_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_TOP_KEYS = {"groups", "log_decisions", "reload_s", "redis", "budget_file", "teams_by", "decision_log"}
_GROUP_KEYS = {"bundle", "policy", "unknown", "headers", "safety", "allow_override", "embedder", "stay"}
_GROUP_KEYS |= {"teams", "teams_by", "feedback_range", "explore", "drift", *MODE_KEYS}


def _group(name: str, group: Section, source: Path, teams_by: str) -> GroupSettings:
    teams = group.section("teams", default={})
    bundle = group.path("bundle", source.parent)
    if bundle is None:
        raise group.wrong("bundle", None, "the path of a bundle")
    mode = mode_in(group)
    modes, goals = _modes(teams, mode)
    return GroupSettings(
        name=name,
        bundle=bundle,
        goal=Goal.from_mapping(group.get("policy", {"lambda": 0.0}), where=group.at("policy")),
        unknown=cast(UnknownPlace, group.choice("unknown", UNKNOWN_PLACES, UNKNOWN_PLACES[0])),
        headers=cast(HeaderLevel, group.choice("headers", _HEADER_LEVELS, _HEADER_LEVELS[0])),
        safety=group.boolean("safety", True),
        override=_override(group),
        embedder=_embedder(group, source),
        teams={team: team_settings(stated, where=teams.at(team)) for team, stated in goals.items()},
        teams_by=cast(TeamsBy, group.choice("teams_by", get_args(TeamsBy), teams_by)),
        stay=_stay(group),
        mode=mode,
        modes=modes,
        feedback_range=_feedback_range(group),
        explore=_explore(group),
        drift=_drift(group),
    )


def _drift(group: Section) -> DriftMode:
    # YAML reads a bare `off` as false.
    stated = "off" if group.get("drift", None) is False else group.choice("drift", get_args(DriftMode), "quarantine")
    return cast(DriftMode, stated)


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


def _explore(group: Section) -> ExploreSettings | None:
    # YAML reads a bare `off` as false.
    if group.get("explore", False) is False:
        return None
    entry = group.section("explore", {"share", "extra_cost"})
    share, extra_cost = entry.number("share"), entry.number("extra_cost", low=0.0, high=1e6)
    if not 0 < share <= _MOST_EXPLORED:
        raise entry.wrong("share", share, f"a share of the requests, above 0 and at most {_MOST_EXPLORED:g}")
    return ExploreSettings(share, extra_cost)


def _feedback_range(group: Section) -> tuple[float, float] | None:
    value = group.get("feedback_range")
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 2 and all(map(is_finite_number, value)) and value[0] < value[1]:
        return float(value[0]), float(value[1])
    raise group.wrong("feedback_range", value, "[low, high], such as [0, 1]")


def _modes(teams: Section, above: Mode) -> tuple[dict[str, Mode], dict[str, Any]]:
    """Modes of the teams that state one, and what those state that state anything else: a team may leave its goal."""
    modes: dict[str, Mode] = {}
    goals: dict[str, Any] = {}
    for team in teams:
        own, goal = without_mode(teams.get(team))
        if own:
            modes[team] = mode_in(Section(own, teams.at(team), SettingsError), above)
        if goal or not own:
            goals[team] = goal
    return modes, goals


def without_mode(value: object) -> tuple[dict[str, Any], Any]:
    """What a team states of its mode, and the rest of it."""
    if not isinstance(value, Mapping):
        return {}, value
    own = {key: stated for key, stated in value.items() if key in MODE_KEYS}
    return own, {key: stated for key, stated in value.items() if key not in MODE_KEYS} if own else value


def mode_in(entry: Section, above: Mode = ROUTE, *, salted: bool = True) -> Mode:
    """Read ``mode`` and ``baseline`` of a group or of a team; what is not stated is as above it.

    Parameters
    ----------
    salted : whether a salt may be stated; it may be a reference, so only where an operator writes

    Raises
    ------
    the section's error : names the key
    """
    baseline = entry.optional_text("baseline") or above.baseline
    stated = entry.get("mode")
    if stated is None:
        return replace(above, baseline=baseline)
    if stated == "route":
        return Mode("route", baseline=baseline, salt=above.salt)
    if stated == "shadow":
        return Mode("shadow", baseline=baseline, salt=above.salt)
    if not isinstance(stated, Mapping) or "percent" not in stated:
        raise entry.wrong("mode", stated, "route, shadow, or {percent: 10}")
    options = Section(stated, entry.at("mode"), entry.error, {"percent", "salt"} if salted else {"percent"})
    salt = options.optional_text("salt")
    if salt is not None and is_reference(salt):
        salt = from_environment(salt, options.at("salt"))
    return Mode("percent", options.number("percent", low=0.0, high=100.0), baseline, salt or above.salt)


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
