"""IO. A decision log in memory: arrays over requests, or over a random part of them where there are too many.

Which requests are kept is decided by a hash of their id, whatever their order, however many files they stand in, and
whichever process wrote them. Feedback is read after all decisions, and only that on requests that are kept is held.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from erp_trainer.logged.files import Reading, lines, log_files
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.decision_log.record import VERSION, Feedback, Record, parse_line
from litellm_erp.errors import DecisionLogError

# Requests kept, and numbers of candidates kept: a bound on memory that no interval feels.
MAX_REQUESTS = 100_000
_MAX_CELLS = 4_000_000
# Models kept, those that most requests name: more than any pool has, and what time and memory grow with.
_MAX_MODELS = 256
_CLOCKS_DIFFER_S = 86_400.0
# A person's word counts before a reward model's.
_HUMAN = ("api", "litellm")
_MAX_NAMES = 1000
# Named in an error.
_MOST_NAMES = 20
# Id and account.
Request = tuple[str, str | None]


@dataclass(frozen=True, eq=False)
class Log:
    """P requests at M models, and what was counted on the way.

    Attributes
    ----------
    models : sorted
    request_ids, accounts : P each; a client may choose an id, so that both together name a request
    served_P, chosen_P : int, columns of models; -1 for none
    propensity_PM : float64, 0 where the policy at work could not have served a model
    expected_PM, std_error_PM, cost_PM : float64, as candidates were logged; NaN where a model was none
    real_cost_P : float64, USD; NaN where it is not known
    reward_P : float64, feedback; NaN where there is none
    lambda_P : float64, NaN where none is logged
    route_P : bool, whether what was decided also served by design (mode route)
    usable_P : bool, answered, by a model that the propensities allow where they are known
    known_P : bool, whether the propensities are
    explored_P : bool, whether a draw chose another model than the best
    time_P : seconds since 1970
    block_P : int, requests with the same candidates' numbers, which are repeated prompts, share one
    counts : of lines, requests and feedback, for whoever reads the report
    group : which group's requests these are
    """

    models: tuple[str, ...]
    request_ids: tuple[str, ...]
    accounts: tuple[str | None, ...]
    served_P: np.ndarray
    chosen_P: np.ndarray
    propensity_PM: np.ndarray
    expected_PM: np.ndarray
    std_error_PM: np.ndarray
    cost_PM: np.ndarray
    real_cost_P: np.ndarray
    reward_P: np.ndarray
    lambda_P: np.ndarray
    input_tokens_P: np.ndarray
    route_P: np.ndarray
    usable_P: np.ndarray
    known_P: np.ndarray
    explored_P: np.ndarray
    time_P: np.ndarray
    block_P: np.ndarray
    counts: Mapping[str, Any]
    files: tuple[Path, ...] = ()
    group: str = ""


@dataclass(slots=True)
class _Row:
    """One request as it is kept while reading."""

    decision: Record
    columns: np.ndarray
    numbers: np.ndarray


@dataclass
class _Gathering:
    """What has been read so far."""

    group: str | None
    team: str | None
    mode: str | None
    sources: frozenset[str] | None
    rows: dict[Request, _Row] = field(default_factory=dict)
    said: dict[Request, tuple[tuple[bool, float], Feedback]] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    by: dict[str, Counter[str]] = field(default_factory=dict)
    cost_usd: float = 0.0
    span: list[float] = field(default_factory=list)
    most: int = 1 << 64
    cells: int = 0
    now: float = field(default_factory=time.time)

    @property
    def asked(self) -> dict[str, str | None]:
        """Which requests are asked about, by what tells them apart."""
        return {"group": self.group, "team": self.team, "mode": self.mode}

    def take(self, line: bytes) -> None:
        """One line."""
        try:
            found = parse_line(line)
        except DecisionLogError:
            self.counts["version" if _is_of_another_version(line) else "bad"] += 1
            return
        if found is not None and found.time > self.now + _CLOCKS_DIFFER_S:
            # A clock that is ahead would make all that comes later old.
            self.counts["bad"] += 1
        elif isinstance(found, Feedback):
            self.counts["feedback"] += 1
        elif found is not None:
            self._decide(found)

    def hear(self, found: Feedback) -> None:
        """Feedback, once all decisions are there."""
        if found.time > self.now + _CLOCKS_DIFFER_S or (self.sources is not None and found.source not in self.sources):
            return
        request = found.request_id, found.account
        if request not in self.rows and found.account is not None:
            return
        rank = (found.source in _HUMAN, -found.time)
        known = self.said.get(request)
        if known is None or rank > known[0]:
            self.said[request] = (rank, found)

    def _decide(self, found: Record) -> None:
        here = {"group": found.group, "team": found.team or "", "mode": found.mode}
        for kind, name in here.items():
            self._count(f"all {kind}s", name)
        if any(wanted not in (None, here[kind]) for kind, wanted in self.asked.items()):
            self.counts["of others"] += 1
            return
        request = found.request_id, found.account
        if (known := self.rows.get(request)) is not None:
            later = max(known.decision.time, found.time)
            again = f"{found.request_id}\0{later!r}", found.account
            if known.decision.time == found.time or (later == found.time and again in self.rows):
                self.counts["duplicates"] += 1
                return
            # Its client has used the id again. It cost what it cost, and feedback is of the first.
            self.counts["id used before"] += 1
            if later == found.time:
                request = again
            else:
                self.cells -= len(known.columns)
                self._keep(again, self.rows.pop(request))
        self.counts["requests"] += 1
        named = {"groups": found.group, "modes": found.mode, "bundles": found.bundle, "teams": found.team or ""}
        for kind, name in named.items():
            self._count(kind, name)
        self.span = [min([found.time, *self.span]), max([found.time, *self.span])]
        self.cost_usd += found.cost_usd or 0.0
        # Text is read again where it is needed: a prompt may be longer than all the rest.
        if _key(request[0]) < self.most:
            self._keep(request, _compact(found, self.columns))

    def _keep(self, request: Request, row: _Row) -> None:
        self.rows[request] = replace(row, decision=replace(row.decision, request_id=request[0]))
        self.cells += len(row.columns)
        wide = len(self.rows) * min(len(self.columns), _MAX_MODELS)
        if len(self.rows) > MAX_REQUESTS or max(self.cells, wide) > _MAX_CELLS:
            self._halve()

    def _halve(self) -> None:
        """Keep the half of the requests with the smaller hashes."""
        self.most //= 2
        self.rows = {request: row for request, row in self.rows.items() if _key(request[0]) < self.most}
        self.cells = sum(len(row.columns) for row in self.rows.values())

    def _count(self, kind: str, name: str) -> None:
        by = self.by.setdefault(kind, Counter())
        by[name if name in by or len(by) < _MAX_NAMES else "(others)"] += 1


def check_shares_models(log: Log, bundle: Bundle) -> None:
    """Raise where a log is of another pool than a bundle.

    Raises
    ------
    DecisionLogError : no model of the one is in the other
    """
    if not set(log.models) & set(bundle.models):
        raise DecisionLogError(
            f"the log shares no model with {bundle.path}: {_names('found', log.models)}; expected some of "
            f"{_names('its', bundle.models)}. Take the log of a proxy that routes among these"
        )


def read_log(
    paths: Sequence[Path],
    *,
    group: str | None = None,
    team: str | None = None,
    mode: str | None = None,
    sources: Sequence[str] | None = None,
) -> Log:
    """Read a decision log.

    Parameters
    ----------
    paths : folders, files or patterns
    group : the routing group asked about; needed where the log has several
    mode : of the requests asked about, ``shadow``, ``percent`` or ``route``; by default all
    sources : the feedback that counts; by default all, a person's before a reward model's, the latest of each

    Raises
    ------
    DecisionLogError : nothing there, nothing of the group, team or mode, several groups, or no line that is a decision
    """
    files, reading = log_files(paths), Reading()
    gathered = _Gathering(group, team, mode, None if sources is None else frozenset(sources))
    for line in lines(files, reading):
        gathered.take(line)
    where = ", ".join(map(str, paths))
    groups = gathered.by.get("all groups", Counter())
    if not groups:
        raise DecisionLogError(_nothing(where, gathered, reading))
    if group is None and len(groups) > 1:
        names = ", ".join(sorted(groups))
        raise DecisionLogError(f"{where}: has decisions of the groups {names}; say which with --group")
    if not gathered.rows:
        asked = {kind: name for kind, name in gathered.asked.items() if name is not None}
        names = " and ".join(f"{kind} {name!r}" for kind, name in asked.items())
        there = "; ".join(_names(f"{kind}s", gathered.by[f"all {kind}s"]) for kind in asked)
        raise DecisionLogError(f"{where}: no decision of {names}; found the {there}. Ask for one of those")
    for found in _feedback(files):
        gathered.hear(found)
    return _assembled(gathered, reading, tuple(files))


def _names(kind: str, found: Iterable[str]) -> str:
    names = [name or "(none)" for name in sorted(found)]
    more = len(names) - _MOST_NAMES
    return f"{kind} {', '.join(names[:_MOST_NAMES])}" + (f" and {more:,} more" if more > 0 else "")


def as_logged(request_id: str, seconds: float) -> str:
    """The id with which a request of a `Log` stands in the files."""
    return request_id.removesuffix(f"\0{seconds!r}")


def _feedback(files: Sequence[Path]) -> Iterator[Feedback]:
    for line in lines(files, Reading()):
        if b'"feedback"' in line:
            with contextlib.suppress(DecisionLogError):
                if isinstance(found := parse_line(line), Feedback):
                    yield found


def _nothing(where: str, gathered: _Gathering, reading: Reading) -> str:
    counts = gathered.counts
    if counts["version"]:
        return (
            f"{where}: its lines are of another version than 1; read it with the release that wrote it, or a newer one"
        )
    found = f"{reading.lines:,} lines in {reading.files} files, {counts['bad']:,} of them no record"
    return f"{where}: holds no decision (found {found}); expected a decision log, JSON lines with kind: decision"


def _key(request_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(request_id.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def _is_of_another_version(line: bytes) -> bool:
    """Whether a line that cannot be read is one of another release's."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    version = found.get("v") if isinstance(found, dict) else None
    return isinstance(version, int) and not isinstance(version, bool) and version != VERSION


