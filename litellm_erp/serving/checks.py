"""Would this router route as its owner thinks? Asked by the proxy at start and by ``erp-train doctor``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from litellm_erp import effort
from litellm_erp import litellm_releases as releases
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.choice.cost import UNKNOWN_PRICE, PriceTable
from litellm_erp.errors import SettingsError
from litellm_erp.goals.goal import MONEY
from litellm_erp.goals.settings import GroupSettings, Settings
from litellm_erp.goals.solve import reachable, solve
from litellm_erp.serving.deployments import NO_PRICES, Deployment, Member, MemberTable, served_price

Level = Literal["error", "warning", "info"]

LEVELS: tuple[Level, ...] = get_args(Level)
FALLBACKS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be; ``error`` means a group is not routed at all."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class RouterView:
    """What the checks need of a router, whether it runs or is still a config file.

    Attributes
    ----------
    fallbacks : kind of fallback to what the settings have there
    release : of LiteLLM; None where it is not known
    """

    model_list: Sequence[Deployment]
    groups: Mapping[str, Sequence[str]]
    strategy: str
    aliases: frozenset[str]
    num_retries: int | None
    fallbacks: Mapping[str, object]
    release: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """Everything that a request or a fallback may call."""
        return self.aliases | set(self.groups) | {str(deployment.get("model_name")) for deployment in self.model_list}


def router_view(model_list: Sequence[Deployment], settings: Mapping[str, Any]) -> RouterView:
    """Read LiteLLM's model list and router settings.

    Parameters
    ----------
    model_list : ``Router.model_list``, or the config's
    settings : ``Router.get_settings()``, or the config's ``router_settings``
    """
    groups = {
        str(group.get("group_name")): [str(model) for model in _listed(group.get("models"))]
        for group in _listed(settings.get("routing_groups"))
        if isinstance(group, Mapping)
    }
    retries = settings.get("num_retries")
    aliases = settings.get("model_group_alias")
    defaults = settings.get("default_fallbacks")
    return RouterView(
        model_list=model_list,
        groups=groups,
        strategy=_strategy(settings.get("routing_strategy")),
        aliases=frozenset(map(str, aliases)) if isinstance(aliases, Mapping) else frozenset(),
        num_retries=retries if isinstance(retries, int) else None,
        fallbacks={kind: settings.get(kind) for kind in FALLBACKS}
        | {"default_fallbacks": [{"*": defaults}] if defaults else []},
        release=releases.installed(),
    )


def check_router(
    view: RouterView,
    settings: Settings,
    bundles: Mapping[str, Bundle],
    members: MemberTable,
    *,
    running: bool = True,
) -> list[Finding]:
    """All findings for the groups of ``erp_settings``, worst first.

    Parameters
    ----------
    bundles : the loaded bundle of each group; a group whose bundle could not be loaded may be absent
    running : whether the router runs; a group that it lacks may still be added to it, where a config's is not routed
    """
    found = [
        Finding(f.level, f"group {name!r}: {f.text}")
        for name, group in settings.groups.items()
        for f in _check_group(view, group, bundles.get(name), members, running)
    ]
    if view.num_retries == 0:
        text = "num_retries is 0: a model that fails costs its request; set router_settings.num_retries to 2"
        found.append(Finding("warning", text))
    if settings.decision_log.path is None:
        text = "explore: there is no decision_log, so nobody learns from what is tried; add one"
        found += [
            Finding("warning", f"group {name!r}: {text}") for name, group in settings.groups.items() if group.explore
        ]
    found += [f for kind, value in view.fallbacks.items() for f in _check_fallbacks(view, settings, kind, value)]
    return worst_first(found)


def undeployed(view: RouterView, group: GroupSettings, bundle: Bundle, members: MemberTable) -> list[str]:
    """The pool models that no deployment of a group serves; a slip in a name makes one of them."""
    deployed = [members.member(d) for d in _deployments(view, group)]
    return sorted(set(bundle.models) - {each.pool_model for member in deployed for each in member.each})


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Errors, then warnings, then what is only good to know; each once."""
    return sorted(dict.fromkeys(findings), key=lambda finding: LEVELS.index(finding.level))


