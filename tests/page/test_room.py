"""Plans of moves at the page: for a pod that waits, for a node and for a GPU."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from extender import wire
from extender.policy import InForce, Policy, PolicyName
from extender.policy.moving import Mode, Moving
from extender.service import Service
from tests.advised import CROWDED, ONE, TWO, extender
from tests.builders import raw_pod
from tests.explained import Small, Vm
from tests.page.chromium import HEIGHT, WIDTH, complaints, violations
from tests.page.reader import click, dress, opened, text, texts, wait
from tests.page.running import looping, served, told
from tests.page.test_page import faint
from tests.page.test_widths import PHONE

pytestmark = pytest.mark.xdist_group("chromium")

WAITING = {"me": "3-40C", "whole": "7-80C"}
"""Pods that wait, by UID: slices enough are free for the first, but nowhere enough in one piece."""

HELD = Small.of([Vm("x", ONE, "a", 0, 0), Vm("stuck", TWO, "a", 1, 0, movable=False)], a=2, b=1)
"""A node with a VM that may go to another, and one that nobody may move."""

TO = "\N{EN DASH}"

VMI = "VirtualMachineInstance"

ROOM = "#pending [data-uid=me] .why button"

DRAWN = """
return [...document.querySelectorAll("#room .maps li")].map((gpu) => {
  const drawn = [...gpu.querySelectorAll(".bar")].map((element) => {
    const bar = element.getBoundingClientRect();
    const count = getComputedStyle(element).gridTemplateColumns.split(" ").length;
    const slices = (pixels) => Math.round((pixels / bar.width) * count);
    return [...element.querySelectorAll(".block")].map((box) => {
      const { left, width } = box.getBoundingClientRect();
      return [slices(left - bar.left), slices(width), Number(box.querySelector("i").innerText)];
    });
  });
  return [gpu.querySelector(".name").innerText, ...drawn];
});
"""
"""By GPU: the start and size in slices and the number of each box, before and after, measured."""

BEYOND = """
const room = document.getElementById("room");
const edge = room.getBoundingClientRect().right;
const wider = (each) => each.scrollWidth > each.clientWidth + 1;
return [
  ...[...room.querySelectorAll("*")].filter((each) => each.getBoundingClientRect().right > edge),
  ...[...room.querySelectorAll(".block b")].filter(wider),
].map((each) => each.outerHTML.slice(0, 200));
"""
"""What of the dialog lies beyond its right edge, or is not to be read whole."""


@contextlib.contextmanager
def desk_of(small: Small, *, by: str = "", off: bool = False) -> Iterator[str]:
    """Serve the page of a small cluster in which pods wait."""

    async def made() -> Service:
        service = extender(small, by=by, namespaces={"default": "vision"})
        for uid, wanted in WAITING.items():
            pod = raw_pod(wanted, name=f"name-{uid}", uid=uid, owner=(VMI, "mine"))
            body = json.dumps({"Pod": pod, "NodeNames": list(small.gpus)}).encode()
            service.hooks.filter(wire.decode(body, wire.ExtenderArgs))
        if off:
            policy = Policy(PolicyName.DEFAULT)
            service.knowledge.adopt(InForce(policy, moving=Moving(mode=Mode.OFF)))
        return service

    with looping() as loop:
        service = asyncio.run_coroutine_threadsafe(made(), loop).result(30)
        with served(service, loop) as url:
            yield url


@pytest.fixture
def crowded() -> Iterator[str]:
    with desk_of(CROWDED) as url:
        yield url


@pytest.fixture
def resized(driver: Any) -> Iterator[Callable[[int], None]]:
    """How to give the browser's window a width; it has its own again afterwards."""
    yield lambda width: driver.set_window_size(width, HEIGHT)
    driver.set_window_size(WIDTH, HEIGHT)


def open_pods(driver: Any, url: str) -> None:
    """Open the page and every pod that waits, until all are explained."""
    opened(driver, f"{url}/")
    wait(driver, lambda d: len(texts(d, "#pending details")) == len(WAITING))
    driver.execute_script(
        "for (const pod of document.querySelectorAll('#pending details')) pod.open = true"
    )
    wait(driver, lambda d: len(texts(d, "#pending .explanation")) == len(WAITING))


