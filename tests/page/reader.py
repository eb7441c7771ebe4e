"""Somebody at the page: opens it, chooses, clicks, reads, and waits for what is to be seen.

The page may draw anything anew at any moment. So what is looked up is read, or clicked, in the same
script: an element kept for a second call could be gone by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.page.running import told

TEXT = "innerText"

READ = """
const [selector, what] = arguments;
return [...document.querySelectorAll(selector)].map(
  (each) => (what in each ? each[what] : each.getAttribute(what)));
"""

CLICKED = """
const element = document.querySelector(arguments[0]);
if (!element) return null;
element.scrollIntoView({ block: "nearest" });
const { left, top, width, height } = element.getBoundingClientRect();
const hit = document.elementFromPoint(left + width / 2, top + height / 2);
if (element.contains(hit)) hit.click();
return element.contains(hit);
"""

DRAWN = """
const drawn = {};
for (const node of document.querySelectorAll(".node")) {
  for (const gpu of node.querySelectorAll(".gpu")) {
    const element = gpu.querySelector(".bar"), bar = element.getBoundingClientRect();
    const count = getComputedStyle(element).gridTemplateColumns.split(" ").length;
    const slices = (pixels) => Math.round((pixels / bar.width) * count);
    drawn[gpu.dataset.gpu] = [...element.children].map((box) => {
      const { left, width } = box.getBoundingClientRect();
      const { vm, profile } = box.dataset;
      const free = box.classList.contains("unusable") ? "unusable" : "free";
      return [vm ?? "", profile ?? free, slices(left - bar.left), slices(width)];
    });
  }
}
return drawn;
"""
"""By GPU: the VM and profile of each box, or that it is free, and its start and size in slices,
measured from where the boxes really are."""

Drawn = dict[str, list[list[Any]]]


def wait(driver: Any, condition: Callable[[Any], object], seconds: float = 20) -> Any:
    """Return what *condition* comes to as soon as that is something."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, seconds, poll_frequency=0.05).until(condition)


def opened(driver: Any, url: str, query: str = "") -> None:
    """Open the page, and wait until it is live and shows GPUs."""
    driver.get(f"{url}{query}")
    wait(driver, lambda d: texts(d, "#live") == ["Live"] and texts(d, ".gpu"))


def texts(driver: Any, selector: str, what: str = TEXT) -> list[Any]:
    """Return the text of every element there is now, or *what* property or attribute it has."""
    return list(driver.execute_script(READ, selector, what))


def text(driver: Any, selector: str, what: str = TEXT) -> Any:
    """Return the text of the first element there is.

    Raises:
        NoSuchElementException: there is none; whoever waits goes on waiting.
    """
    from selenium.common.exceptions import NoSuchElementException

    found = texts(driver, selector, what)
    if not found:
        raise NoSuchElementException(f"nothing is {selector}")
    return found[0]


def click(driver: Any, selector: str) -> None:
    """Click on the middle of the first element there is, which nothing else may cover."""
    hit = driver.execute_script(CLICKED, selector)
    assert hit is not None, f"nothing is {selector}"
    assert hit, f"something covers {selector}"


def choose(driver: Any, field: str, value: str) -> None:
    """Choose, or write, a value in a field of the filters."""
    driver.execute_script(
        "const field = document.querySelector(`#filters [name=${arguments[0]}]`);"
        "field.value = arguments[1];"
        "field.dispatchEvent(new Event('input', { bubbles: true }));",
        field,
        value,
    )


def dress(driver: Any, theme: str) -> None:
    """Choose the light or the dark theme."""
    driver.execute_script(
        "const theme = document.getElementById('theme'); theme.value = arguments[0];"
        "theme.dispatchEvent(new Event('change'))",
        theme,
    )


def settled(driver: Any, page: str) -> Drawn:
    """Return what the API says and the page draws, at a moment when both are of one version."""

    def same(driver: Any) -> object:
        before = _as_told(told(page))
        drawn = driver.execute_script(DRAWN)
        shown = {uuid: before[uuid] for uuid in drawn}
        return shown if drawn and drawn == shown else None

    return dict(wait(driver, same))


def _as_told(fleet: Any) -> Drawn:
    return {
        gpu["uuid"]: [
            *(["", "free", at, 1] for at in gpu.get("free", [])),
            *(["", "unusable", at, 1] for at in gpu.get("unusable", [])),
            *(
                [each.get("vm", ""), each["profile"], each["start"], each["size"]]
                for each in gpu.get("instances", [])
            ),
        ]
        for node in fleet["nodes"]
        for gpu in node["gpus"]
    }
