"""Shared by the tests in a real browser: Debian's Chromium without a network, and screenshots."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 120
DESKTOP, PHONE = (1280, 900), (375, 812)
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
"""Deque's axe-core 4.14.1 (MPL 2.0, see axe-LICENSE), as it is published."""
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def reason_to_skip() -> str:
    """Why these tests do not run here; "" where they do, or have to (NOS_REPRO_BROWSER)."""
    if os.environ.get("NOS_REPRO_BROWSER") == "required":
        return ""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"no {' and no '.join(missing)} here (on Debian: chromium-driver)" if missing else ""


in_browser = pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip() or "Chromium is")


class Browser:
    """One Chromium; ``shots`` is where screenshots are left."""

    def __init__(self, driver: webdriver.Chrome, shots: Path) -> None:
        self.driver = driver
        self.shots = shots

    def open(self, page: Path, size: tuple[int, int] = DESKTOP, *, dark: bool = False) -> None:
        """Opens a file at a size; what was said and asked before is forgotten."""
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1}
        mobile = {"mobile": size[0] < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics | mobile)
        self.colours(dark=dark)
        self.driver.get("about:blank")
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(page.absolute().as_uri())
        self.wait("location.protocol === 'file:' && document.readyState === 'complete'")

    def run(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(f"return {script}", *values)

    def find(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def texts(self, css: str) -> list[str]:
        """The texts that a person sees, in order."""
        return [element.text for element in self.driver.find_elements(By.CSS_SELECTOR, css)]

    def wait(self, script: str, *values: Any) -> Any:
        """Waits for a true value of a script and returns it; fails if that takes too long."""
        return WebDriverWait(self.driver, PATIENCE).until(lambda _: self.run(script, *values))

    def until(self, so: Callable[[], bool]) -> None:
        """Waits for something outside the page; fails if that takes too long."""
        WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(lambda _: so())

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def asked(self) -> set[str]:
        """The schemes of all addresses that the page has requested."""
        events = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        sent = [e for e in events if e["method"] == "Network.requestWillBeSent"]
        return {event["params"]["request"]["url"].partition(":")[0] for event in sent}

    def shoot(self, name: str, *, whole: bool = False) -> None:
        command: dict[str, Any] = {"format": "png"}
        if whole:
            height = self.run("document.documentElement.scrollHeight")
            clip = {"x": 0, "y": 0, "width": self.run("innerWidth"), "scale": 1}
            command |= {
                "captureBeyondViewport": True,
                "clip": {**clip, "height": min(height, 9000)},
            }
        taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", command)
        (self.shots / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))

    def colours(self, *, dark: bool) -> None:
        """The scheme that the reader prefers."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def faults(self, *rules: str) -> list[str]:
        """What axe finds wrong with the page's accessibility, one line for each element; all that
        is folded away is opened first. ``rules``: only these, all by default."""
        self.driver.execute_script(
            "document.querySelectorAll('details').forEach(one => { one.open = true; })"
        )
        self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text("utf-8")})
        found = self.driver.execute_async_script(
            "const [rules, done] = arguments;"
            "axe.run({resultTypes: ['violations'], ...(rules.length && {runOnly: rules})}).then("
            "({violations}) => done(violations.flatMap(one => one.nodes.map("
            "node => `${one.id}: ${node.target}: ${node.failureSummary}`))))",
            rules,
        )
        return list(found)

    @contextlib.contextmanager
    def downloads(self, folder: Path) -> Iterator[None]:
        """Files that a page hands over land in ``folder``."""
        allowed = {"behavior": "allow", "downloadPath": str(folder)}
        self.driver.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "deny"})

    @contextlib.contextmanager
    def as_printed(self) -> Iterator[None]:
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})

    def printed(self) -> bytes:
        """The page as a PDF."""
        sent = self.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
        return base64.b64decode(sent["data"])


@contextlib.contextmanager
def browser(shots: Path) -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "/usr/bin/chromium"
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = Service(shutil.which("chromedriver") or "/usr/bin/chromedriver")
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(PATIENCE)
    shots = Path(os.environ.get("NOS_REPRO_SCREENSHOTS") or shots)
    shots.mkdir(parents=True, exist_ok=True)
    try:
        yield Browser(driver, shots)
    finally:
        driver.quit()
