"""The page of a running demo, in a real browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.page.chromium import complaints, violations
from tests.page.reader import choose, click, dress, opened, settled, text, texts, wait
from tests.page.running import told

pytestmark = pytest.mark.xdist_group("chromium")


def test_vms_appear_on_exactly_the_slices_the_api_says(driver: Any, page: str) -> None:
    complaints(driver)  # whatever there was before
    opened(driver, page)
    before = settled(driver, page)
    had = {each[0] for gpu in before.values() for each in gpu}

    def arrived(driver: Any) -> object:
        now = settled(driver, page)
        return {each[0] for gpu in now.values() for each in gpu} - had and now

    after = wait(driver, arrived, 40)

    assert after != before
    assert complaints(driver) == []


def test_a_vm_is_found_by_its_name_and_the_others_step_back(driver: Any, page: str) -> None:
    opened(driver, page)
    vm = next(each[0] for gpu in settled(driver, page).values() for each in gpu if each[0])
    choose(driver, "text", vm)

    def alone(driver: Any) -> bool:
        lit = texts(driver, ".block:not(.dim)", "data-vm")
        return bool(lit) and all(name and vm in name for name in lit)

    assert wait(driver, alone)
    assert text(driver, "#shown") == "1 of 3 nodes"


def test_filters_by_tenant_and_profile_show_those_nodes_alone(driver: Any, page: str) -> None:
    opened(driver, page)

    def narrowed(driver: Any) -> object:
        fleet = told(page)
        tenant, profile = next(
            (each.get("tenant") or each["namespace"], each["profile"])
            for node in fleet["nodes"]
            for gpu in node["gpus"]
            for each in gpu.get("instances", [])
            if each.get("namespace")
        )
        if tenant not in driver.page_source:
            return None
        choose(driver, "tenant", tenant)
        choose(driver, "profile", profile)
        expected = {
            node["name"]
            for node in told(page)["nodes"]
            if any(
                (each.get("tenant") or each.get("namespace"), each["profile"]) == (tenant, profile)
                for gpu in node["gpus"]
                for each in gpu.get("instances", [])
            )
        }
        shown = driver.execute_script(
            "return [...document.querySelectorAll('.node')].map((node) => node.dataset.node)"
        )
        return expected and set(shown) == expected

    assert wait(driver, narrowed)
    assert "tenant=" in driver.current_url  # a link shows the same


def test_filters_that_match_nothing_are_said_to(driver: Any, page: str) -> None:
    opened(driver, page)
    choose(driver, "text", "nowhere")

    wait(driver, lambda d: text(d, "#grid") == "No node matches the filters.")
    assert text(driver, "#shown") == "0 of 3 nodes"
    assert texts(driver, "#pending details") == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_wrong(driver: Any, page: str, theme: str, tmp_path: Path) -> None:
    opened(driver, page)
    wait(driver, explained, 40)
    dress(driver, theme)
    click(driver, ".gpu")
    driver.save_screenshot(str(tmp_path / f"{theme}.png"))

    assert driver.execute_script("return document.documentElement.dataset.theme") == theme
    assert violations(driver) == []
    assert faint(driver) == []


def explained(driver: Any) -> object:
    """Open the pod that waits longest, and tell whether it is explained."""
    return driver.execute_script(
        "const pod = document.querySelector('#pending details');"
        "if (pod && !pod.open) pod.open = true;"
        "return document.querySelector('#pending details[open] .explanation') !== null"
    )


def faint(driver: Any) -> list[str]:
    """Return the blocks whose label has less contrast with its colour than 4.5 to 1."""
    found = driver.execute_script(
        """
        const luminance = (colour) => {
          const most = colour.startsWith("color(srgb") ? 1 : 255;  // as mixed, or as written
          const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((each) => each / most)
            .map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const profiles = ["p0", "p1", "p2", "p3", "p4", "p5"];
        const states = ["running", "starting", "failed", "reserved", "releasing", "standing",
          "foreign", "in-use", "moving", "stays"];
        const names = profiles.flatMap((profile) => states.map((state) => `${profile} ${state}`));
        const made = names.map((name) => {
          const block = document.createElement("span");
          block.className = `block ${name}`;
          document.body.append(block);
          const { color, backgroundColor } = getComputedStyle(block);
          block.remove();
          const [less, more] = [luminance(color), luminance(backgroundColor)].sort((a, b) => a - b);
          return [name, (more + 0.05) / (less + 0.05)];
        });
        return made.filter(([, contrast]) => contrast < 4.5).map(([name]) => name);
        """
    )
    return list(found)


def test_the_system_says_whether_it_is_dark_until_somebody_chooses(driver: Any, page: str) -> None:
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": "dark"}]},
    )
    try:
        opened(driver, page)
        driver.execute_script("localStorage.clear()")
        opened(driver, page)

        assert driver.execute_script("return document.documentElement.dataset.theme") == "dark"
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_grid_is_walked_with_the_arrow_keys_and_one_tab_stop(driver: Any, page: str) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    opened(driver, page)

    def at() -> tuple[str, int]:
        node, gpu = driver.execute_script(
            "const gpu = document.activeElement; const row = gpu.closest('.node');"
            "return [row.dataset.node, [...row.querySelectorAll('.gpu')].indexOf(gpu)]"
        )
        return node, gpu

    def press(*keys: str) -> None:
        ActionChains(driver).send_keys(*keys).perform()

    assert len(texts(driver, ".gpu[tabindex='0']")) == 1
    driver.execute_script("document.querySelector('.gpu[tabindex=\"0\"]').focus()")
    assert at() == ("gpu-node-0", 0)
    press(Keys.ARROW_RIGHT)
    assert at() == ("gpu-node-0", 1)
    press(Keys.END)
    assert at() == ("gpu-node-0", 7)
    press(Keys.ARROW_RIGHT)
    assert at() == ("gpu-node-1", 0)
    press(Keys.ARROW_UP)
    assert at() == ("gpu-node-0", 4)
    press(Keys.ARROW_LEFT, Keys.ENTER)
    assert at() == ("gpu-node-0", 3)
    assert "gpu-node-0, GPU 3" in text(driver, "#chosen h2")
    assert len(texts(driver, ".gpu[tabindex='0']")) == 1


def test_nothing_is_asked_of_anybody_else(driver: Any, page: str) -> None:
    opened(driver, page)
    asked = driver.execute_script(
        "return performance.getEntriesByType('resource').map((each) => each.name)"
    )

    assert asked
    assert all(each.startswith(page) for each in asked), json.dumps(asked)
