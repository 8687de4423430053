"""Who asks, which λ they get, and which models they may use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import inf
from typing import Any, Literal

from litellm_erp.config_section import Section
from litellm_erp.errors import SettingsError
from litellm_erp.goals.goal import MONEY, Goal
from litellm_erp.goals.mode import Mode
from litellm_erp.goals.request_goal import KEY, RequestGoal
from litellm_erp.goals.settings import GroupSettings, Override, TeamSettings, mode_in, team_settings, without_mode

GROUP_ACCOUNT = "group"
ClaimSource = Literal["settings", "team", "key", "request", "group"]
_EVERY_MODEL = frozenset({"*", "all-proxy-models", "all-models"})
_TEAM_MODELS = "all-team-models"


@dataclass(frozen=True, slots=True)
class Tenant:
    """The key and the team behind a request, as LiteLLM's authentication found them.

    Attributes
    ----------
    key_id : LiteLLM's hash of the key
    key_models, team_models : LiteLLM's allow lists; empty means every model
    aliases : names that the key and its team may call models by, and what each stands for
    """

    team_id: str | None = None
    team_alias: str | None = None
    team_metadata: Mapping[str, Any] | None = None
    key_metadata: Mapping[str, Any] | None = None
    key_id: str | None = None
    key_models: tuple[str, ...] = ()
    team_models: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()

    @property
    def states_goals(self) -> bool:
        """Whether the team's or the key's metadata state a goal of their own."""
        team, key = self.team_metadata, self.key_metadata
        return bool(team and team.get(KEY) is not None) or bool(key and key.get(KEY) is not None)

    @property
    def label(self) -> str | None:
        """How logs and metrics call the team."""
        return self.team_alias or self.team_id

    @property
    def is_limited(self) -> bool:
        """Whether the key or the team has an allow list."""
        return _narrows(self.key_models) or _narrows(self.team_models)

    @property
    def team_account(self) -> str:
        """Whose spend it is as a team's; "" without a team."""
        if self.team_id:
            return f"team:{self.team_id}"
        # An alias is a name that anybody may choose; it is never taken for another team's id.
        return f"alias:{self.team_alias}" if self.team_alias else ""

    @property
    def account(self) -> str:
        """Whose requests may be seen and spoken of together: a team's, else one key's; "" for nobody known."""
        return self.team_account or self.key_account

    @property
    def pool_account(self) -> str:
        """Whose spend it is where a team has too many keys to tell them apart."""
        return f"keys of {self.team_account}"

    @property
    def key_account(self) -> str:
        """Whose spend it is as a key's; "" where LiteLLM knows no key."""
        return f"key:{self.key_id}" if self.key_id else ""


