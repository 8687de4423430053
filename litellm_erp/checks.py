"""PURE. Would this router route as its owner thinks? Asked by the proxy at start and by ``erp-train doctor``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from litellm_erp.budget import MONEY, Policy, solve
from litellm_erp.bundle import Bundle
from litellm_erp.cost import Price, PriceTable
from litellm_erp.deployments import Deployment, Member, MemberTable, pool_price
from litellm_erp.settings import GroupSettings, Settings
from litellm_erp.teams import reachable

Level = Literal["error", "warning", "info"]

# Strategies of LiteLLM's router that ask callbacks; any other takes a path of its own that does not.
ROUTABLE_STRATEGIES = frozenset(
    {
        "simple-shuffle",
        "usage-based-routing-v2",
        "cost-based-routing",
        "latency-based-routing",
        "least-busy",
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be; ``error`` means a group is not routed at all."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class RouterView:
    """What the checks need of a router, whether it runs or is still a config file."""

    model_list: Sequence[Deployment]
    groups: Mapping[str, Sequence[str]]
    strategy: str
    aliases: frozenset[str]
    num_retries: int | None
    pre_call_checks: bool


def router_view(model_list: Sequence[Deployment], settings: Mapping[str, Any]) -> RouterView:
    """Read LiteLLM's model list and router settings.

    Parameters
    ----------
    model_list : ``Router.model_list``, or the config's
    settings : ``Router.get_settings()``, or the config's ``router_settings``
    """
    groups = {
        str(group.get("group_name")): [str(model) for model in group.get("models") or ()]
        for group in settings.get("routing_groups") or ()
        if isinstance(group, Mapping)
    }
    retries = settings.get("num_retries")
    return RouterView(
        model_list=model_list,
        groups=groups,
        strategy=_strategy(settings.get("routing_strategy")),
        aliases=frozenset(settings.get("model_group_alias") or {}),
        num_retries=retries if isinstance(retries, int) else None,
        pre_call_checks=bool(settings.get("enable_pre_call_checks")),
    )


def check_router(
    view: RouterView, settings: Settings, bundles: Mapping[str, Bundle], members: MemberTable
) -> list[Finding]:
    """All findings for the groups of ``erp_settings``, worst first.

    Parameters
    ----------
    bundles : the loaded bundle of each group; a group whose bundle could not be loaded may be absent
    """
    found = [Finding(f.level, f"group {name!r}: {f.text}") for name, group in settings.groups.items()
             for f in _check_group(view, group, bundles.get(name), members)]  # fmt: skip
    if view.num_retries == 0:
        found.append(
            Finding(
                "warning", "num_retries is 0: a model that fails costs its request; set router_settings.num_retries"
            )
        )
    if not view.pre_call_checks:
        found.append(
            Finding(
                "info",
                "enable_pre_call_checks is off: a prompt too long for the first choice fails there instead of going "
                "to a model it fits; set router_settings.enable_pre_call_checks: true",
            )
        )
    return sorted(found, key=lambda finding: ("error", "warning", "info").index(finding.level))


def _check_group(view: RouterView, group: GroupSettings, bundle: Bundle | None, members: MemberTable) -> list[Finding]:
    own_names = {str(deployment.get("model_name")) for deployment in view.model_list}
    listed = view.groups.get(group.name)
    found = _check_strategy(view.strategy)
    if listed is None and group.name not in own_names:
        found.append(
            Finding(
                "warning",
                "is in no routing group, so nothing is routed until one appears; add "
                f"{{group_name: {group.name}, models: […], routing_strategy: simple-shuffle}} to "
                "router_settings.routing_groups",
            )
        )
        return found
    if listed is not None and (group.name in own_names or group.name in view.aliases):
        found.append(Finding("error", "a model or alias has the same name and hides the group; rename one of them"))
    names = set(listed) if listed is not None else {group.name}
    offered = [members.member(d) for d in view.model_list if str(d.get("model_name")) in names]
    if bundle is not None:
        found += _check_pool(group, bundle, offered)
        found += _check_policies(group, bundle)
        if any((d.get("litellm_params") or {}).get("order") is not None for d in view.model_list
               if str(d.get("model_name")) in names):  # fmt: skip
            found.append(Finding("info", "litellm_params.order of its deployments is replaced by the ranking"))
    return found


def _check_strategy(strategy: str) -> list[Finding]:
    # The router's own; LiteLLM asks callbacks whatever a group's strategy is.
    if strategy in ROUTABLE_STRATEGIES:
        return []
    return [
        Finding(
            "error",
            f"router_settings.routing_strategy is {strategy!r}, which never asks callbacks, so nothing is routed; use "
            "simple-shuffle or another of " + ", ".join(sorted(ROUTABLE_STRATEGIES)),
        )
    ]


def _check_pool(group: GroupSettings, bundle: Bundle, offered: Sequence[Member]) -> list[Finding]:
    found = []
    pool, deployed = set(bundle.models), {member.pool_model for member in offered}
    if missing := sorted(pool - deployed):
        found.append(
            Finding(
                "warning",
                f"pool models without a deployment: {', '.join(missing)}; they are never chosen. Name the "
                "deployments so, or set model_info.erp_model on them",
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
    policies: dict[str, Policy] = {"policy": group.policy}
    policies |= {f"teams.{name}": team.policy for name, team in group.teams.items()}
    found = []
    for where, policy in policies.items():
        if policy.goal in MONEY and bundle.manifest.cost_kind != "usd":
            text = (
                f"{where}: {policy.goal} is in USD, and the bundle's costs are relative; state a lambda or min_quality"
            )
            found.append(Finding("error", text))
        elif remedy := reachable(policy, bundle.frontier):
            found.append(Finding("warning", f"{where}: {remedy}"))
    return found + _check_overrides(group, bundle)


def _check_overrides(group: GroupSettings, bundle: Bundle) -> list[Finding]:
    """Bounds that shut out the team's own goal: nobody below can ask for what the team itself has."""
    found = []
    for name, team in group.teams.items():
        mixture = solve(team.policy, bundle.frontier).mixture
        low, high = team.override.low, team.override.high
        if team.override.allowed and not (mixture.low <= high and mixture.high >= low):
            own = f"teams.{name}: its own λ, {mixture.low:.4g} to {mixture.high:.4g}, lies outside its allow_override"
            found.append(Finding("info", f"{own}, {low:g} to {high:g}; no key or request of it can ask for the same"))
    return found


def _strategy(value: object) -> str:
    # LiteLLM's own enum members print as their class otherwise.
    return str(getattr(value, "value", value) or "simple-shuffle")
