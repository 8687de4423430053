"""IO. What a bundle would choose on the requests of a log, from the prompts' text that the log kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from erp_trainer.learning.embed import embed_prompts
from erp_trainer.logged.files import Reading, lines
from erp_trainer.logged.log import Log, Request, as_logged, check_shares_models
from erp_trainer.logged.proof import Asked, kept_rows
from erp_trainer.policies.frontier import default_lambdas
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.ranking import Predictions, predict_pool, rank_pool
from litellm_erp.decision_log.record import Record, parse_line
from litellm_erp.embedding import Embedder
from litellm_erp.errors import DecisionLogError

# Prompts held as text at once.
_BATCH = 256


def is_its_own(log: Log, bundle: Bundle) -> bool:
    """Whether a bundle made every decision of a log, so that what it predicted is on record."""
    return set(log.counts["bundles"]) == {bundle.id}


def prompts_of(log: Log) -> Iterator[tuple[Request, str]]:
    """Each kept request that has its prompt's text, with that, in the files' order."""
    requests = zip(log.request_ids, log.accounts, log.time_P.tolist(), strict=True)
    # Another group or another account may use an id too, and its client may do so again.
    wanted = {(as_logged(id_, seconds), account, seconds): (id_, account) for id_, account, seconds in requests}
    for line in lines(log.files, Reading()):
        found = None
        with contextlib.suppress(DecisionLogError):
            found = parse_line(line)
        if not isinstance(found, Record) or found.group != log.group:
            continue
        request = wanted.pop((found.request_id, found.account, found.time), None)
        if request is not None and found.prompt:
            yield request, found.prompt


def ask_bundle(
    log: Log,
    bundle: Bundle,
    embedder: Embedder,
    lambdas: Sequence[float] = (),
    *,
    seed: int = 0,
    advance: Callable[[int], None] = lambda steps: None,
) -> tuple[Log, Asked]:
    """A log with a bundle's predictions in the place of those it was written with, and what the bundle would choose.

    Requests without text are left out and counted; models that the bundle has no probe for keep what was logged.

    Raises
    ------
    DecisionLogError : no request has its prompt's text, or the log is of other models
    """
    check_shares_models(log, bundle)
    place = {request: p for p, request in enumerate(zip(log.request_ids, log.accounts, strict=True))}
    rows: list[int] = []
    parts: list[Predictions] = []
    for ids, texts in batches(prompts_of(log)):
        embedded = embed_prompts(tuple(texts), embedder, advance)
        here = [place[name] for name in ids]
        logged = log.input_tokens_P[here]
        tokens = np.where(np.isnan(logged), embedded.input_tokens_P, logged)
        parts.append(predict_pool(bundle, embedded.embeddings_PD, tokens[:, None], prices=bundle.prices()))
        rows += here
    if not rows:
        raise DecisionLogError(
            f"the log keeps no prompt's text, and bundle {bundle.id} decided none of it: what it would choose cannot "
            "be known. Leave --bundle out, or log prompts (decision_log in erp_settings) and come back"
        )
    found = Predictions(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Predictions)))
    widened = _widened(_rows(log, np.array(rows)), bundle.models)
    column_M = np.array([widened.models.index(name) for name in bundle.models])
    expected_PM, cost_PM, error_PM = widened.expected_PM, widened.cost_PM, widened.std_error_PM
    expected_PM[:, column_M], cost_PM[:, column_M] = found.expected_reward, found.cost
    error_PM[:, column_M] = bundle.uncertainty.std_error(found.leverage)
    values = list(lambdas) or default_lambdas(bundle.frontier)
    choices = {value: column_M[rank_pool(bundle, found, value).order[:, 0]] for value in values}
    kept = kept_rows(widened)
    counts = {**log.counts, "without_prompt": len(log.request_ids) - len(rows)}
    return replace(widened, counts=counts), Asked(
        tuple(values), {value: chosen[kept] for value, chosen in choices.items()}, bundle.id, seed
    )


def batches(pairs: Iterator[tuple[Request, str]]) -> Iterator[tuple[list[Request], list[str]]]:
    """Some requests at a time with their texts."""
    ids: list[Request] = []
    texts: list[str] = []
    for name, text in pairs:
        ids.append(name)
        texts.append(text)
        if len(ids) == _BATCH:
            yield ids, texts
            ids, texts = [], []
    if ids:
        yield ids, texts


def _rows(log: Log, rows: np.ndarray) -> Log:
    taken: dict[str, Any] = {each.name: getattr(log, each.name)[rows] for each in fields(log) if "_P" in each.name}
    names: dict[str, Any] = {name: tuple(getattr(log, name)[p] for p in rows) for name in ("request_ids", "accounts")}
    return replace(log, **names, **taken)


def _widened(log: Log, models: Sequence[str]) -> Log:
    """The log with columns for models that it does not know: they could not serve."""
    everyone = tuple(sorted({*log.models, *models}))
    column_M = np.array([everyone.index(name) for name in log.models], dtype=np.int64)
    changed: dict[str, Any] = {"models": everyone}
    for each in fields(log):
        if each.name.endswith("_PM"):
            array = getattr(log, each.name)
            wide = np.full((len(array), len(everyone)), 0.0 if each.name == "propensity_PM" else np.nan)
            wide[:, column_M] = array
            changed[each.name] = wide
    for name in ("served_P", "chosen_P"):
        found = getattr(log, name)
        changed[name] = np.where(found < 0, -1, column_M[np.maximum(found, 0)])
    return replace(log, **changed)


def default_of(bundle: Bundle) -> tuple[float, ...]:
    """The λ that a bundle is looked at by default."""
    return tuple(default_lambdas(bundle.frontier))
