"""Would this router route as its owner thinks? Asked by the proxy at start and by ``erp-train doctor``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from litellm_erp import litellm_releases as releases
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.choice.cost import Price, PriceTable
from litellm_erp.goals.goal import MONEY, Goal
from litellm_erp.goals.settings import GroupSettings, Settings
from litellm_erp.goals.solve import reachable, solve
from litellm_erp.serving.deployments import Deployment, Member, MemberTable, pool_price

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
    fallbacks = {kind: settings.get(kind) for kind in FALLBACKS}
    if defaults := settings.get("default_fallbacks"):
        fallbacks["default_fallbacks"] = [{"*": defaults}]
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
    found = [Finding(f.level, f"group {name!r}: {f.text}") for name, group in settings.groups.items()
             for f in _check_group(view, group, bundles.get(name), members, running)]  # fmt: skip
    if view.num_retries == 0:
        found.append(
            Finding(
                "warning",
                "num_retries is 0: a model that fails costs its request; set router_settings.num_retries to 2",
            )
        )
    found += [f for kind, value in view.fallbacks.items() for f in _check_fallbacks(view, settings, kind, value)]
    return worst_first(found)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Errors, then warnings, then what is only good to know; each once."""
    return sorted(dict.fromkeys(findings), key=lambda finding: LEVELS.index(finding.level))


def _check_group(
    view: RouterView, group: GroupSettings, bundle: Bundle | None, members: MemberTable, running: bool
) -> list[Finding]:
    own_names = {str(deployment.get("model_name")) for deployment in view.model_list}
    listed = view.groups.get(group.name)
    found = _check_strategy(view)
    if listed is None and group.name not in own_names:
        text = (
            f"is in no routing group, so nothing is routed{' until one appears' if running else ''}; add "
            f"{{group_name: {group.name}, models: […], routing_strategy: simple-shuffle}} to "
            f"router_settings.routing_groups{near_miss(group.name, {*view.groups, *own_names})}"
        )
        return [*found, Finding("warning" if running else "error", text)]
    if listed is not None and (group.name in own_names or group.name in view.aliases):
        found.append(Finding("error", "a model or alias has the same name and hides the group; rename one of them"))
    names = set(listed) if listed is not None else {group.name}
    deployments = [d for d in view.model_list if str(d.get("model_name")) in names]
    if not deployments:
        text = "none of its models is in model_list, so there is nothing to choose from; add deployments of them"
        return [*found, Finding("warning" if running else "error", text)]
    if bundle is not None:
        found += _check_pool(group, bundle, [members.member(d) for d in deployments])
        found += _check_policies(group, bundle)
    return found + _check_params(deployments)


def _check_params(deployments: Sequence[Deployment]) -> list[Finding]:
    params = [found for d in deployments if isinstance(found := d.get("litellm_params"), Mapping)]
    found = []
    if any(entry.get("order") is not None for entry in params):
        text = "litellm_params.order of its deployments counts among replicas of one pool model only"
        found.append(Finding("info", text))
    if any(entry.get("weight") is not None for entry in params):
        text = "litellm_params.weight of its deployments shares requests out among replicas of one pool model only"
        found.append(Finding("info", text))
    return found


def _check_strategy(view: RouterView) -> list[Finding]:
    # The router's own; LiteLLM asks callbacks whatever a group's strategy is.
    if releases.asks_callbacks(view.strategy, view.release):
        return []
    return [
        Finding(
            "error",
            f"router_settings.routing_strategy is {view.strategy!r}, which never asks callbacks, so nothing is routed; "
            "use simple-shuffle or another of " + ", ".join(sorted(releases.ASKING_STRATEGIES)),
        )
    ]


def _check_fallbacks(view: RouterView, settings: Settings, kind: str, value: object) -> list[Finding]:
    """Fallbacks that never apply, or that lead nowhere."""
    found = []
    for entry in _listed(value):
        for key, targets in entry.items() if isinstance(entry, Mapping) else [("*", [entry])]:
            name = str(key)
            if name != "*" and not _callable(name, view):
                text = f"{kind} of {name!r} never apply: no model, alias or routing group is called so"
                found.append(Finding("warning", text + near_miss(name, view.names)))
            found += _check_targets(view, settings, kind, name, _listed(targets) or [targets])
            found += _check_member(view, settings, kind, name, value)
    return found


