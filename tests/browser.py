"""A headless Chromium that reads local files, with what it complained of and what it asked the network for."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

# A loaded machine takes its time; nothing here waits longer than it has to.
_PATIENCE_S = 120.0
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
)


@dataclass(frozen=True)
class Browser:
    """A running Chromium."""

    driver: webdriver.Chrome

    def open(self, page: Path, *, width: int = 1200, dark: bool = False) -> None:
        """Open a report and wait until it has drawn everything."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(page.as_uri())
        self.until(lambda: self.js("return document.documentElement.dataset.ready") == scheme["value"])

    def js(self, script: str, *arguments: Any) -> Any:
        """What a script in the page returns."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        """The visible text of the first element that a selector finds."""
        return self.driver.find_element(By.CSS_SELECTOR, selector).text

    def set(self, selector: str, value: object) -> None:
        """Give a control a value, and tell the page."""
        kinds = "for (const kind of ['input', 'change']) element.dispatchEvent(new Event(kind, {bubbles: true}));"
        self.js(
            f"const element = document.querySelector(arguments[0]); element.value = arguments[1]; {kinds}",
            selector,
            value,
        )

    def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds; it fails where it never does."""
        deadline = time.monotonic() + _PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, f"not within {_PATIENCE_S:.0f} s; console: {self.complaints()}"
            time.sleep(0.05)

    def complaints(self) -> list[str]:
        """What the console had to say since it was last asked."""
        return [f"{entry['level']}: {entry['message']}" for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses outside this machine that were asked for since this was last asked."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith(("file:", "data:", "blob:", "chrome:", "about:"))]

    def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        height = self.js("return document.documentElement.scrollHeight")
        width = self.js("return document.documentElement.clientWidth")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.save_screenshot(str(path))


def programs() -> tuple[str, str]:
    """Paths of Chromium and of its driver."""
    browser = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    driver = shutil.which("chromedriver")
    missing = "chromium and chromedriver are not installed; run scripts/setup_debian.sh"
    assert browser is not None, missing
    assert driver is not None, missing
    return browser, driver


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Start a browser with a profile of its own, and end it.

    Parameters
    ----------
    folder : for the profile
    """
    browser, driver = programs()
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*_FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = Service(executable_path=driver, env={**os.environ, "SE_OFFLINE": "true", "HOME": str(folder)})
    running = webdriver.Chrome(options=options, service=service)
    running.set_page_load_timeout(_PATIENCE_S)
    running.set_script_timeout(_PATIENCE_S)
    try:
        yield Browser(running)
    finally:
        running.quit()
