"""Every metric: its name, what it means, its labels. docs/metrics.md is written from this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram", "summary"]
Mode = Literal["livemax", "livemin", "livesum", "livemostrecent"]
GROUP, TEAM, MODEL = "group", "team", "model"
ANSWERED = (GROUP, TEAM, MODEL)
_BUCKETS_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0)

LABELS = {
    GROUP: "a routing group of `erp_settings`",
    TEAM: "LiteLLM's id of the team (its alias where it has no id), empty without a team; teams that the settings name "
    "come first, then the first that send requests, {teams} in all; all others are `other`",
    MODEL: "a pool model; `none` where LiteLLM's own order was left, `other` where the answer came from elsewhere",
    "reason": "as in `x-erp-reason`, of the list below; anything else is `other`",
    "stage": "`embed`, `predict` or `rank`",
    "outcome": "stands with each metric",
    "bundle": "a bundle's id",
    "best_single": "the pool model that its evaluation found best, of those that serve every prompt alone",
    "bound": "`mean`, or `low` or `high` of the 95% interval",
    "sign": "`plus`, or `minus`, whose amounts count as negative: Prometheus takes a sum that falls for a restart",
    "where": "which of the plugin's functions, of the list below; anything else is `other`",
}
REASONS = (
    "routed",
    "safe-default",
    "sticky",
    "explored",
    "drifted",
    "shadow",
    "exhausted",
    "retry",
    "bound",
    "own-parameters",
    "fallback:embedding",
    "fallback:embedding-timeout",
    "fallback:error",
    "fallback:exhausted",
    "fallback:no-permitted-model",
    "fallback:no-tenant",
    "fallback:none-left",
    "fallback:order-fallback",
)
PLACES = (
    "pick_by_prompt",
    "pick_unread",
    "pick_cheapest",
    "async_pre_call_hook",
    "async_pre_call_deployment_hook",
    "async_post_call_response_headers_hook",
    "async_post_call_success_hook",
    "async_log_success_event",
    "async_post_call_failure_hook",
    "gauges",
)
OTHER = "other"
# Each observation costs a microsecond or two, and there are three stages.
STAGES_EVERY = 4
# A distance takes a product with a matrix as wide as the embedding.
NOVELTY_EVERY = 16


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric.

    Attributes
    ----------
    name : without the ``_total`` that counters get
    meaning : a sentence, with the unit
    mode : of a gauge, how several workers' values become one; ``live`` leaves out workers that have ended
    buckets : of a histogram
    """

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    mode: Mode = "livemax"
    buckets: tuple[float, ...] = ()


