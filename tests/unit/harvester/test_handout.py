"""Which pods may come, and what may not be taken away meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from nodeagent.actuate import Outcome
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Mode, OwnerRef, PodRef, Realized
from nodeagent.driver import DriverError, Host, LiveDevice, LiveGpu, LiveInstance
from nodeagent.harvester.handout import HarvesterHandout
from nodeagent.harvester.making import Further, Unfinished
from nodeagent.journal import Made
from nodeagent.kubelet import Holder
from nodeagent.ownership import observe
from nodeagent.purview import Purview

MODEL = MODELS["H100-80GB"]
ONE = 19
SMALL = "nvidia.com/NVIDIA_H100XM-1-10C"


def wants(id: str, start: int, *, at: int = 0) -> Assignment:
    since = f"2026-01-01T00:00:{at:02}Z"
    return Assignment(id, "GPU-0", ONE, start, 1, SMALL, since, PodRef("default", id, f"p-{id}"))


def device(start: int, *, made: bool = True, **fields: Any) -> LiveInstance:
    """Return a GPU instance; its device is called like its place."""
    told: dict[str, Any] = {"device": LiveDevice(f"d{start}"), "serves": (SMALL,)} if made else {}
    return LiveInstance(start + 1, ONE, Placement(start, 1), **told, **fields)


class Kubelet:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.listed: Mapping[str, Collection[str]] = {}
        self.given: dict[str, str] = {}

    def lists(self, *devices: str) -> None:
        self.listed = {SMALL: devices}

    async def holders(self) -> Sequence[Holder]:
        return [
            Holder(SMALL, device, PodRef("default", pod, f"p-{pod}"))
            for device, pod in self.given.items()
        ]

    async def devices(self) -> Mapping[str, Collection[str]]:
        return self.listed


class Making:
    """Remembers what it was asked to make."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Further | DriverError = Further()

    async def further(self, unfinished: Sequence[Unfinished], **_: Any) -> Further:
        self.asked = [each.assignment.id for each in unfinished]
        if isinstance(self.answer, DriverError):
            raise self.answer
        return self.answer


class Desk:
    """A node with *plan* and what is *there*, made for whom the journal says (by start)."""

    def __init__(self, *plan: Assignment) -> None:
        self.plan = plan
        self.there: tuple[LiveInstance, ...] = ()
        self.journal: dict[int, str] = {}
        self.kubelet, self.making = Kubelet(), Making()
        self.handout = HarvesterHandout(self.kubelet, self.making, within=1.0)  # type: ignore[arg-type]

    @property
    def made(self) -> tuple[Made, ...]:
        return tuple(
            Made(id, "GPU-0", ONE, Placement(start, 1), "boot")
            for start, id in self.journal.items()
        )

    @property
    def host(self) -> Host:
        gpu = LiveGpu("GPU-0", "0000:10:00.0", "H100", MODEL.geometry, MODEL.vgpu_types)
        gpus = (msgspec.structs.replace(gpu, instances=self.there),)
        return Host("boot", "580", Mode.HARVESTER, gpus)

    async def pass_(self, *realized: Realized) -> set[str]:
        """Make one pass and return whose pods may come."""
        await self.handout.withdraw(realized, self.plan, self.host, awaited={})
        self.later = self.handout.later(self.plan, self.host, self.made)
        self.claimed = self.handout.claimed(self.host, self.made)
        (gpu,) = self.host.gpus
        pods = {each.id: each.pod.uid for each in self.plan if each.pod}
        observed = observe(
            gpu,
            self.made,
            self.host,
            claimed=self.claimed,
            holders=self.handout.holders,
            pods=pods,
        )
        live = frozenset(each.assignment for each in observed if each.device) & pods.keys()
        outcome = Outcome(self.host, {gpu.uuid: observed}, live, {}, {}, 0)
        await self.handout.hand_out(self.plan, outcome, purview=Purview())
        return {each.id for each in self.handout.realized}


async def test_a_pod_may_come_once_the_kubelet_knows_of_its_device() -> None:
    desk = Desk(wants("a", 3))
    desk.there, desk.journal = (device(3),), {3: "a"}

    assert await desk.pass_() == set()
    desk.kubelet.lists("d3")
    assert await desk.pass_() == {"a"}
    assert desk.handout.realized == (Realized("a", "d3"),)


async def test_no_pod_may_come_while_there_is_a_device_on_its_way_out() -> None:
    desk = Desk(wants("a", 3))
    desk.there, desk.journal = (device(3), device(5)), {3: "a", 5: "old"}
    desk.kubelet.lists("d3", "d5")

    assert await desk.pass_() == set()
    # Harvester has taken it away; the kubelet has yet to hear of that.
    desk.there = (device(3), device(5, made=False))
    assert await desk.pass_() == set()
    desk.kubelet.lists("d3")
    assert await desk.pass_() == {"a"}