def ask_for_room(driver: Any, url: str) -> str:
    """Ask for a plan for the pod that moves would help, and return the verdict."""
    open_pods(driver, url)
    click(driver, ROOM)
    return verdict(driver)


def ask_for_drain(driver: Any, url: str, what: str) -> str:
    """Choose the first GPU, ask for its ``node``'s or its own (``gpu``) drain: the verdict."""
    opened(driver, f"{url}/")
    click(driver, ".gpu")
    click(driver, f"#chosen [data-drain={what}]")
    return verdict(driver)


def verdict(driver: Any) -> str:
    """Return what comes of the question that is asked, once that is known."""
    wait(driver, lambda d: "Looking" not in (text(d, "#room .state") or "Looking"))
    return str(text(driver, "#room .state"))


def press(driver: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(driver).send_keys(*keys).perform()


def test_a_pod_that_moves_would_admit_has_a_plan_and_one_that_lacks_slices_none(
    driver: Any, crowded: str
) -> None:
    complaints(driver)  # whatever there was before
    said = ask_for_room(driver, crowded)

    assert said == "1 move."
    assert text(driver, "#room h2") == "Make room for mine"
    assert texts(driver, "#pending [data-uid=whole] .why button") == []
    assert texts(driver, "#room .moves b") == ["default/x", "default/mine"]
    assert texts(driver, "#room .moves .way") == [
        "a, GPU 0, slice 4\n→ b, GPU 0, slice 6",
        f"then on a, GPU 0, slices 4{TO}7",
    ]
    assert texts(driver, "#room .how") == [
        "stops, and starts there; costs 12: 10 for each of 1 memory slice, 2 for 24 hours there;"
        " if it stayed, no plan would do"
    ]
    assert "no plan is better (proven)" in text(driver, "#room .body > .hint")
    assert complaints(driver) == []


def test_the_gpus_are_drawn_before_and_after_as_the_api_says(driver: Any, crowded: str) -> None:
    ask_for_room(driver, crowded)
    plan = told(crowded, "/api/v1/moves?admit=default/name-me")

    expected = [
        [
            f"{gpu['node']}, GPU {gpu['gpu']}",
            *(
                sorted([each["start"], each["size"], each["number"]] for each in gpu[when])
                for when in ("before", "after")
            ),
        ]
        for gpu in plan["gpus"]
    ]
    assert driver.execute_script(DRAWN) == expected
    assert {number for _, *whens in expected for when in whens for *_, number in when} == {0, 1, 2}
    assert text(driver, "#room .maps .bar", "aria-label") == (
        f"Before: 4g.40gb at slices 0{TO}3, stays; 1g.10gb at slice 4, number 1; 3 free"
    )


def test_a_vm_that_moves_is_told_with_its_tenant(driver: Any) -> None:
    by = "tenants: [{name: ml, namespaces: {matchLabels: {team: vision}}}]"
    with desk_of(CROWDED, by=by) as url:
        ask_for_room(driver, url)

        assert text(driver, "#room .moves b") == "default/x of ml"


def test_it_is_asked_for_read_and_closed_by_keys_alone(driver: Any, crowded: str) -> None:
    from selenium.webdriver.common.keys import Keys

    open_pods(driver, crowded)
    driver.execute_script("document.querySelector(arguments[0]).focus()", ROOM)
    press(driver, Keys.ENTER)
    assert verdict(driver) == "1 move."
    inside = "return document.getElementById('room').contains(document.activeElement)"
    assert driver.execute_script(inside)
    for _ in range(2):
        press(driver, Keys.TAB)
    assert driver.execute_script("return document.activeElement.className") == "body"

    press(driver, Keys.ESCAPE)
    wait(driver, lambda d: not d.execute_script("return document.getElementById('room').open"))
    focused = "return document.activeElement === document.querySelector(arguments[0])"
    assert driver.execute_script(focused, ROOM)


def test_what_holds_a_node_is_named_with_what_comes_nearest(driver: Any) -> None:
    with desk_of(HELD) as url:
        said = ask_for_drain(driver, url, "node")

        assert said == "No moves attain that."
        assert text(driver, "#room h2") == "Drain a"
        assert texts(driver, "#room .obstacles li") == [
            f"default/stuck on a, GPU 1, slices 0{TO}1 cannot go:"
            " of a VM with tangram.dev/movable: false, or with a value that is not known."
        ]
        assert texts(driver, "#room h3")[1] == "Moves, the nearest to it: 1 of 2"
        assert texts(driver, "#room .moves b") == ["default/x"]


def test_of_a_node_that_is_held_those_who_can_go_are_planned_where_it_is_asked_for(
    driver: Any,
) -> None:
    with desk_of(HELD) as url:
        ask_for_drain(driver, url, "node")
        click(driver, "#room [data-act=far]")
        wait(driver, lambda d: text(d, "#room .state") == "1 move; 1 of 2 stay.")

        assert texts(driver, "#room h3")[:3] == ["Who stays, and why", "Before that", "Moves"]
        assert "default/stuck" in text(driver, "#room .obstacles li")
        assert "Node a is not cordoned" in text(driver, "#room .warnings li")
        assert texts(driver, "#room .moves b") == ["default/x"]
        assert violations(driver) == []
        assert faint(driver) == []

        click(driver, "#room [data-act=far]")
        wait(driver, lambda d: text(d, "#room .state") == "No moves attain that.")
        click(driver, "#room [data-act=far]")
        click(driver, "#room [data-act=close]")
        click(driver, "#chosen [data-drain=gpu]")  # another question, from its beginning
        assert verdict(driver) == "1 move."
        assert not driver.execute_script(
            "return document.querySelector('#room [data-act=far]').checked"
        )


def test_how_far_a_pod_is_admitted_is_nothing_to_choose(driver: Any, crowded: str) -> None:
    ask_for_room(driver, crowded)
    assert text(driver, "#room label", "hidden")


def test_a_gpu_is_drained_by_itself_and_planned_again(driver: Any) -> None:
    with desk_of(HELD) as url:
        said = ask_for_drain(driver, url, "gpu")
        assert said == "1 move."
        assert text(driver, "#room h2") == "Drain a, GPU 0"

        click(driver, "#room [data-act=again]")
        wait(driver, lambda d: text(d, "#room .state") == said and texts(d, "#room .moves b"))
        click(driver, "#room [data-act=close]")
        assert not driver.execute_script("return document.getElementById('room').open")


def test_without_a_chosen_gpu_there_is_nothing_to_drain(driver: Any, crowded: str) -> None:
    opened(driver, f"{crowded}/")
    assert driver.execute_script("return document.querySelector('#chosen .acts').hidden")
    click(driver, ".gpu")
    assert not driver.execute_script("return document.querySelector('#chosen .acts').hidden")


def test_where_no_plan_is_made_it_says_why(driver: Any) -> None:
    with desk_of(CROWDED, off=True) as url:
        said = ask_for_drain(driver, url, "node")

    assert said == "No plan could be had: the policy has moves.mode: off, so no plan is made."
    assert texts(driver, "#room .body > *") == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_wrong_with_a_plan(
    driver: Any, crowded: str, theme: str, tmp_path: Path
) -> None:
    ask_for_room(driver, crowded)
    dress(driver, theme)
    driver.save_screenshot(str(tmp_path / f"{theme}.png"))

    assert violations(driver) == []
    assert faint(driver) == []


@pytest.mark.parametrize("width", [WIDTH, PHONE])
def test_a_plan_is_read_whole_at_every_width(
    driver: Any, crowded: str, resized: Callable[[int], None], width: int, tmp_path: Path
) -> None:
    resized(width)
    ask_for_room(driver, crowded)
    driver.save_screenshot(str(tmp_path / f"{width}.png"))

    assert driver.execute_script(BEYOND) == []
    assert violations(driver) == []