DECISIONS = Definition(
    "erp_decisions",
    "counter",
    "Picks, by what was left in and why; a request that is retried has several",
    (GROUP, TEAM, MODEL, "reason"),
)
HOOK_SECONDS = Definition(
    "erp_decision_seconds", "histogram", "Seconds of the whole hook for a pick", (GROUP,), buckets=_BUCKETS_S
)
STAGE_SECONDS = Definition(
    "erp_stage_seconds",
    "histogram",
    f"Seconds of a stage of a decision: embed the prompt, predict rewards and costs, rank; of one in {STAGES_EVERY}",
    (GROUP, "stage"),
    buckets=_BUCKETS_S,
)
SERVED = Definition(
    "erp_served",
    "counter",
    "Answers, by what became of the decision: `followed`, `other-group`, `cached` or `not-followed`",
    (GROUP, "outcome"),
)
REFUSED = Definition("erp_budget_refusals", "counter", "Requests refused because a budget is spent", (GROUP, TEAM))
ANSWERS = Definition("erp_answers", "counter", "Answers whose cost was counted, by the model that gave them", ANSWERED)
COST = Definition("erp_cost_usd", "counter", "What these answers really cost, USD", ANSWERED)
EXPECTED_COST = Definition("erp_expected_cost_usd", "counter", "What they were expected to cost, USD", ANSWERED)
COMPARED = Definition(
    "erp_compared_cost_usd",
    "counter",
    "Cost, USD, of the answers for which the best single model's cost is known too",
    (GROUP, TEAM),
)
BEST_SINGLE = Definition(
    "erp_best_single_cost_usd",
    "counter",
    "What the best single model would have cost for those, USD: its expected cost, corrected as the served model's "
    "turned out",
    (GROUP, TEAM),
)
EXPECTED_REWARD = Definition(
    "erp_expected_reward", "summary", "Expected reward of the answers, of the model that served", (*ANSWERED, "sign")
)
OBSERVED_REWARD = Definition(
    "erp_observed_reward", "summary", "Rewards that were fed back for answers", (*ANSWERED, "sign")
)
EXPLORED = Definition(
    "erp_explored_cost_usd",
    "summary",
    "By how much explored choices are expected to be dearer (`plus`) or cheaper (`minus`) than the best, USD",
    (GROUP, "sign"),
)
NOVELTY = Definition(
    "erp_prompt_novelty",
    "summary",
    "How far prompts are from the training prompts, by the model that was left in: their leverage over a training "
    f"prompt's median, so that 1 is usual; of one in {NOVELTY_EVERY}",
    ANSWERED,
)
DRIFT_SCORE = Definition(
    "erp_drift_score",
    "gauge",
    "Evidence in feedback that a model has become worse than its probe expects, over what it takes to say so: 1 and "
    "more has drifted, and stays there until it is fitted anew; team `` is all feedback together",
    ANSWERED,
)
QUARANTINED = Definition(
    "erp_model_quarantined",
    "gauge",
    "1 where a model that has drifted counts for its mean at most, less what it lost; team `` is for all",
    ANSWERED,
)
LAMBDA = Definition(
    "erp_lambda",
    "gauge",
    "λ that a team's requests get now (the mean where two are mixed), per USD per 1,000 requests",
    (GROUP, TEAM),
    "livemostrecent",
)
BUDGET = Definition(
    "erp_budget_usd", "gauge", "Budget of the running window, USD; team `` is the group's own", (GROUP, TEAM)
)
BUDGET_LEFT = Definition(
    "erp_budget_remaining_usd",
    "gauge",
    "What is left of it, USD, less what requests in flight hold",
    (GROUP, TEAM),
    "livemin",
)
BUDGET_ENDS = Definition("erp_budget_window_end_seconds", "gauge", "When the window ends, Unix seconds", (GROUP, TEAM))
BUDGET_STARTS = Definition(
    "erp_budget_window_start_seconds", "gauge", "When the window began, Unix seconds", (GROUP, TEAM)
)
SHARED = Definition(
    "erp_budgets_shared",
    "gauge",
    "1 while budgets are exchanged with a Redis or a file, 0 while each process counts alone",
    mode="livemin",
)
REDIS_FAILURES = Definition("erp_redis_failures", "counter", "Exchanges with that store that failed")
EMBEDDINGS = Definition(
    "erp_embedder_lookups",
    "counter",
    "Embeddings asked of an embedder that has a cache (all but the built-in one): `hit` or `miss`",
    (GROUP, "outcome"),
)
BREAKER = Definition(
    "erp_embedder_breaker_open",
    "gauge",
    "Workers that leave a failing embedder alone, until it answers again",
    (GROUP,),
    "livesum",
)
LOADED = Definition(
    "erp_bundle_loaded",
    "gauge",
    "Workers that serve from this bundle; 0 for one that was replaced",
    (GROUP, "bundle", "best_single"),
    "livesum",
)
CREATED = Definition(
    "erp_bundle_created_seconds",
    "gauge",
    "When the bundle in use was made, Unix seconds; its age is `time() -` this",
    (GROUP,),
    "livemin",
)
RELOADS = Definition("erp_bundle_reloads", "counter", "New bundles seen: `ok` or `refused`", (GROUP, "outcome"))
BUNDLE_REFUSED = Definition(
    "erp_bundle_refused", "gauge", "1 while the bundle in the folder is refused and an older one serves", (GROUP,)
)
SAVING = Definition(
    "erp_bundle_saving_ratio",
    "gauge",
    "Share of the best single model's cost that the bundle's evaluation saves at equal reward",
    (GROUP, "bound"),
    "livemostrecent",
)
GAIN = Definition(
    "erp_bundle_gain",
    "gauge",
    "Reward at λ = 0 less that of the best single model, in the bundle's evaluation",
    (GROUP, "bound"),
    "livemostrecent",
)
SELF_TEST = Definition(
    "erp_self_test", "gauge", "1 where LiteLLM follows what is decided, 0 where not", (GROUP,), "livemin"
)
FAILURES = Definition("erp_failures", "counter", "Errors of the plugin that no request failed of", ("where",))
LOG_DROPPED = Definition("erp_decision_log_dropped", "counter", "Lines of the decision log that could not be written")

DEFINITIONS = tuple(value for value in list(globals().values()) if isinstance(value, Definition))
