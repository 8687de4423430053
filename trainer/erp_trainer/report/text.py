"""PURE. The payload of ``erp-train evaluate`` as tables for a terminal, 80 to 110 columns wide, the verdict last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean

from erp_trainer.console import WIDTH, wrapped
from erp_trainer.report.columns import Head, Row, table
from erp_trainer.report.page import Figures
from erp_trainer.words import NOTHING, bare, number, percent, with_short_names

MAX_ROWS = 20

_TRUTH = "These see the rewards they are judged by, so no router can do what they do:"
_SINGLE = "Always one model:"


def report_text(payload: Figures, width: int = WIDTH) -> str:
    """Everything a reader needs who has not seen this before; the rest is in the payload and in the report.

    Parameters
    ----------
    width : of the terminal, in columns
    """
    payload = with_short_names(payload, [*payload["models"], *payload["categories"], *payload["models_left_out"]])
    text = _Text(payload, width)
    sections = (text.opening, text.policies, text.over_lambda, text.areas, text.models, text.categories, text.pairs,
                text.two_models, text.tables, text.unseen, text.adding, text.verdict)  # fmt: skip
    written = ("\n".join(section()) for section in sections)
    return "\n\n".join(text for text in written if text)


def _figure(value: float | None) -> str:
    return number(value, 4)


def _spread(interval: Figures | None, *, sign: bool = True) -> str:
    """A figure with its interval; a difference with its sign."""
    if interval is None or not _known(interval):
        return NOTHING
    mean, low, high = (number(interval[end], 4, sign=sign) for end in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _known(interval: Figures) -> bool:
    return interval["mean"] is not None and isfinite(interval["mean"])


def _entry(value: Figures | float | str | None) -> str:
    """A cell of a measure's own table: text, a figure, or one with its interval, unsigned as on the page."""
    if value is None or isinstance(value, str):
        return value or NOTHING
    return _spread(value, sign=False) if isinstance(value, Mapping) else _figure(value)


def _between(ends: Sequence[float | None]) -> str:
    return "–".join(number(end) for end in ends)