def _compact(found: Record, columns: dict[str, int]) -> _Row:
    names = list(dict.fromkeys([*found.candidates, *(found.propensity or {})]))
    for name in (*names, found.served, found.chosen):
        if name:
            columns.setdefault(name, len(columns))
    numbers = np.full((len(names), 4), np.nan)
    for i, name in enumerate(names):
        each = found.candidates.get(name)
        if each is not None:
            numbers[i, :3] = [_nan(part) for part in (each.expected_reward, each.std_error, each.expected_cost_usd)]
        numbers[i, 3] = (found.propensity or {}).get(name, 0.0)
    # What stands in arrays, and text, need not be kept twice.
    kept = replace(found, candidates={}, propensity=None if found.propensity is None else {}, prompt=None, answer=None)
    return _Row(kept, np.array([columns[name] for name in names], dtype=np.int64), numbers)


def _nan(found: float | None) -> float:
    return math.nan if found is None else found


def _said_of(gathered: _Gathering, request: Request) -> Feedback | None:
    """The feedback of a request: of its account, or of who may speak of any request."""
    said = [gathered.said[each] for each in {request, (request[0], None)} if each in gathered.said]
    return max(said, key=lambda each: each[0])[1] if said else None


def _models_of(gathered: _Gathering) -> tuple[str, ...]:
    """Names in order; of too many, those that most requests served, chose or had as candidates."""
    names = list(gathered.columns)
    if len(names) > _MAX_MODELS:
        named = np.zeros(len(names), dtype=np.int64)
        for row in gathered.rows.values():
            named[row.columns] += 1
            for name in (row.decision.served, row.decision.chosen):
                if name:
                    named[gathered.columns[name]] += 1
        names = [names[m] for m in np.argsort(-named, kind="stable")[:_MAX_MODELS].tolist()]
    return tuple(sorted(names))