@dataclass(frozen=True, slots=True)
class Claim:
    """A goal, and whose it is: what is spent under it is counted for its account.

    Attributes
    ----------
    account : ``team:<id>``, ``key:<hash>``, ``group``; "" for a single request's own goal, which nobody counts
    source : ``settings``, ``team``, ``key``, ``request``, ``group``: the level that stated the goal
    pool : the account of the team's keys that are too many to have one each
    """

    account: str
    goal: Goal
    source: ClaimSource = "settings"
    pool: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a tenant gets: a goal, the bounds a λ was granted within, and whether a request's own goal was refused.

    Attributes
    ----------
    claim : the goal that counts
    floors : budgets of the levels above it; λ is never below theirs, so nobody loosens a budget that is not their own
    bounds : of λ; None where the goal is the highest level's own
    accounts : every account that the request is charged to
    problem : what was wrong with metadata that had to be ignored; it names no secret and no prompt
    """

    claim: Claim
    floors: tuple[Claim, ...] = ()
    bounds: Override | None = None
    refused: bool = False
    problem: str | None = None
    accounts: tuple[str, ...] = ()

    @property
    def goal(self) -> Goal:
        """The goal that counts."""
        return self.claim.goal

    @property
    def claims(self) -> tuple[Claim, ...]:
        """Every goal that has a say: the budgets above, then the one that counts."""
        return (*self.floors, self.claim)


def grant(group: GroupSettings, tenant: Tenant, request_goal: RequestGoal | None = None) -> Grant:
    """The goal of a tenant in a group.

    The admin's settings for the team come first, then the team's own metadata in LiteLLM, then the key's metadata,
    then the request's own goal: each only where the level above it has ``allow_override``, and with a λ within that
    level's bounds. With none of them, the group's own counts. A team that the settings do not name may state a goal
    in its metadata without the group's leave; but those are its own admin's words, so that a budget of the group stays
    above it, unless the group gives leave.

    Parameters
    ----------
    request_goal : what the request itself asked for; it is never an error
    """
    ladder = _Ladder(_highest(group, tenant))
    stated, problem = _stated(tenant.team_metadata, "team metadata", may_state_mode=True)
    if stated is not None:
        claim = Claim(tenant.team_account, stated.goal, "team")
        if ladder.is_default:
            ladder.take_own(claim, stated.override)
        else:
            ladder.take(claim, stated.override)
    stated, key_problem = _stated(tenant.key_metadata, "key metadata")
    if stated is not None:
        ladder.take(Claim(tenant.key_account, stated.goal, "key", tenant.pool_account), stated.override)
    if request_goal is not None and (
        request_goal.goal is None or not ladder.take(Claim("", request_goal.goal, "request"), Override())
    ):
        ladder.refused = True
    return Grant(
        ladder.claim,
        tuple(ladder.floors),
        ladder.bounds,
        refused=ladder.refused or key_problem is not None,
        problem=problem or key_problem or _only_by_alias(group, tenant),
        accounts=tuple(dict.fromkeys(filter(None, (tenant.team_account, tenant.key_account)))) or (GROUP_ACCOUNT,),
    )


class _Ladder:
    """From the highest level down: who has had their say so far."""

    def __init__(self, top: tuple[Claim, Override]) -> None:
        self.claim, self.override = top
        self.floors: list[Claim] = []
        self.bounds: Override | None = None
        self.refused = False

    @property
    def is_default(self) -> bool:
        """Whether nobody but the group itself has said anything."""
        return self.claim.source == "group"

    def take_own(self, claim: Claim, override: Override) -> None:
        """Let a team that the settings do not name state its goal: above a budget of the group only with its leave."""
        if self.override.allowed:
            self.bounds = self.override
        elif self.claim.goal.form in MONEY:
            self.floors.append(self.claim)
        self.claim, self.override = claim, override

    def take(self, claim: Claim, override: Override) -> bool:
        """Let the next level state its goal, where it may."""
        if not self.override.allowed:
            self.refused = self.refused or claim.source != "team"
            return False
        self.bounds = self.override if self.bounds is None else _within(self.bounds, self.override)
        if self.claim.goal.form in MONEY:
            self.floors.append(self.claim)
        self.claim, self.override = claim, override
        return True


def _highest(group: GroupSettings, tenant: Tenant) -> tuple[Claim, Override]:
    for name in _names_of(group, tenant):
        if name is not None and (level := group.teams.get(name)) is not None:
            return Claim(tenant.team_account, level.goal, "settings"), level.override
    return Claim(GROUP_ACCOUNT, group.goal, "group"), group.override


def _names_of(group: GroupSettings, tenant: Tenant) -> tuple[str | None, str | None]:
    """Names by which the settings may know a team."""
    return tenant.team_id, tenant.team_alias if group.teams_by == "alias" else None


def _only_by_alias(group: GroupSettings, tenant: Tenant) -> str | None:
    """What to say where the settings name a team by an alias that they do not match."""
    alias, named = tenant.team_alias, {*group.teams, *group.modes}
    if alias is None or alias not in named or group.teams_by == "alias" or tenant.team_id in named:
        return None
    return (
        f"teams.{alias} of the settings is only the alias of the team {(tenant.team_id or 'without an id')[:80]!r}; "
        "expected its id, or teams_by: alias"
    )


def allowed_members(
    group: str,
    members: Iterable[tuple[str, Sequence[str]]],
    tenant: Tenant,
    aliases: Iterable[tuple[str, str]] = (),
) -> frozenset[str] | None:
    """Names of the group's members that a tenant may use; None means all.

    LiteLLM checks the requested name only, here the group's. A list that names members narrows the group to
    them; a list that names only the group allows all of it. An alias of the group or of a member counts as its name.

    Parameters
    ----------
    members : (model name, access groups of its deployment) of every deployment of the group, also of those that are
        down: else a key would be taken to name none while its models are, and get the others
    aliases : other names of models, and what each stands for, beside the tenant's own
    """
    if not tenant.is_limited:
        return None
    everyone = list(members)
    called: dict[str, list[str]] = {}
    for alias, model in (*aliases, *tenant.aliases):
        called.setdefault(model, [model]).append(alias)
    team = _allowed_by(tenant.team_models, group, everyone, called)
    key_list = tuple(name for name in tenant.key_models if name != _TEAM_MODELS)
    key = _allowed_by(key_list, group, everyone, called)
    if team is None:
        return key
    return team if key is None else team & key


def _allowed_by(
    names: tuple[str, ...],
    group: str,
    members: list[tuple[str, Sequence[str]]],
    called: Mapping[str, Sequence[str]],
) -> frozenset[str] | None:
    if not _narrows(names):
        return None

    def named(model: str) -> bool:
        return any(_matches(own, name) for own in called.get(model, (model,)) for name in names)

    found = frozenset(model for model, access in members if named(model) or not set(names).isdisjoint(access))
    return None if not found and named(group) else found


def _matches(model: str, name: str) -> bool:
    return model == name or ("*" in name and fnmatchcase(model, name))


def _narrows(names: tuple[str, ...]) -> bool:
    return bool(names) and not _EVERY_MODEL.intersection(names)


def _within(outer: Override | None, inner: Override) -> Override:
    """Bounds that a level may give to the one below it: its own, kept within those it was given."""
    return inner if outer is None else Override(inner.allowed, outer.clamp(inner.low), outer.clamp(inner.high))


def mode_of(group: GroupSettings, tenant: Tenant) -> tuple[Mode, str | None]:
    """Whether what is decided serves a tenant, and what was wrong with what its metadata state.

    The settings come first, by team and then by group. A team that the settings give no mode may state one in its
    metadata, where it may state any λ as well: a shadow is held to no budget, so whoever is held to one may not choose
    it.
    """
    for name in _names_of(group, tenant):
        if name is not None and (mode := group.modes.get(name)) is not None:
            return mode, None
    metadata = tenant.team_metadata
    own, _ = without_mode(metadata.get(KEY) if metadata else None)
    if not own:
        return group.mode, None
    where = f"team metadata: {KEY}"
    if not _may_leave(*_highest(group, tenant)):
        return group.mode, f"{where}.mode: the settings give this team a budget or bounds, and say no mode for it"
    try:
        return mode_in(Section(own, where, SettingsError), group.mode, salted=False), None
    except SettingsError as e:
        return group.mode, str(e)


def _may_leave(claim: Claim, override: Override) -> bool:
    """Whether nothing that the settings say of a team binds what it may spend."""
    if override.allowed:
        free = override.low == 0.0 and override.high == inf
        return free and (claim.source == "group" or claim.goal.form not in MONEY)
    return claim.source == "group" and claim.goal.form not in MONEY


def _stated(
    metadata: Mapping[str, Any] | None, what: str, *, may_state_mode: bool = False
) -> tuple[TeamSettings | None, str | None]:
    if not metadata or metadata.get(KEY) is None:
        return None, None
    value = metadata[KEY]
    if may_state_mode:
        own, value = without_mode(value)
        if own and not value:
            return None, None
    try:
        return team_settings(value, where=f"{what}: {KEY}"), None
    except SettingsError as e:
        return None, str(e)
