"""The report in a real browser: it draws, it moves, it asks nobody."""

from pathlib import Path

import pytest

from erp_trainer.report import files
from erp_trainer.report.examples import pick
from erp_trainer.report.units import Units
from tests.browser import Browser, chromium
from tests.payloads import LAMBDAS, MODELS, payload
from tests.test_report_page import HOSTILE, candidates

_INK = """
return [...document.querySelectorAll("[data-chart]")].filter((chart) => {
  const drawn = [...chart.querySelectorAll("svg path, svg text, svg line")];
  const seen = (mark) => { const box = mark.getBoundingClientRect(); return box.width + box.height > 1; };
  const marks = [...chart.querySelectorAll("svg [class*=mark-] path, svg [class*=mark-] line")].filter(seen);
  return drawn.filter(seen).length < 5 || marks.length < 3;
}).map((chart) => chart.dataset.chart)
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    found = payload(samples=4)
    files.write(found, path, title="a run", examples=pick(candidates("What is 2 + 2?"), Units.of(found)))
    return path


def unfold(browser: Browser) -> None:
    """Open all that is folded away, and wait until its charts are drawn."""
    browser.js("for (const part of document.querySelectorAll('details')) part.open = true")
    browser.until(lambda: browser.js("return document.querySelectorAll('[data-chart]:not(:has(svg))').length") == 0)


def assert_at_peace(browser: Browser) -> None:
    """No complaint on the console, nothing asked of the network."""
    assert browser.complaints() == []
    assert browser.requests() == []


def shade(browser: Browser, what: str) -> float:
    """How light a colour of the page's body is, 0 to 255."""
    colour = browser.js(f"return getComputedStyle(document.body).{what}")
    red, green, blue = (float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3])
    return (red + green + blue) / 3


def test_every_chart_has_ink_and_nothing_complains(browser, report):
    browser.open(report)
    assert browser.js("return document.querySelectorAll('[data-chart]').length") >= 12
    unfold(browser)
    assert browser.js(_INK) == []
    assert_at_peace(browser)


def test_the_slider_moves_the_figures_the_mix_and_the_ring(browser, report):
    browser.open(report)
    seen = []
    for place in (0, 3, len(LAMBDAS) - 1):
        browser.set("#dial", place)
        figures = [browser.text(f"#at-{name}") for name in ("lambda", "cost", "reward", "gain")]
        ring = browser.js("return views.get('frontier').data('here')[0].cost")
        seen.append((*figures, ring, browser.text("#at-key")))
    assert [row[0] for row in seen] == ["0", "0.250", "4.00"]
    assert all(len(set(column)) == 3 for column in zip(*seen, strict=True))


def test_in_money_the_slider_stays_within_the_budget(browser, report):
    browser.open(report)
    browser.js("document.querySelector('input[name=mode][value=budget]').click()")
    costs = []
    for place in (1000, 500, 100, 0):
        browser.set("#dial", place)
        budget = float(browser.text("#at-budget").rsplit(" ", 1)[1])
        costs.append(float(browser.text("#at-cost").lstrip("$")))
        assert costs[-1] <= budget * 1.01
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) > 2


def test_switching_between_lambda_and_money_stays_at_the_same_point(browser, report):
    browser.open(report)
    browser.set("#dial", 2)
    before = browser.text("#at-cost")
    for mode in ("budget", "lambda"):
        browser.js(f"document.querySelector('input[name=mode][value={mode}]').click()")
        assert browser.text("#at-cost") == before


def test_a_category_changes_the_heat_maps(browser, report):
    browser.open(report)
    unfold(browser)
    cells = "return JSON.stringify(views.get('wins-true').data('rows').map((row) => row.value))"
    before = browser.js(cells)
    browser.set("select[data-cells=wins]", "law & order")
    browser.until(lambda: browser.js(cells) != before)
    assert_at_peace(browser)


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_a_phone(browser, report, dark):
    browser.open(report, width=390, dark=dark)
    assert browser.js("return document.documentElement.scrollWidth") <= 390
    assert browser.js("window.scrollTo(500, 0); return window.scrollX") == 0
    unfold(browser)
    assert browser.js(_INK) == []
    assert_at_peace(browser)


