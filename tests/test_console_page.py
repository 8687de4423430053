"""The console on a real proxy under load, in a real browser."""

import json
import os
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from litellm_erp.proxy.routes.console import MEDIA_TYPES
from tests.browser import Browser, chromium
from tests.harness import GROUP, ask, proxy_config, served, write_keys
from tests.pools import erp_settings, prompts

pytestmark = pytest.mark.proxy

# Where the documentation's pictures go; they show a name that one would rather look at.
PICTURES = os.environ.get("ERP_CONSOLE_PICTURES")
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
HOSTILE = "data-labelling" if PICTURES else HOSTILE
TEAMS = {
    "research": {"lambda": 0},
    "support": {"min_quality": 0.7},
    "batch": {"budget_usd": 0.02, "per": "day", "on_exhausted": "cheapest"},
    HOSTILE: {"lambda": 3},
}
KEYS = {
    "sk-admin": {"user_role": "proxy_admin", "team_id": None},
    **{f"sk-{name}": {"team_id": name} for name in ("research", "support", "batch")},
    "sk-hostile": {"team_id": HOSTILE},
    "sk-alone": {"team_id": None},
}
ROOT = "/gateway"
SECRET = "a-prompt-that-nobody-may-see"


@pytest.fixture(scope="module")
def proxy(start_module_proxy, stub_process, planted_bundle, tmp_path_factory):
    config = proxy_config(stub_process, erp_settings=erp_settings(planted_bundle, lambda_=1.0, teams=TEAMS))
    env = write_keys(tmp_path_factory.mktemp("keys") / "keys.json", KEYS)
    started = start_module_proxy(config, env=env | under_a_path(tmp_path_factory.mktemp("ui")))
    load(started)
    return started


def under_a_path(folder):
    """An environment in which LiteLLM serves under a path of its own.

    LiteLLM then rewrites the files of its own pages, so it gets a folder of such to do it in.
    """
    for page in ("index.html", "login/index.html", "_next/empty.html"):
        (folder / page).parent.mkdir(exist_ok=True)
        (folder / page).write_text("<!doctype html>", encoding="utf-8")
    return {"SERVER_ROOT_PATH": ROOT, "LITELLM_UI_PATH": str(folder)}


def load(proxy, n=160):
    asked = [text for _, text in prompts(n)]
    keys = ["sk-research", "sk-support", "sk-batch", "sk-hostile", "sk-alone"]

    def send(i):
        return ask(proxy, f"{asked[i]} {SECRET}" if i == 0 else asked[i], key=keys[i % len(keys)])

    with ThreadPoolExecutor(8) as pool:
        served(pool.map(send, range(n)))


def get(proxy, path, key=None):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.get(f"{proxy.base_url}{path}", headers=headers, trust_env=False, timeout=60, follow_redirects=False)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        running.driver.execute_cdp_cmd("Network.enable", {})
        yield running