async def test_nothing_is_taken_away_that_a_pod_which_may_come_could_be_given() -> None:
    desk = Desk(wants("a", 3))
    desk.there, desk.journal = (device(3),), {3: "a"}
    desk.kubelet.lists("d3")
    await desk.pass_()
    # Another pod has ended, and its assignment has left the plan.
    desk.there, desk.journal = (device(3), device(5)), {3: "a", 5: "old"}
    desk.kubelet.lists("d3", "d5")

    assert await desk.pass_() == {"a"}
    assert desk.claimed == {"old"}
    desk.kubelet.given = {"d3": "a"}  # now it has its own, and takes no other
    await desk.pass_()
    assert desk.claimed == {"a"}


async def test_what_stands_there_is_in_nobodys_way() -> None:
    keeper = OwnerRef("VirtualMachineInstance", "default", "vm")
    desk = Desk(wants("a", 3))
    desk.there = (device(3), device(5, keepers=(keeper,)), device(6))  # kept, and by hand
    desk.journal = {3: "a", 5: "old"}
    desk.kubelet.lists("d3", "d5", "d6")

    assert await desk.pass_() == {"a"}
    await desk.pass_()
    assert desk.claimed == frozenset()


async def test_what_is_meant_for_a_later_pod_is_in_nobodys_way() -> None:
    desk = Desk(wants("a", 3, at=1), wants("b", 5, at=2))
    desk.there, desk.journal = (device(3), device(5)), {3: "a", 5: "b"}
    desk.kubelet.lists("d3", "d5")

    assert await desk.pass_() == {"a"}
    desk.kubelet.given = {"d3": "a"}
    assert await desk.pass_() == {"a", "b"}


async def test_a_pod_whose_device_another_was_given_may_not_come_before_the_plan_follows() -> None:
    desk = Desk(wants("a", 3, at=1), wants("b", 5, at=2))
    desk.there, desk.journal = (device(3), device(5)), {3: "a", 5: "b"}
    desk.kubelet.lists("d3", "d5")
    await desk.pass_()
    desk.kubelet.given = {"d5": "a"}

    assert await desk.pass_() == {"a"}
    moved = msgspec.structs.replace(wants("b", 3, at=2), id="c")
    desk.plan, desk.journal = (wants("a", 5, at=1), moved), {3: "c", 5: "a"}
    assert "c" in await desk.pass_()


async def test_what_was_meant_for_a_pod_is_unused_until_anybody_has_it() -> None:
    desk = Desk(wants("a", 3, at=1), wants("b", 5, at=2))
    await desk.pass_()  # before it there was nothing
    desk.there, desk.journal = (device(3), device(5)), {3: "a", 5: "b"}
    desk.kubelet.lists("d3", "d5")
    await desk.pass_()
    desk.kubelet.given = {"d5": "a"}
    await desk.pass_()
    assert desk.handout.unused == {"a"}

    desk.plan, desk.kubelet.given = (), {}
    await desk.pass_()
    assert desk.handout.unused == {"a"}  # "b" had its own from another's hand


async def test_what_an_earlier_agent_made_may_have_been_used() -> None:
    desk = Desk(wants("a", 3))
    desk.there, desk.journal = (device(3),), {3: "a"}
    desk.kubelet.lists("d3")
    await desk.pass_()

    assert desk.handout.unused == set()


async def test_nothing_is_made_for_a_pod_whose_turn_has_not_come() -> None:
    desk = Desk(wants("a", 3, at=1), wants("b", 5, at=2))
    desk.there, desk.journal = (device(3, made=False), device(5, made=False)), {3: "a"}

    await desk.pass_()

    assert desk.making.asked == ["a"]
    assert desk.later == {"b"}


async def test_what_an_earlier_agent_told_holds_on() -> None:
    desk = Desk(wants("a", 3, at=2), wants("b", 5, at=1))
    desk.there, desk.journal = (device(3), device(5)), {3: "a", 5: "b"}
    desk.kubelet.lists("d3", "d5")

    assert "a" in await desk.pass_(Realized("a", "d3"))


async def test_a_pod_that_has_its_device_keeps_it_told_whatever_the_kubelet_lists() -> None:
    desk = Desk(wants("a", 3))
    desk.there, desk.journal = (device(3),), {3: "a"}
    desk.kubelet.given = {"d3": "a"}

    for _ in range(2):
        assert await desk.pass_() == {"a"}

    assert set(desk.handout.had) == {"a"}
    assert desk.handout.claimed_by == {"a": "p-a"}


async def test_what_harvester_refuses_is_tried_again_soon() -> None:
    desk = Desk(wants("a", 3))
    desk.there, desk.journal = (device(3, made=False),), {3: "a"}
    await desk.pass_()
    assert desk.handout.due_in == float("inf")

    for answer in (Further({"a": "no"}, refused=True), DriverError("read Harvester's objects")):
        desk.making.answer = answer
        await desk.pass_()
        assert desk.handout.due_in < 10


async def test_told_to_end_it_makes_nothing_and_waits_for_who_may_come() -> None:
    desk = Desk(wants("a", 3))
    desk.there, desk.journal = (device(3),), {3: "a"}
    desk.kubelet.lists("d3")
    await desk.pass_()
    desk.handout.drain()
    assert not desk.handout.drained

    desk.kubelet.given = {"d3": "a"}
    await desk.pass_()
    assert desk.handout.drained