def test_dark_is_dark_and_light_is_light(browser, report):
    browser.open(report, dark=True)
    assert shade(browser, "backgroundColor") < 40 < 200 < shade(browser, "color")
    accent = "return document.querySelector('[data-chart=frontier] svg').innerHTML.includes(arguments[0])"
    assert browser.js(accent, "#7aa8ff")
    browser.open(report)
    assert shade(browser, "color") < 60 < 240 < shade(browser, "backgroundColor")
    assert browser.js(accent, "#2a62c9")


def test_the_page_follows_when_the_system_turns_dark(browser, report):
    browser.open(report)
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    browser.until(lambda: browser.js("return document.documentElement.dataset.ready") == "dark")
    unfold(browser)
    assert browser.js(_INK) == []
    assert_at_peace(browser)


@pytest.mark.parametrize(
    ("models", "costs"),
    [
        (MODELS[:1], True),
        (MODELS[:2], False),
        (tuple(f"model-{m:02}" for m in range(26)), True),
        ((HOSTILE, "b"), True),
    ],
    ids=["one model", "no prices", "many models", "hostile names"],
)
def test_other_pools_draw_too(browser, tmp_path, models, costs):
    files.write(payload(models=models, costs=costs), tmp_path / "report.html", title=HOSTILE)
    browser.open(tmp_path / "report.html", width=390)
    unfold(browser)
    assert browser.js(_INK) == []
    assert browser.js("return document.documentElement.scrollWidth") <= 390
    assert_at_peace(browser)


def test_what_only_a_paper_asks_for_is_folded_away_and_drawn_when_it_is_opened(browser, report):
    browser.open(report)
    shown = "return document.querySelectorAll('#{} [data-chart] svg').length"
    short = browser.js("return document.documentElement.scrollHeight")
    assert browser.js(shown.format("pairs")) == browser.js(shown.format("wins")) == 0
    browser.js("location.hash = 'pairs'")
    browser.until(lambda: browser.js(shown.format("pairs")) == 2)
    assert browser.js(shown.format("wins")) == 0
    unfold(browser)
    assert short < 0.75 * browser.js("return document.documentElement.scrollHeight")
    assert_at_peace(browser)


def test_on_a_phone_points_have_numbers_with_a_key_and_wide_tables_say_that_they_scroll(browser, report):
    browser.open(report, width=390)
    texts = "return [...document.querySelectorAll('[data-chart=frontier] svg text')].map((text) => text.textContent)"
    key = browser.text(".points")
    assert {"1", "2", "3", "4"} <= set(browser.js(texts))
    assert all(name in key for name in (*MODELS, "oracle 0.830 to 0.930"))
    hints = "return [...document.querySelectorAll('#policies .hint')].map((hint) => hint.offsetHeight > 0)"
    browser.until(lambda: browser.js(hints)[0])
    browser.open(report)
    assert not any(browser.js(hints))
    assert set(MODELS) & set(browser.js(texts))
    assert browser.js("return document.querySelector('.points').offsetHeight") == 0


def test_a_name_of_300_characters_breaks_nothing(browser, tmp_path):
    names = tuple(f"{'n' * 150}{m}{'e' * 149}" for m in range(3))
    files.write(payload(models=names), tmp_path / "report.html", title="t" * 300)
    for width in (390, 1200):
        browser.open(tmp_path / "report.html", width=width)
        assert browser.js("return document.documentElement.scrollWidth") <= width
    rows = "return Math.max(...[...document.querySelectorAll('#policies tr')].map((row) => row.offsetHeight))"
    assert browser.js(rows) < 120
    assert browser.js("return document.body.innerText.includes(arguments[0])", names[0]) is False
