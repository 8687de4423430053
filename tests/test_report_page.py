"""The report without a browser: what is in the file, and what must not be."""

import csv
import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from erp_trainer import words
from erp_trainer.report import files
from erp_trainer.report.assembly import page_of
from erp_trainer.report.examples import PromptChoices, pick
from erp_trainer.report.html import report_html
from erp_trainer.report.labels import place, stacked
from erp_trainer.report.palette import PALETTES, themed
from erp_trainer.report.text import report_text
from erp_trainer.report.units import Units
from tests.payloads import LAMBDAS, MODELS, payload

HOSTILE = "</script><script>alert(1)</script> & <b>\u2028"


class Elements(HTMLParser):
    """Collects the names and attributes of a page's elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += attrs


def candidates(text: str = "a prompt") -> PromptChoices:
    """Four prompts and two models; the bundle leaves the best single model on all of them."""
    recorded = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    expected = np.array([[0.9, 0.5], [0.6, 0.5], [0.7, 0.5], [0.8, 0.5]])
    costs = np.array([[1e-4, np.nan]] * 4)
    return PromptChoices(("a", "b"), [text] * 4, ["x", "x", "y", "y"], expected, recorded, costs, np.zeros(4, int), 1)


def test_the_page_loads_nothing():
    page = Elements(report_html(page_of(payload(), "run")))
    assert not {"img", "iframe", "object"} & set(page.names)
    addresses = [value for name, value in page.attributes if name in ("src", "href", "action", "data") and value]
    assert all(address.startswith(("#", "data:")) for address in addresses)


def test_words_of_the_users_data_stay_words():
    hostile = payload(models=(HOSTILE, "b"))
    page = report_html(page_of(hostile, HOSTILE, pick(candidates(HOSTILE), Units.of(hostile))))
    assert Elements(page).names.count("script") == 3
    assert "alert(1)</script> &amp;" not in page
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page


def test_prompts_are_only_there_where_they_were_given():
    assert "a very private prompt" not in report_html(page_of(payload(), "run"))
    examples = pick(candidates("a very private prompt"), Units.of(payload()))
    assert "a very private prompt" in report_html(page_of(payload(), "run", examples))


def test_a_long_prompt_is_cut():
    shown = pick(candidates("word " * 1000), Units.of(payload()))[0]["prompt"]
    assert len(shown) < 450
    assert shown.endswith("…")


def test_examples_are_won_ones_first_then_lost_ones_and_no_draws():
    says = [example["says"] for example in pick(candidates(), Units.of(payload()))]
    up, down = "+1.000 reward against always b", f"{words.MINUS}1.000 reward against always b"
    assert says == [up, up, down]


def test_money_that_is_worth_the_reward_lost_counts_as_won():
    recorded = np.array([[0.4, 0.5], [0.0, 1.0]])
    expected = np.array([[0.5, 0.55], [0.5, 0.55]])
    costs = np.array([[1e-4, 1e-3]] * 2)
    choices = PromptChoices(("a", "b"), ["x", "y"], ["c", "c"], expected, recorded, costs, np.zeros(2, int), 1, 200.0)
    says = [example["says"] for example in pick(choices, Units.of(payload()))]
    less = "$0.900 less against always b"
    assert says == [f"{words.MINUS}0.100 reward, {less}", f"{words.MINUS}1.000 reward, {less}"]


def test_the_bundles_choice_is_marked_in_every_example():
    for example in pick(candidates(), Units.of(payload())):
        assert [model["name"] for model in example["models"] if model["chosen"]] == ["a"]


@pytest.mark.parametrize("models", [MODELS[:1], MODELS[:2], tuple(f"model-{m:02}" for m in range(30))])
@pytest.mark.parametrize("costs", [True, False])
def test_every_shape_of_pool_has_a_page(models, costs):
    page = page_of(payload(models=models, costs=costs), "run")
    assert (page.dial is not None) == costs
    assert {section.id for section in page.sections} >= {"frontier", "policies", "prediction"}


def test_the_slider_has_every_lambda_and_every_share():
    dial = page_of(payload(), "run").dial
    assert [point["lambda"] for point in dial.points] == list(LAMBDAS)
    assert all(math.isclose(sum(part["share"] for part in point["mix"]), 1.0, abs_tol=2e-3) for point in dial.points)


def test_a_ceiling_that_is_unknown_is_said_to_be():
    assert "is unknown at 1 sample per prompt" in report_html(page_of(payload(samples=1), "run"))
    assert "over 8 samples" in report_html(page_of(payload(samples=8), "run"))


def test_what_lies_outside_the_chart_is_drawn_at_its_edge_with_its_figure():
    (oracle,) = [row for row in _frontier()["datasets"]["points"] if row["policy"].startswith("oracle")]
    assert oracle["kind"] == "up"
    assert oracle["label"] == "oracle 0.830 to 0.930"
    assert oracle["at_reward"] < oracle["reward"] == 0.93
    assert "Outside: oracle 0.830 to 0.930; tiny-1b 0.300" in page_of(payload(), "run").sections[0].caption


def _frontier():
    return page_of(payload(), "run").charts["frontier"]


def test_labels_do_not_cover_each_other():
    points = [{"cost": 1.0, "reward": 0.5, "label": f"model {m}"} for m in range(6)]
    sides = [row["side"] for row in place(points, [], (0.0, 2.0), (0.0, 1.0), logarithmic=False)]
    assert sorted(set(sides)) == ["above", "below", "left", "none", "right"]
    assert sides.count("none") == 2


def test_neighbours_at_the_edge_stand_below_each_other():
    rows = [{"at_cost": cost, "label": "a model of some length"} for cost in (1.0, 1.01, 9.0)]
    assert stacked(rows, (0.0, 10.0), logarithmic=False) == [0, 1, 0]


def test_dear_policies_stand_at_the_right_edge_below_each_other():
    found = payload()
    for key in ("ranking", "cascade"):
        dear = found["curves"]["oracle"] | {"label": key}
        found["curves"][key] = dear | {"points": [dear["points"][0] | {"cost_usd": 0.01, "lambda": None}]}
    rows = page_of(found, "run").charts["frontier"]["datasets"]["points"]
    dear = [row for row in rows if row["kind"] == "on"]
    assert [row["label"] for row in dear] == ["ranking 0.850 at $10.0", "cascade 0.850 at $10.0"]
    assert dear[0]["at_reward"] > dear[1]["at_reward"]


def test_what_pays_for_many_models_does_not_stretch_the_cost_axis_and_is_marked_and_listed():
    found, plain = payload(), _frontier()
    line = found["curves"]["zooter"] | {"label": "cascade"}
    costs = [1e-2 * 0.3**place for place in range(len(line["points"]))]
    points = [point | {"cost_usd": cost} for point, cost in zip(line["points"], costs, strict=True)]
    found["curves"]["cascade"] = line | {"points": points}
    found["curves"]["ranking"] = found["curves"]["oracle"] | {"label": "ranking", "points": points[:1]}
    page = page_of(found, "run")

    def x_domain(chart):
        return next(part["encoding"]["x"]["scale"]["domain"] for part in chart["layer"])

    assert x_domain(page.charts["frontier"]) == x_domain(plain)
    low, high = x_domain(plain)
    prices = [found["models"][name]["cost_usd"] * 1000 for name in MODELS]
    assert low < min(prices) < max(prices) < high
    assert high - low < 1.2 * (max(prices) - min(prices))
    marked = {row["policy"]: row for row in page.charts["frontier"]["datasets"]["points"]}
    assert marked["cascade"]["kind"] == marked["ranking"]["kind"] == "on"
    assert "cascade 0.610 at $10.0" in page.sections[0].caption
    assert "ranking 0.610 at $10.0" in page.sections[0].caption


def test_policies_that_see_the_rewards_stand_apart_on_the_page():
    section = next(part for part in page_of(payload(), "run").sections if part.id == "policies")
    names = [(row.cells[0].text, row.cells[0].small) for row in section.tables[0].rows]
    oracle = next(place for place, (name, _) in enumerate(names) if name == "oracle")
    assert names[oracle][1] == "a bound: it sees the rewards it is judged by"
    assert section.tables[0].rows[oracle].cells[1].text == "0.830 to 0.930"
    first = next(place for place, (name, _) in enumerate(names) if name in MODELS)
    assert first < oracle


def test_on_a_logarithmic_axis_lines_stay_straight_in_cost():
    models = tuple(f"model-{m}" for m in range(9))
    crowded = payload(models=models)
    for name in models[:-1]:
        crowded["curves"][f"single:{name}"]["points"][0]["cost_usd"] = 1e-6
    chart = page_of(crowded, "run").charts["frontier"]
    rows = [row for row in chart["datasets"]["curves"] if row["policy"] == "ERP" and 0 <= row["place"] <= 1]
    assert len(rows) > 10
    slopes = {round((row["reward"] - rows[0]["reward"]) / (row["cost"] - rows[0]["cost"]), 9) for row in rows[1:]}
    assert len(slopes) == 1


def test_a_long_table_is_folded():
    found = payload()
    found["categories"] = {f"category {c}": found["categories"]["code"] for c in range(58)}
    page = report_html(page_of(found, "run"))
    assert "<summary>50 more</summary>" in page
    assert page.count('<td class="text ">category ') == 58


def test_a_measure_that_is_a_table_is_drawn_whatever_it_holds():
    rows = [
        {"policy": "one", "rate": {"mean": 0.25, "low": 0.2, "high": 0.3}, "count": 7.0, "why": None},
        {"policy": "two", "rate": None, "count": None, "why": "unknown"},
    ]
    tables = {"mine": {"heading": "My own measure", "note": "What it is.", "rows": rows}, "none": {"rows": []}}
    found = payload() | {"tables": tables}
    for text in (report_html(page_of(found, "t")), report_text(found)):
        assert all(part in text for part in ("My own measure", "0.25", "0.2", "two", "unknown"))
    assert "More measures" not in report_html(page_of(payload(), "t"))


def test_every_colour_of_every_chart_is_in_both_themes():
    tokens = set(
        re.findall(
            r'"\$(\w+)"', json.dumps([themed(spec, "light") for spec in page_of(payload(), "r").charts.values()])
        )
    )
    assert not {token for token in tokens if token != "schema"}
    assert PALETTES["light"].keys() == PALETTES["dark"].keys()


def test_the_table_has_every_policy_at_every_lambda():
    rows = list(csv.DictReader(io.StringIO(files.table(payload()))))
    assert len(rows) == 4 * len(LAMBDAS) + len(MODELS)
    assert math.isclose(sum(float(rows[0][f"share:{name}"]) for name in MODELS), 1.0)


def test_the_formats_are_what_they_say(tmp_path):
    for suffix in files.FORMATS:
        files.write(payload(), tmp_path / f"report.{suffix}", title="run")
    assert json.loads((tmp_path / "report.json").read_text())["verdict"]["kind"] == "both"
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "report.csv").read_text().startswith("policy,kind,lambda,")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_not_a_number_becomes_null_and_the_page_still_draws(tmp_path):
    found = payload()
    found["models"][MODELS[0]] |= {"r2": float("nan"), "r2_ci": None, "calibration": None}
    files.write(found, tmp_path / "report.html", title="run")
    files.write(found, tmp_path / "report.json", title="run")
    assert json.loads((tmp_path / "report.json").read_text())["models"][MODELS[0]]["r2"] is None


def test_names_lose_their_middle_and_stay_apart():
    names = ["llama-3.3-nemotron-super-49b-v1", "org/mistral-7b-instruct-v0.3", "small", "x" * 40 + "1", "x" * 40 + "2"]
    short = words.shortened(names)
    assert short["llama-3.3-nemotron-super-49b-v1"] == "llama-3.3…49b-v1"
    assert short["org/mistral-7b-instruct-v0.3"] == "mistral-7b…v0.3"
    assert short["small"] == "small"
    assert len(set(short.values())) == len(names)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.61234, "0.612"),
        (-0.00012, f"{words.MINUS}0.00012"),
        (1.2e-7, "1.2e−07"),
        (0.0, "0.000"),
        (123.456, "123.5"),
        (-2.5, f"{words.MINUS}2.500"),
        (None, words.NOTHING),
    ],
)
def test_numbers_are_written_for_people(value, text):
    assert words.number(value) == text


def test_a_difference_has_its_sign_and_nought_has_none():
    assert words.signed(0.0123) == "+0.012"
    assert words.signed(-0.0123) == f"{words.MINUS}0.012"
    assert words.signed(0.00001) == "+1.0e−05"


@pytest.mark.parametrize(
    ("value", "text"), [(0.29123, "0.291"), (12345.6, "12,346"), (0.0000012, "1.20e−06"), (0, "0")]
)
def test_money_keeps_three_digits(value, text):
    assert words.significant(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0%"), (1.0, "100%"), (0.42, "42%"), (0.003, "0.3%"), (0.9996, "99.96%"), (2e-6, "under 0.01%"),
     (1 - 1e-9, "over 99.99%"), (-0.004, f"{words.MINUS}0.4%"), (None, words.NOTHING)],
)  # fmt: skip
def test_a_share_that_is_neither_none_nor_all_is_not_written_so(share, text):
    assert words.percent(share) == text
