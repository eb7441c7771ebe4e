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
from tests.page.reader import choose, click, dress, opened, settled, text, texts, wait
from tests.page.running import known_fleet, served, told, unserved_fleet

pytestmark = pytest.mark.xdist_group("chromium")

SILENT, SICK, FULL = "gpu-node-00000", "gpu-node-00001", "gpu-node-00002"
XID = "XID 79: the GPU has fallen off the bus"
ONE = 19
"""The profile id of 1g.10gb: seven of them leave an eighth memory slice that nothing can use."""

LOOKS = """
const looks = {};
for (const slice of document.querySelectorAll(".slice")) {
  const unusable = slice.classList.contains("unusable") ? "unusable" : "free";
  const what = slice.closest(".bar.shut") ? "shut" : unusable;
  const { backgroundColor, backgroundImage } = getComputedStyle(slice);
  looks[what] = `${backgroundColor} ${backgroundImage}`;
}
return looks;
"""
"""How free, unusable and shut slices look."""


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


def row(node: str) -> str:
    return f".node[data-node='{node}']"


def test_a_silent_node_bears_a_badge_and_says_why(driver: Any, troubled: str) -> None:
    opened(driver, f"{troubled}/")
    badge = wait(driver, lambda d: texts(d, ".node.stale .badge"))
    (node,) = (each for each in told(troubled)["nodes"] if each["name"] == SILENT)

    assert [each.split()[-1] for each in badge] == ["stale"]
    assert text(driver, f"{row(SILENT)} .badge", "title") == node["why"] != ""
    click(driver, f"{row(SILENT)} .gpu")
    assert node["why"] in text(driver, "#chosen")


def test_a_sick_gpu_says_so_and_why(driver: Any, troubled: str) -> None:
    opened(driver, f"{troubled}/")
    wait(driver, lambda d: texts(d, ".gpu .name .bad"))
    sick = f"{row(SICK)} .gpu"
    click(driver, sick)

    assert "unhealthy" in text(driver, sick)
    assert XID in text(driver, sick, "aria-label")
    assert XID in text(driver, "#chosen .bad")
    choose(driver, "state", "trouble")
    wait(driver, lambda d: text(d, "#shown") == "2 of 4 nodes")
    assert set(texts(driver, ".node", "data-node")) == {SILENT, SICK}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_free_unusable_and_shut_slices_are_where_the_api_says_and_look_different(
    driver: Any, troubled: str, theme: str
) -> None:
    opened(driver, f"{troubled}/")
    dress(driver, theme)
    drawn = settled(driver, f"{troubled}/")
    looks = driver.execute_script(LOOKS)

    assert ["", "unusable", 7, 1] in drawn["GPU-0"]
    assert looks.keys() == {"free", "unusable", "shut"}
    assert len(set(looks.values())) == 3, looks


def test_a_page_that_hears_nothing_says_so_and_catches_up(driver: Any) -> None:
    with unserved_fleet(3) as (fleet, loop):
        with served(fleet.service, loop) as url:
            opened(driver, f"{url}/")
            before = text(driver, row(FULL))
        wait(driver, lambda d: text(d, "#live") == "Not live")
        assert text(driver, "#live", "data-state") == "lost"

        meanwhile(fleet, loop)
        with served(fleet.service, loop, port=urlsplit(url).port or 0):
            wait(driver, lambda d: text(d, "#live") == "Live", 30)
            wait(driver, lambda d: text(d, row(FULL)) != before)


def meanwhile(fleet: KnownFleet, loop: AbstractEventLoop) -> None:
    """Let a node become another while nobody serves the page."""
    loop.call_soon_threadsafe(fleet.hear, fleet.changed([FULL]))