def _check_targets(
    view: RouterView, settings: Settings, kind: str, name: str, targets: Sequence[object]
) -> list[Finding]:
    found = []
    for target in targets:
        called = target.get("model") if isinstance(target, Mapping) else target
        if called is None or called == []:
            continue
        said = f"{kind} of {name!r} lead to {str(called)!r}"
        if not _callable(str(called), view):
            text = f"{said}, and no model, alias or routing group is called so{near_miss(str(called), view.names)}"
            found.append(Finding("warning", text))
        elif called == name:
            found.append(Finding("warning", f"{said}, which is what has just failed; name another model or group"))
        elif name in settings.groups and called in view.groups.get(name, ()):
            found.append(Finding("info", f"{said}, a member of that group, which may have failed there just before"))
    return found


def _check_member(view: RouterView, settings: Settings, kind: str, name: str, value: object) -> list[Finding]:
    """LiteLLM looks fallbacks up by the name that was called, which is the group's and not its member's."""
    keyed = {str(key) for entry in _listed(value) if isinstance(entry, Mapping) for key in entry}
    groups = [group for group in settings.groups if name in view.groups.get(group, ()) and not keyed & {group, "*"}]
    return [
        Finding("info", f"{kind} of {name!r} do not apply to requests for group {group!r}, of which it is a member; "
                f"add {{{group}: […]}} where they should")
        for group in groups
    ]  # fmt: skip


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


def _check_pool(group: GroupSettings, bundle: Bundle, offered: Sequence[Member]) -> list[Finding]:
    found = []
    pool, deployed = set(bundle.models), {member.pool_model for member in offered}
    if missing := sorted(pool - deployed):
        found.append(
            Finding(
                "warning",
                f"pool models without a deployment: {', '.join(missing)}; they are never chosen. Name the "
                "deployments so, or set model_info.erp_model on them"
                + "".join(
                    f" ({name!r}{near_miss(name, deployed - pool)})"
                    for name in missing
                    if near_miss(name, deployed - pool)
                ),
            )
        )
    if unknown := sorted(deployed - pool):
        place = {"last": "rank last", "first": "rank first", "exclude": "are left out"}[group.unknown]
        found.append(
            Finding("warning", f"deployments without a probe in the bundle: {', '.join(unknown)}; they {place}")
        )
    if deployed and not pool & deployed:
        found.append(Finding("error", "no deployment belongs to a pool model, so nothing is ranked"))
    return found + _check_prices(bundle, offered)


def _check_prices(bundle: Bundle, offered: Sequence[Member]) -> list[Finding]:
    if all(record.constant_cost_usd is not None for record in bundle.manifest.models):
        return []
    prices = {record.name: _price(record.name, record.price, offered) for record in bundle.manifest.models}
    table = PriceTable.from_prices(list(prices.values()))
    if not (table.expected_cost(1.0, 1.0) > 0).any():
        return [
            Finding(
                "warning",
                "every price is zero or unknown, so λ can do nothing; state input_cost_per_token and "
                "output_cost_per_token in litellm_params, or fit with --prices",
            )
        ]
    if unpriced := [name for name, price in prices.items() if not price.known]:
        return [
            Finding("warning", f"no price is known for {', '.join(unpriced)}; at λ > 0 they rank behind the others")
        ]
    return []


def _price(model: str, recorded: Price, offered: Sequence[Member]) -> Price:
    replicas = [member for member in offered if member.pool_model == model]
    mapped = next((member.map_price for member in replicas if member.map_price is not None), None)
    return pool_price(replicas) or (recorded if recorded.known else mapped or recorded)


def _check_policies(group: GroupSettings, bundle: Bundle) -> list[Finding]:
    goals: dict[str, Goal] = {"policy": group.goal}
    goals |= {f"teams.{name}": team.goal for name, team in group.teams.items()}
    found = []
    for where, goal in goals.items():
        if goal.form in MONEY and bundle.manifest.cost_kind != "usd":
            text = f"{where}: {goal.form} is in USD, and the bundle's costs are relative; state a lambda or min_quality"
            found.append(Finding("error", text))
        elif remedy := reachable(goal, bundle.frontier):
            found.append(Finding("warning", f"{where}: {remedy}"))
    return found + _check_overrides(group, bundle)


def _check_overrides(group: GroupSettings, bundle: Bundle) -> list[Finding]:
    """Bounds that shut out the team's own goal: nobody below can ask for what the team itself has."""
    found = []
    for name, team in group.teams.items():
        mixture = solve(team.goal, bundle.frontier).mixture
        low, high = team.override.low, team.override.high
        if team.override.allowed and not (mixture.low <= high and mixture.high >= low):
            own = f"teams.{name}: its own λ, {mixture.low:.4g} to {mixture.high:.4g}, lies outside its allow_override"
            found.append(Finding("info", f"{own}, {low:g} to {high:g}; no key or request of it can ask for the same"))
    return found


def _strategy(value: object) -> str:
    # LiteLLM's own enum members print as their class otherwise.
    return str(getattr(value, "value", value) or "simple-shuffle")