def _assembled(gathered: _Gathering, reading: Reading, files: tuple[Path, ...]) -> Log:
    models = _models_of(gathered)
    place = np.full(max(1, len(gathered.columns)), -1, dtype=np.int64)
    for m, name in enumerate(models):
        place[gathered.columns[name]] = m
    requests = sorted(gathered.rows, key=lambda request: (request[0], request[1] or ""))
    ids = [request[0] for request in requests]
    numbers = np.full((len(ids), len(models), 4), np.nan)
    numbers[:, :, 3] = 0.0
    rows = [gathered.rows[request] for request in requests]
    for p, row in enumerate(rows):
        columns = place[row.columns]
        numbers[p, columns[columns >= 0]] = row.numbers[columns >= 0]
    decided = [row.decision for row in rows]

    def column(name: str | None) -> int:
        return int(place[gathered.columns[name]]) if name else -1

    served_P = np.array([column(each.served) for each in decided], dtype=np.int64)
    failed_P = np.array([each.failed for each in decided], dtype=bool) | (served_P < 0)
    allowed_P = numbers[np.arange(len(ids)), np.maximum(served_P, 0), 3] > 0
    known_P = np.array([each.propensity is not None for each in decided], dtype=bool)
    said = [_said_of(gathered, request) for request in requests]
    reward_P = np.array([math.nan if each is None else each.reward for each in said])
    # Propensities are of who serves first: after a failure they say nothing of who answered.
    followed_P = np.array([each.followed for each in decided], dtype=bool)
    strayed_P = ~failed_P & known_P & ~(allowed_P & followed_P)
    return Log(
        models=models,
        request_ids=tuple(ids),
        accounts=tuple(request[1] for request in requests),
        served_P=served_P,
        chosen_P=np.array([column(each.chosen) for each in decided], dtype=np.int64),
        propensity_PM=numbers[:, :, 3],
        expected_PM=numbers[:, :, 0],
        std_error_PM=numbers[:, :, 1],
        cost_PM=numbers[:, :, 2],
        real_cost_P=np.array([_nan(each.cost_usd) for each in decided]),
        reward_P=reward_P,
        lambda_P=np.array([_nan(each.lambda_) for each in decided]),
        input_tokens_P=np.array([_nan(each.input_tokens) for each in decided]),
        route_P=np.array([each.mode == "route" for each in decided], dtype=bool),
        usable_P=~failed_P & ~strayed_P,
        known_P=known_P,
        explored_P=np.array([each.reason == "explored" for each in decided], dtype=bool),
        time_P=np.array([each.time for each in decided]),
        block_P=_blocks(numbers),
        files=files,
        group=rows[0].decision.group,
        counts={
            "files": reading.files,
            "lines": reading.lines,
            "torn": reading.torn,
            "cut_files": reading.cut,
            "bad": gathered.counts["bad"] + reading.too_long,
            "of_another_version": gathered.counts["version"],
            "duplicates": gathered.counts["duplicates"],
            "id_used_before": gathered.counts["id used before"],
            "of_other_groups_teams_or_modes": gathered.counts["of others"],
            "requests": gathered.counts["requests"],
            "kept": len(ids),
            "models_left_out": len(gathered.columns) - len(models),
            "failed": int(failed_P.sum()),
            "served_by_another_than_propensities_allow": int(strayed_P.sum()),
            "propensity_unknown": int((~failed_P & ~known_P).sum()),
            "feedback": gathered.counts["feedback"],
            "feedback_joined": int((~np.isnan(reward_P)).sum()),
            "cost_usd": gathered.cost_usd,
            "from": gathered.span[0],
            "to": gathered.span[1],
            "feedback_of": None if gathered.sources is None else sorted(gathered.sources),
            **{kind: dict(gathered.by.get(kind, {})) for kind in ("groups", "teams", "modes", "bundles")},
            "sources": dict(Counter(each.source for each in said if each is not None)),
        },
    )


def _blocks(numbers_PM4: np.ndarray) -> np.ndarray:
    """A number per request; equal where the candidates' expected rewards and costs are, as of a repeated prompt."""
    rewards_PM = np.ascontiguousarray(numbers_PM4[:, :, :3]).reshape(len(numbers_PM4), -1)
    seen: dict[bytes, int] = {}
    blocks = np.array([seen.setdefault(row.tobytes(), len(seen)) for row in rewards_PM], dtype=np.int64)
    # Without any numbers nothing says that two requests are alike.
    blank = np.isnan(rewards_PM).all(axis=1)
    return np.where(blank, len(seen) + np.arange(len(blocks)), blocks)