@dataclass(frozen=True, slots=True)
class _Text:
    """The sections of one payload, each as lines; one without figures has none."""

    payload: Figures
    width: int

    def _wrap(self, text: str) -> list[str]:
        return wrapped(text, self.width)

    def _table(self, heads: Sequence[Head], rows: Sequence[Row]) -> Iterator[str]:
        return table(heads, rows, self.width)

    def _most(self, rows: Sequence[Row], most: int = MAX_ROWS) -> list[Row]:
        """The first rows; those past ``most`` are counted."""
        more = [f"… and {len(rows) - most} more; --json has them all"] if len(rows) > most else []
        return [*rows[:most], *more]

    @property
    def _cost_head(self) -> str:
        return "USD/1k" if self.payload["cost"]["kind"] == "usd" else "cost"

    def _cost(self, value: float | None) -> str:
        return _figure(None if value is None else value * self.payload["cost"]["scale"])

    def opening(self) -> Iterator[str]:
        counts, found = self.payload["counts"], self.payload["oracle"]
        samples = "one sample" if counts["samples"] == 1 else f"{counts['samples']} samples"
        yield from self._wrap(
            f"{counts['test_prompts']} test prompts, {samples} of each of {counts['models']} models "
            f"({counts['left_out']} left out: their text occurs in train)"
        )
        if self.payload["models_left_out"]:
            yield from self._wrap(f"Without test outcomes: {', '.join(self.payload['models_left_out'])}")
        low, high = map(_figure, found["bracket"])
        yield from self._wrap(
            "Figures in brackets are 95% intervals; differences are in units of the reward (where it lies between 0 "
            f"and 1, 0.01 is one percentage point). The oracle earns between {low} and {high}: "
            f"{found['bracket_text']}. Regret is what a policy earns less than that, from one end to the other."
        )

    def policies(self) -> Iterator[str]:
        asked = self.payload["lambda"]
        listed = {row["curve"]: row for row in self.payload["policies"].values() if row["lambda"] in (asked, None)}
        ordered = sorted(listed.values(), key=lambda row: -(row["reward"] or 0.0))

        def group(chosen: Callable[[Figures], bool]) -> list[Row]:
            return [self._policy(row) for row in ordered if chosen(row)]

        singles, bounds = group(lambda row: row["kind"] == "single"), group(lambda row: row["kind"] == "bound")
        rows: list[Row] = group(lambda row: row["kind"] not in ("single", "bound"))
        rows += [_SINGLE, *self._most(singles)] if singles else []
        rows += [*self._wrap(_TRUTH), *bounds] if bounds else []
        yield f"At λ = {asked:.4g}"
        heads = [Head("policy", True), Head("reward"), Head("interval", spare=2), Head(self._cost_head),
                 Head("regret", spare=1), Head("against best single model")]  # fmt: skip
        yield from self._table(heads, rows)
        own = next(iter(self.payload["curves"].values()))["label"]
        explained = f"{own}'s choices, permuted: as many prompts to each model, dealt at random."
        if any(row["label"] == f"{own} --no-safety" for row in listed.values()):
            explained += f" {own} --no-safety: the same bundle on its predictions alone."
        yield from self._wrap(explained)

    def _policy(self, row: Figures) -> Row:
        bound = row["kind"] == "bound"
        if row["curve"] == "oracle":
            ends = self.payload["oracle"]["bracket"]
            return (row["label"], _between(ends), NOTHING, self._cost(row["cost_usd"]), NOTHING, NOTHING)
        return (bare(row["label"]), _figure(row["reward"]), "–".join(map(_figure, row["reward_ci"])),
                self._cost(row["cost_usd"]), NOTHING if bound else _between(row["regret_bracket"]),
                _spread(row["against_best_single"]))  # fmt: skip

    def over_lambda(self) -> Iterator[str]:
        key, curve = next(iter(self.payload["curves"].items()))
        rows = [row for row in self.payload["policies"].values() if row["curve"] == key]
        if len(rows) < 2:
            return
        yield f"{curve['label']} over λ"
        heads = [Head("λ"), Head("reward"), Head(self._cost_head), Head("against best single model"),
                 Head("against mixing at equal cost", spare=1)]  # fmt: skip
        cells = [
            (f"{row['lambda']:.4g}", _figure(row["reward"]), self._cost(row["cost_usd"]),
             _spread(row["against_best_single"]), _spread(row["against_mixture"]))
            for row in rows
        ]  # fmt: skip
        yield from self._table(heads, cells)

    def areas(self) -> Iterator[str]:
        curves = self.payload["curves"].values()
        rows = [row for row in curves if row["area"] is not None and row["kind"] not in ("single", "bound")]
        if not rows:
            return
        yield "Mean reward over all budgets from the cheapest to the dearest model"
        heads = [Head("policy", True), Head("reward"), Head("against mixing single models"),
                 Head("against per-category best", spare=1)]  # fmt: skip
        cells = []
        for row in rows:
            areas = [_spread(row["against"].get(which, {}).get("area")) for which in ("mixture", "category_best")]
            cells.append((row["label"], _figure(row["area"]["mean"]), *areas))
        yield from self._table(heads, cells)

    def models(self) -> Iterator[str]:
        def r2(value: float | None) -> str:
            # Far below 0 only says that these rewards are not those that were fitted.
            return "< −99" if value is not None and value < -99 else _figure(value)

        yield from self._wrap(
            "How well rewards are predicted (ceiling: the R² that noise allows; slope 1 is calibrated)"
        )
        heads = [Head("model", True), Head("R²"), Head("interval", spare=2), Head("ceiling"), Head("slope"),
                 Head("within 95%", spare=1), Head("mean reward")]  # fmt: skip
        cells: list[Row] = [
            (model, r2(row["r2"]), " to ".join(map(r2, row["r2_ci"])),
             _figure(row["ceiling"]).replace(NOTHING, "unknown"), number(row["calibration"]["slope"], 2),
             percent(row["error_calibration"]["within_95"]), _figure(row["mean_reward"]))
            for model, row in self.payload["models"].items()
        ]  # fmt: skip
        yield from self._table(heads, self._most(cells))

    def categories(self) -> Iterator[str]:
        found: Sequence[tuple[str, Figures]] = sorted(
            self.payload["categories"].items(), key=lambda item: -item[1]["test_prompts"]
        )
        if not found:
            return
        bundle = next(iter(self.payload["curves"]))
        yield f"By category at λ = {self.payload['lambda']:.4g}"
        heads = [Head("category", True), Head("prompts"), Head("reward"), Head("against best single model"),
                 Head("best model on train there", True, spare=1)]  # fmt: skip
        cells: list[Row] = [
            (category, str(row["test_prompts"]), _figure(row["policies"][bundle]["reward"]), _spread(row["gain"]),
             row["best_on_train"] or NOTHING)
            for category, row in found
        ]  # fmt: skip
        yield from self._table(heads, self._most(cells))

    def pairs(self) -> Iterator[str]:
        rows = [row for row in self.payload["pairs"]["rows"] if _known(row["auroc"])]
        if not rows:
            return
        bundle = next(iter(self.payload["curves"].values()))["label"]
        text = f"Which of two models earns more: AUROC {fmean(row['auroc']['mean'] for row in rows):.3f} for {bundle}"
        for other in self.payload["pairs"]["auroc_other"]:
            both = [row["auroc_other"][other]["mean"] for row in rows if _known(row["auroc_other"][other])]
            if both:
                text += f", {fmean(both):.3f} for {other}"
        ties, draws = (sum(row[key] for row in self.payload["pairs"]["rows"]) for key in ("ties", "draws"))
        yield from self._wrap(
            f"{text} (mean over {len(rows)} pairs; {percent(ties / max(draws, 1))} of draws are ties and left out)"
        )

    def two_models(self) -> Iterator[str]:
        found = self.payload["routellm"]
        if found is None:
            return
        yield from self._wrap(
            f"RouteLLM's protocol: share of the gap between {found['weak']} and {found['strong']} recovered on average "
            "(APGR), and the share of strong calls that recovers half and four fifths of it"
        )
        rows = [
            (row["policy"], _spread(row["apgr"], sign=False), number(row["cpt"]["0.5"]), number(row["cpt"]["0.8"]))
            for row in found["rows"]
            if row["category"] == ""
        ]
        yield from self._table([Head("policy", True), Head("APGR"), Head("half"), Head("4/5")], rows)

    def tables(self) -> Iterator[str]:
        for found in (self.payload.get("tables") or {}).values():
            if found["rows"]:
                yield found["heading"]
                # The first column names what the others are about.
                heads = [Head(head, not i) for i, head in enumerate(found["rows"][0])]
                yield from self._table(heads, [tuple(map(_entry, row.values())) for row in found["rows"]])

    def unseen(self) -> Iterator[str]:
        found = self.payload["leave_one_task_out"]
        if found is None:
            return
        yield "On tasks left out of training"
        rows = [(policy, _spread(gain)) for policy, gain in found["overall"].items()]
        yield from self._table([Head("policy", True), Head("against best single model of the other tasks")], rows)

    def adding(self) -> Iterator[str]:
        found = self.payload["price_of_adding"]
        if found is None:
            return
        yield from self._wrap(f"Routed reward after adding a model with so many prompts, at λ = {found['lambda']:.4g}")
        sizes = sorted({point["prompts"] for row in found["models"] for point in row["points"]})
        rows = []
        for row in found["models"]:
            earned = {point["prompts"]: point["reward"]["mean"] for point in row["points"]}
            rows.append((row["model"], _figure(row["without"]["mean"]), *(_figure(earned.get(n)) for n in sizes)))
        heads = [Head("model", True), Head("without"), *(Head(str(n), spare=1) for n in sizes)]
        yield from self._table(heads, rows)

    def verdict(self) -> Iterator[str]:
        yield from self._wrap(self.payload["bundle_verdict"]["text"])
        yield ""
        yield from self._wrap(self.payload["verdict"]["text"])
