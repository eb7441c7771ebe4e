"""A real Chromium, without a window, for tests that look at the page.

Debian's ``chromium`` and ``chromium-driver`` are used as they are installed: Selenium is told where
both lie, and so never looks for one to download.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REQUIRE_VARIABLE = "TANGRAM_REQUIRE_CHROMIUM"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1440, 900


class NoBrowser(Exception):
    """There is no browser here, or nothing to drive it with."""


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """Start a browser that keeps its things in *profile*, and yield its driver.

    Raises:
        NoBrowser: naming what is missing.
    """
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError as error:
        raise NoBrowser("selenium is not installed: the page is not looked at") from error
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        raise NoBrowser(
            "chromium and chromedriver are not on PATH: the page is not looked at"
            " (`make ci-tools` installs them)"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        f"--window-size={WIDTH},{HEIGHT}",
        f"--user-data-dir={profile}",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),  # Chromium has none for root
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(driver))
    try:
        made.set_script_timeout(60)
        yield made
    finally:
        made.quit()


@contextlib.contextmanager
def chromium_for_tests(profile: Path) -> Iterator[Any]:
    """Start a browser; skip the test where there is none, or fail it where there must be."""
    with contextlib.ExitStack() as stack:
        try:
            driver = stack.enter_context(chromium(profile))
        except NoBrowser as missing:
            if os.environ.get(REQUIRE_VARIABLE) == "1":
                pytest.fail(str(missing))
            pytest.skip(str(missing))
        yield driver


def complaints(driver: Any) -> list[str]:
    """Return what the browser has complained of since it was last asked: errors, blocked loads."""
    return [each["message"] for each in driver.get_log("browser") if each["level"] != "INFO"]


def violations(driver: Any) -> list[str]:
    """Return what axe finds wrong with the page as it is: rule, help, and the first places.

    ``TANGRAM_AXE`` may name another axe's file than the installed one's.
    """
    import axe_core_python

    installed = Path(axe_core_python.__file__).parent / "axe.min.js"
    driver.execute_script(Path(os.environ.get("TANGRAM_AXE", installed)).read_text())
    found = driver.execute_async_script(
        "const done = arguments[0];"
        "axe.run().then(({ violations }) => done(violations), (error) => done([String(error)]))"
    )
    return [
        each
        if isinstance(each, str)
        else f"{each['id']}: {each['help']}: {json.dumps([n['html'] for n in each['nodes'][:3]])}"
        for each in found
    ]
