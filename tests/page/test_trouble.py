"""What is wrong with nodes and GPUs, and with the page's own knowledge of them, is seen."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from benchmarks.fleet import KnownFleet
from nodeagent.api.gpunode import GpuNode, Realized
from tests.builders import assignment, gpu, gpu_node, instance
from tests.page.chromium import complaints
from tests.page.running import known_fleet, served, told, unserved_fleet
from tests.page.test_page import choose, every, one, opened, settled, wait

pytestmark = pytest.mark.xdist_group("chromium")

SILENT, SICK, FULL = "gpu-node-00000", "gpu-node-00001", "gpu-node-00002"
XID = "XID 79: the GPU has fallen off the bus"
ONE = 19
"""The profile id of 1g.10gb: seven of them leave an eighth memory slice that nothing can use."""


@pytest.fixture(scope="module")
def troubled() -> Iterator[str]:
    """A fleet with a silent node, a sick GPU, and a slice that no profile fits on."""
    with known_fleet(4) as (url, fleet, loop):
        loop.call_soon_threadsafe(trouble, fleet)
        yield url


def trouble(fleet: KnownFleet) -> None:
    knowledge = fleet.service.knowledge
    knowledge.lease_gone(SILENT)
    sick = knowledge.views[SICK].node
    first, *others = sick.status.gpus
    gpus = (msgspec.structs.replace(first, unhealthy=XID), *others)
    hear(fleet, with_gpus(sick, gpus))
    plan = [assignment(f"a{at}", ONE, at, pod=f"p{at}") for at in range(7)]
    there = tuple(instance(ONE, each.start, assignment=each.id) for each in plan)
    realized = [Realized(each.id) for each in plan]
    full = gpu(0, instances=there)
    known: Any = {"uid": f"uid-{FULL}", "version": 99, "realized": realized}
    hear(fleet, gpu_node(FULL, gpus=[full], plan=plan, **known))


def with_gpus(node: GpuNode, gpus: Any) -> GpuNode:
    about = msgspec.structs.replace(node.metadata, resource_version="99")
    status = msgspec.structs.replace(node.status, gpus=gpus)
    return msgspec.structs.replace(node, metadata=about, status=status)


def hear(fleet: KnownFleet, node: GpuNode) -> None:
    fleet.hear([msgspec.json.encode(node)])


def row(driver: Any, node: str) -> Any:
    return one(driver, f".node[data-node='{node}']")


def test_a_silent_node_bears_a_badge_and_says_why(driver: Any, troubled: str) -> None:
    opened(driver, f"{troubled}/")
    badge = wait(driver, lambda d: every(d, ".node.stale .badge"))[0]
    (node,) = (each for each in told(troubled)["nodes"] if each["name"] == SILENT)

    assert badge.text.endswith("stale")
    assert badge.get_attribute("title") == node["why"] != ""
    row(driver, SILENT).find_element("css selector", ".gpu").click()
    assert node["why"] in one(driver, "#chosen").text


def test_a_sick_gpu_says_so_and_why(driver: Any, troubled: str) -> None:
    opened(driver, f"{troubled}/")
    wait(driver, lambda d: every(d, ".gpu .name .bad"))
    cell = row(driver, SICK).find_element("css selector", ".gpu")
    cell.click()

    assert "unhealthy" in cell.text
    assert XID in cell.get_attribute("aria-label")
    assert XID in one(driver, "#chosen .bad").text
    choose(driver, "state", "trouble")
    wait(driver, lambda d: one(d, "#shown").text == "2 of 4 nodes")
    assert {each.get_attribute("data-node") for each in every(driver, ".node")} == {SILENT, SICK}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_free_unusable_and_shut_slices_are_where_the_api_says_and_look_different(
    driver: Any, troubled: str, theme: str
) -> None:
    opened(driver, f"{troubled}/")
    driver.execute_script(
        "const theme = document.getElementById('theme'); theme.value = arguments[0];"
        "theme.dispatchEvent(new Event('change'))",
        theme,
    )
    drawn = settled(driver, f"{troubled}/")
    looks = {
        name: driver.execute_script(
            "const { backgroundColor, backgroundImage } = getComputedStyle(arguments[0]);"
            "return `${backgroundColor} ${backgroundImage}`",
            wait(driver, lambda d, selector=selector: every(d, selector))[0],
        )
        for name, selector in {
            "free": ".bar:not(.shut) .slice:not(.unusable)",
            "unusable": ".bar:not(.shut) .slice.unusable",
            "shut": ".bar.shut .slice",
        }.items()
    }

    assert ["", "unusable", 7, 1] in drawn["GPU-0"]
    assert len(set(looks.values())) == 3, looks


def test_a_page_that_hears_nothing_says_so_and_catches_up(driver: Any) -> None:
    with unserved_fleet(3) as (fleet, loop):
        with served(fleet, loop) as url:
            opened(driver, f"{url}/")
            before = row(driver, FULL).get_attribute("textContent")
        wait(driver, lambda d: one(d, "#live").text == "Not live")
        assert one(driver, "#live").get_attribute("data-state") == "lost"

        meanwhile(fleet, loop)
        with served(fleet, loop, port=urlsplit(url).port or 0):
            wait(driver, lambda d: one(d, "#live").text == "Live", 30)
            wait(driver, lambda d: row(d, FULL).get_attribute("textContent") != before)
    complaints(driver)  # of the connection that was refused: what others complain of is theirs


def meanwhile(fleet: KnownFleet, loop: AbstractEventLoop) -> None:
    """Let a node become another while nobody serves the page."""
    loop.call_soon_threadsafe(fleet.hear, fleet.changed([FULL]))