def _check_group(
    view: RouterView, group: GroupSettings, bundle: Bundle | None, members: MemberTable, running: bool
) -> Iterator[Finding]:
    own_names = {str(deployment.get("model_name")) for deployment in view.model_list}
    listed = view.groups.get(group.name)
    # The router's own strategy; LiteLLM asks callbacks whatever a group's is.
    if not releases.asks_callbacks(view.strategy, view.release):
        yield Finding(
            "error",
            f"router_settings.routing_strategy is {view.strategy!r}, which never asks callbacks, so nothing is routed; "
            "use simple-shuffle or another of " + ", ".join(sorted(releases.ASKING_STRATEGIES)),
        )
    absent: Level = "warning" if running else "error"
    if listed is None and group.name not in own_names:
        yield Finding(
            absent,
            f"is in no routing group, so nothing is routed{' until one appears' if running else ''}; add "
            f"{{group_name: {group.name}, models: […], routing_strategy: simple-shuffle}} to "
            f"router_settings.routing_groups{near_miss(group.name, {*view.groups, *own_names})}",
        )
        return
    if listed is not None and (group.name in own_names or group.name in view.aliases):
        yield Finding("error", "a model or alias has the same name and hides the group; rename one of them")
    deployments = _deployments(view, group)
    if not deployments:
        text = "none of its models is in model_list, so there is nothing to choose from; add deployments of them"
        yield Finding(absent, text)
        return
    if bundle is not None:
        yield from _check_pool(group, bundle, [each for d in deployments for each in members.member(d).each])
        yield from _check_parameters(bundle, deployments, members)
        yield from _check_goals(group, bundle)
        yield from _check_exploring(group, bundle, [each for d in deployments for each in members.member(d).each])
    for deployment in deployments:
        try:
            info = deployment.get("model_info")
            effort.arms_of(
                info if isinstance(info, Mapping) else {}, f"{_called(deployment)}: model_info", SettingsError
            )
        except SettingsError as e:
            yield Finding("error", str(e))
    params = [found for d in deployments if isinstance(found := d.get("litellm_params"), Mapping)]
    for key, does in (("order", "counts"), ("weight", "shares requests out")):
        if any(entry.get(key) is not None for entry in params):
            text = f"litellm_params.{key} of its deployments {does} among replicas of one pool model only"
            yield Finding("info", text)


def _deployments(view: RouterView, group: GroupSettings) -> list[Deployment]:
    listed = view.groups.get(group.name)
    names = {group.name} if listed is None else set(listed)
    return [d for d in view.model_list if str(d.get("model_name")) in names]


def _check_fallbacks(view: RouterView, settings: Settings, kind: str, value: object) -> Iterator[Finding]:
    """Fallbacks that never apply, or that lead nowhere."""
    entries = _listed(value)
    keyed = {str(key) for entry in entries if isinstance(entry, Mapping) for key in entry}
    for entry in entries:
        for key, targets in entry.items() if isinstance(entry, Mapping) else [("*", [entry])]:
            name = str(key)
            if name != "*" and not _callable(name, view):
                text = f"{kind} of {name!r} never apply: no model, alias or routing group is called so"
                yield Finding("warning", text + near_miss(name, view.names))
            for target in _listed(targets) or [targets]:
                yield from _check_target(view, settings, kind, name, target)
            # LiteLLM looks them up by the name that was called, which is the group's and not its member's.
            for group in settings.groups:
                if name in view.groups.get(group, ()) and not keyed & {group, "*"}:
                    text = f"{kind} of {name!r} do not apply to requests for group {group!r}, of which it is a member"
                    yield Finding("info", f"{text}; add {{{group}: […]}} where they should")


def _check_target(view: RouterView, settings: Settings, kind: str, name: str, target: object) -> Iterator[Finding]:
    called = target.get("model") if isinstance(target, Mapping) else target
    said = f"{kind} of {name!r} lead to {str(called)!r}"
    if called is None or called == []:
        return
    if not _callable(str(called), view):
        text = f"{said}, and no model, alias or routing group is called so{near_miss(str(called), view.names)}"
        yield Finding("warning", text)
    elif called == name:
        yield Finding("warning", f"{said}, which is what has just failed; name another model or group")
    elif name in settings.groups and called in view.groups.get(name, ()):
        yield Finding("info", f"{said}, a member of that group, which may have failed there just before")


def _callable(name: str, view: RouterView) -> bool:
    """Whether a request may call a name: as it is, by a wildcard, or by a deployment's id."""
    if name in view.names or any(fnmatchcase(name, known) for known in view.names if "*" in known):
        return True
    infos = (deployment.get("model_info") for deployment in view.model_list)
    return any(isinstance(info, Mapping) and info.get("id") == name for info in infos)


def near_miss(name: str, known: Iterable[str]) -> str:
    """``; did you mean …?`` where a known name differs by case, by a provider's prefix or by a slip; else nothing."""
    others = sorted({other for other in known if other != name})
    bare = _bare(name)
    close = [other for other in others if _bare(other) == bare] or get_close_matches(name, others, 1, 0.8)
    return f"; did you mean {close[0]!r}?" if close else ""


def _bare(name: str) -> str:
    return name.rsplit("/", 1)[-1].casefold()