def visit(browser, proxy, key="sk-admin", *, width=1200, dark=False):
    """Open the page anew, and sign in with the keyboard alone."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.driver.get(f"{proxy.base_url}{ROOT}/erp")
    browser.js("sessionStorage.clear(); localStorage.clear()")
    browser.driver.get(f"{proxy.base_url}{ROOT}/erp")
    browser.driver.switch_to.active_element.send_keys(key, Keys.ENTER)
    browser.until(lambda: browser.js("return document.documentElement.dataset.ready") == "yes")
    browser.until(lambda: browser.driver.find_elements(By.CSS_SELECTOR, "#decisions tbody tr"))


def take_picture(browser: Browser, path: Path, width: int) -> None:
    clip = {"x": 0, "y": 0, "width": width, "height": 1760 if width > 600 else 2300, "scale": 1}
    options = {"format": "png", "clip": clip, "captureBeyondViewport": True}
    path.write_bytes(b64decode(browser.driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"]))
    browser.picture(path.with_suffix(".whole.png"))


def test_the_page_is_anybodys_and_holds_no_data(proxy):
    page = get(proxy, f"{ROOT}/erp")
    assert page.text == get(proxy, "/erp").text
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    for rule in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert rule in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    for held in ("research", "small", GROUP):
        assert held not in page.text
    assert get(proxy, "/erp/").headers["location"] == "../erp"
    for name, media_type in MEDIA_TYPES.items():
        found = get(proxy, f"/erp/console/{name}")
        assert (found.status_code, found.headers["x-content-type-options"]) == (200, "nosniff")
        assert found.headers["content-type"].startswith(media_type)
    for name in ("__init__.py", "..%2f__init__.py", "%2e%2e%2ferrors.py", "index.html.bak"):
        assert get(proxy, f"/erp/console/{name}").status_code == 404


@pytest.mark.parametrize("path", ["/erp/groups", "/erp/decisions", "/erp/teams"])
def test_data_needs_a_key(proxy, path):
    assert get(proxy, path).status_code == 401
    assert get(proxy, path, "sk-nobodys").status_code == 401


def test_a_key_sees_the_decisions_of_its_team_only(proxy):
    everyone = get(proxy, "/erp/decisions", "sk-admin").json()["decisions"]
    assert {d["team"] for d in everyone} == {*TEAMS, None}
    for key, team in (("sk-research", "research"), ("sk-hostile", HOSTILE), ("sk-alone", None)):
        own = get(proxy, "/erp/decisions", key).json()["decisions"]
        assert len(own) == 32
        assert {d["team"] for d in own} == {team}
    assert len(get(proxy, "/erp/decisions?limit=5", "sk-admin").json()["decisions"]) == 5
    groups = get(proxy, "/erp/groups", "sk-research").json()
    assert groups["groups"][0]["spent"]["requests"] == 32
    # Those without a team count among everyone's.
    everyones = get(proxy, "/erp/groups", "sk-admin").json()["groups"][0]["spent"]
    assert everyones["requests"] >= 32 * 3
    assert everyones["requests"] == sum(everyones["by_model"].values())
    assert groups["groups"][0]["stands"] is None


def test_a_decision_says_what_its_client_was_told_and_no_prompt(proxy, stub):
    answer = ask(proxy, prompts(1)[0][1], key="sk-research")
    found = get(proxy, "/erp/decisions", "sk-research")
    one = next(d for d in found.json()["decisions"] if d["request_id"] == answer.headers["x-litellm-call-id"])
    assert (one["chosen"], one["served"], one["reason"]) == (answer.model, answer.model, answer.erp["reason"])
    assert one["candidates"][answer.model]["expected_reward"] == pytest.approx(
        float(answer.erp["expected-reward"]), rel=1e-4
    )
    assert one["cost_usd"] > 0
    assert one["latency_s"] > 0
    assert SECRET not in get(proxy, "/erp/decisions", "sk-admin").text


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (390, False), (390, True)])
def test_the_page_at_both_widths_and_in_both_themes(browser, proxy, width, dark):
    browser.complaints()
    browser.requests()
    visit(browser, proxy, width=width, dark=dark)
    assert browser.js("return document.documentElement.scrollWidth <= innerWidth")
    background = browser.js("return getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(17, 20, 25)" if dark else "rgb(255, 255, 255)")
    shown = browser.text("body")
    for held in ("Routing helps", "research", "support", "Saved", "spent (", HOSTILE):
        assert held in shown
    assert browser.driver.title == "Routing console"
    assert not browser.driver.find_elements(By.CSS_SELECTOR, "main img, main script")
    browser.set("#prompt", prompts(1)[0][1])
    browser.driver.find_element(By.CSS_SELECTOR, "#explain-form .primary").send_keys(Keys.ENTER)
    browser.until(lambda: browser.driver.find_elements(By.CSS_SELECTOR, "#explained tbody tr"))
    assert browser.complaints() == []
    asked = browser.requests()
    assert asked
    assert all(url.startswith(f"{proxy.base_url}{ROOT}/erp") and "sk-" not in url for url in asked)
    if PICTURES:
        take_picture(browser, Path(PICTURES) / f"console-{width}-{'dark' if dark else 'light'}.png", width)


def test_a_teams_key_sees_its_team_on_the_page(browser, proxy):
    visit(browser, proxy, "sk-support")
    assert [h.text for h in browser.driver.find_elements(By.CSS_SELECTOR, "#teams h3")] == ["support"]
    rows = browser.driver.find_elements(By.CSS_SELECTOR, "#decisions tbody td[data-label=Team]")
    assert {row.text for row in rows} == {"support"}
    assert "research" not in browser.text("body")


def test_the_slider_says_what_another_lambda_would_get(browser, proxy):
    visit(browser, proxy)
    points = get(proxy, "/erp/groups", "sk-admin").json()["groups"][0]["points"]
    slider = browser.driver.find_element(By.ID, "lambda")
    slider.send_keys(Keys.HOME)
    assert browser.text("#frontier .readings dd") == "0"
    slider.send_keys(Keys.END)
    assert float(browser.text("#frontier .readings dd")) == pytest.approx(points[-1]["lambda"], rel=0.01)


def test_the_keyboard_reaches_everything_in_the_pages_order(browser, proxy):
    visit(browser, proxy)
    browser.js("document.activeElement.blur(); document.body.focus()")
    reached = []
    for _ in range(12):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(browser.js("const e = document.activeElement; return e.id || e.className"))
    wanted = ["theme", "sign-out", "lambda", "pause", "prompt"]
    assert [name for name in reached if name in wanted][: len(wanted)] in (
        wanted,
        [*wanted[2:], *wanted[:2]],
    )
    unlabelled = browser.js(
        "const all = [...document.querySelectorAll('input, select, textarea')];"
        "return all.filter((e) => !e.labels.length).map((e) => e.id)"
    )
    assert unlabelled == []


def test_the_key_stays_in_the_tab_and_goes_when_one_signs_out(browser, proxy):
    visit(browser, proxy)
    kept = browser.js("return [JSON.stringify({...localStorage}), document.cookie, location.href]")
    assert all("sk-admin" not in place for place in kept)
    browser.driver.find_element(By.ID, "sign-out").send_keys(Keys.ENTER)
    assert browser.js("return JSON.stringify({...sessionStorage})") == json.dumps({})
    assert "research" not in browser.js("return document.body.innerText")
    browser.driver.switch_to.active_element.send_keys("sk-wrong", Keys.ENTER)
    browser.until(lambda: "does not know this key" in browser.text("#status"))
    browser.complaints()


def test_the_theme_can_be_chosen_and_is_kept(browser, proxy):
    visit(browser, proxy)
    button = browser.driver.find_element(By.ID, "theme")
    button.click()
    button.click()
    browser.driver.refresh()
    assert browser.text("#theme") == "Theme: dark"
    assert browser.js("return getComputedStyle(document.body).backgroundColor") == "rgb(17, 20, 25)"