def _listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _check_pool(group: GroupSettings, bundle: Bundle, offered: Sequence[Member]) -> Iterator[Finding]:
    pool, deployed = set(bundle.models), {member.pool_model for member in offered}
    if missing := sorted(pool - deployed):
        hints = [f" ({name!r}{hint})" for name in missing if (hint := near_miss(name, deployed - pool))]
        yield Finding(
            "warning",
            f"pool models without a deployment: {', '.join(missing)}; they are never chosen. Name the "
            "deployments so, or set model_info.erp_model on them" + "".join(hints),
        )
    if unknown := sorted(deployed - pool):
        place = {"last": "rank last", "first": "rank first", "exclude": "are left out"}[group.unknown]
        yield Finding("warning", f"deployments without a probe in the bundle: {', '.join(unknown)}; they {place}")
    if deployed and not pool & deployed:
        yield Finding("error", "no deployment belongs to a pool model, so nothing is ranked")
    for name in sorted({mode.baseline for mode in (group.mode, *group.modes.values()) if mode.baseline} - deployed):
        text = f"baseline: no deployment belongs to a model {name!r}, so LiteLLM's own order serves in its place"
        yield Finding("warning", text + near_miss(name, deployed))
    if all(record.constant_cost_usd is not None for record in bundle.manifest.models):
        return
    prices = {
        record.name: served_price(record.price, [member for member in offered if member.pool_model == record.name])
        for record in bundle.manifest.models
    }
    if not (PriceTable.from_prices(list(prices.values())).expected_cost(1.0, 1.0) > 0).any():
        yield Finding("warning", NO_PRICES)
    elif unpriced := [
        record.name
        for record in bundle.manifest.models
        if not prices[record.name].known and record.constant_cost_usd is None
    ]:
        yield Finding("warning", f"no price is known for {', '.join(unpriced)}; at λ > 0 they rank behind the others")


def _check_exploring(group: GroupSettings, bundle: Bundle, offered: Sequence[Member]) -> Iterator[Finding]:
    if group.explore is None:
        return
    newcomers = (
        sorted({member.pool_model for member in offered} - set(bundle.models)) if group.unknown != "exclude" else []
    )
    usd = bundle.manifest.cost_kind == "usd"
    if unpriced := [
        name
        for name in newcomers
        if not usd or not served_price(UNKNOWN_PRICE, [m for m in offered if m.pool_model == name]).known
    ]:
        yield Finding("warning", f"explore: what {', '.join(unpriced)} would cost is not known, so it is never tried")


def _check_parameters(bundle: Bundle, deployments: Sequence[Deployment], members: MemberTable) -> Iterator[Finding]:
    """Pool models that are deployed with other parameters than those they were sampled with."""
    recorded = {record.name: record.parameters for record in bundle.manifest.models}
    for deployment in deployments:
        for member in members.member(deployment).each:
            wanted = recorded.get(member.pool_model)
            stated = deployment.get("litellm_params")
            params = stated if isinstance(stated, Mapping) else {}
            own = {name: params[name] for name in effort.PARAMETERS if params.get(name) is not None}
            found = {**own, **(member.parameters or {})}
            if wanted is not None and not effort.same(wanted, found):
                yield Finding(
                    "warning",
                    f"{_called(deployment)} serves {member.pool_model!r} with {effort.told(found)}, and the bundle "
                    f"knows it with {effort.told(wanted)}: its expected reward and cost are another's",
                )


def _called(deployment: Deployment) -> str:
    info = deployment.get("model_info")
    name = info.get("id") if isinstance(info, Mapping) else None
    return f"deployment {str(name or deployment.get('model_name'))!r}"


def _check_goals(group: GroupSettings, bundle: Bundle) -> Iterator[Finding]:
    goals = {"policy": group.goal} | {f"teams.{name}": team.goal for name, team in group.teams.items()}
    for where, goal in goals.items():
        if goal.form in MONEY and bundle.manifest.cost_kind != "usd":
            text = f"{where}: {goal.form} is in USD, and the bundle's costs are relative; state a lambda or min_quality"
            yield Finding("error", text)
        elif remedy := reachable(goal, bundle.frontier, cost_kind=bundle.manifest.cost_kind):
            yield Finding("warning", f"{where}: {remedy}")
    # Bounds that shut out the team's own goal: nobody below can ask for what the team itself has.
    for name, team in group.teams.items():
        mixture, bounds = solve(team.goal, bundle.frontier).mixture, team.override
        if bounds.allowed and not (mixture.low <= bounds.high and mixture.high >= bounds.low):
            own = f"teams.{name}: its own λ, {mixture.low:.4g} to {mixture.high:.4g}, lies outside its allow_override"
            what = f"{own}, {bounds.low:g} to {bounds.high:g}; no key or request of it can ask for the same"
            yield Finding("info", what)


def _strategy(value: object) -> str:
    # LiteLLM's own enum members print as their class otherwise.
    return str(getattr(value, "value", value) or "simple-shuffle")
