"""A Harvester node of VMs that exchange the devices they keep, one event at a time.

The agent's passes and what the extender decides and writes are the real ones. The GPU, Harvester,
the kubelet and the API server are values here, and nobody hears of anything by itself: each event
lets one of them do, or hear of, one thing. So whatever order there is can be had.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec

from extender.ledger import Ledger
from extender.packing.choose import Choice
from extender.policy import PolicyName
from extender.request import Request
from extender.service.adoption import Adopter
from extender.service.ports import PlanConflict, PodFacts
from extender.service.recording import Recorder
from extender.service.right_of_way import RightOfWay
from extender.snapshot import NodeView
from extender.succession import left_behind, successor, unanswered
from extender.verbs import bind as decide
from extender.verbs.inherit import superseded
from nodeagent.actuate import Actuator
from nodeagent.agent.passes import Passes
from nodeagent.agent.reporter import Reporter
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import (
    Assignment,
    GpuNode,
    Inventory,
    Metadata,
    Mode,
    OwnerRef,
    Plan,
    PodRef,
)
from nodeagent.driver import Host, LiveDevice, LiveGpu, LiveInstance, Purpose
from nodeagent.harvester.handout import HarvesterHandout
from nodeagent.harvester.making import Further, Unfinished
from nodeagent.journal import Kept, Made
from nodeagent.kubelet import Holder
from nodeagent.purview import Purview
from nodeagent.settings import Settings
from tests.builders import H100, VGPU, request

ONE, SMALL = 19, VGPU + "1-10C"
GPU, NODE = "GPU-0", "node-1"


class Vm(msgspec.Struct):
    """A VM that wants *count* devices; ``keeps`` are those that its annotation names.

    Its pod is ``uid``, "" while it is off.
    """

    name: str
    count: int = 1
    keeps: frozenset[str] = frozenset()
    uid: str = ""
    bound: bool = False
    exists: bool = True

    @property
    def owner(self) -> OwnerRef:
        return OwnerRef("VirtualMachineInstance", "default", self.name)

    @property
    def request(self) -> Request:
        return request(*["1-10C"] * self.count, pod=self.uid, owner=self.owner)


class Node:
    """The GPU with its devices, by start, and who has been given which by the kubelet."""

    def __init__(self, vms: Sequence[Vm]) -> None:
        self.vms = vms
        self.instances: dict[int, str] = {}
        self.given: dict[str, str] = {}
        self.listed: set[str] = set()
        self._names = map("d{}".format, itertools.count())

    def keep(self, vm: Vm, start: int) -> Made:
        """Let there be a device that a VM, which is off, has kept; return its journal entry."""
        device = self.instances[start] = next(self._names)
        vm.keeps |= {device}
        self.listed.add(device)
        return Made(f"for {device}", GPU, ONE, Placement(start, 1), "boot")

    def places(self, uid: str) -> list[int]:
        """Return where the devices of a pod are."""
        return sorted(n for n, device in self.instances.items() if self.given.get(device) == uid)

    # -- as the driver shows it, and as Harvester makes devices ------------------------------------

    async def discover(self) -> Host:
        live = tuple(self._live(start, device) for start, device in self.instances.items())
        gpu = LiveGpu(GPU, "0000:10:00.0", "H100", H100.geometry, H100.vgpu_types, instances=live)
        return Host("boot", "580", Mode.HARVESTER, (gpu,))

    def _live(self, start: int, device: str) -> LiveInstance:
        live = LiveInstance(start + 1, ONE, Placement(start, 1))
        if not device:
            return live
        keepers = tuple(vm.owner for vm in self.vms if vm.exists and device in vm.keeps)
        return msgspec.structs.replace(
            live, device=LiveDevice(device), serves=(SMALL,), keepers=keepers
        )

    async def create(self, gpu: str, profile_id: int, placement: Placement, _: Purpose) -> int:
        assert placement.start not in self.instances
        self.instances[placement.start] = ""
        return placement.start + 1

    async def further(self, unfinished: Sequence[Unfinished], **_: Any) -> Further:
        for each in unfinished:
            self.instances[each.gi_id - 1] = next(self._names)
        return Further()

    async def destroy(self, gpu: str, gi_id: int) -> None:
        device = self.instances.pop(gi_id - 1)
        assert device not in self.given, "a pod's device was taken away"
        assert not any(vm.exists and device in vm.keeps for vm in self.vms)

    # -- as the kubelet tells ----------------------------------------------------------------------

    async def holders(self) -> Sequence[Holder]:
        return [
            Holder(SMALL, device, PodRef("default", f"name-{uid}", uid))
            for device, uid in self.given.items()
        ]

    async def devices(self) -> Mapping[str, Collection[str]]:
        return {SMALL: frozenset(self.listed)}

    def admit(self, vm: Vm, pick: int) -> None:
        """Give a bound pod what the kubelet happens to pick among all that it has listed."""
        for n in range(vm.count):
            free = sorted(self.listed - self.given.keys())
            assert free, "the kubelet has nothing for a pod that was told to come"
            device = free[(pick + n) % len(free)]
            assert device in self.instances.values(), "a pod was given what is gone"
            self.given[device] = vm.uid


class Memory:
    """A journal, and the API server's GpuNode with its writers."""

    damage = ""

    def __init__(self) -> None:
        self.made: tuple[Made, ...] = ()
        self.kept = Kept()
        self.node = GpuNode(Metadata(NODE, "uid-1", 1, "1"), Plan(), Inventory())

    async def save(self, made: tuple[Made, ...]) -> None:
        self.made = made

    async def keep(self, kept: Kept) -> None:
        self.kept = kept

    async def tell(self, node: GpuNode | Sequence[object], inventory: Any = None) -> int:
        """Take in an inventory; alarms are told likewise, and there are none."""
        if isinstance(node, GpuNode):
            self._put(status=inventory)
        return self.node.version

    def write(self, entries: Sequence[Assignment]) -> None:
        """Replace the plan."""
        self._put(spec=Plan(tuple(entries)), generation=self.node.metadata.generation + 1)

    def _put(self, *, generation: int = 0, **fields: Any) -> None:
        metadata = msgspec.structs.replace(
            self.node.metadata,
            resource_version=str(self.node.version + 1),
            generation=generation or self.node.metadata.generation,
        )
        self.node = msgspec.structs.replace(self.node, metadata=metadata, **fields)


class Agent:
    """The agent's passes, by the plan that it has heard of last."""

    def __init__(self, node: Node, memory: Memory, *, epoch: str) -> None:
        self.heard = memory.node
        parts: Any = memory  # journal, publisher and alarms
        gpus: Any = node  # driver, and Harvester
        hours = itertools.count(step=3600.0)
        self._passes = Passes(
            Actuator(gpus, parts, within=1.0),
            HarvesterHandout(node, gpus, within=1.0),
            Reporter(
                parts,
                parts,
                epoch=epoch,
                patience=30.0,
                clock=lambda: next(hours),
                utc_now=lambda: datetime.now(UTC),
            ),
            parts,
            parts,
            settings=Settings(),
            purview=Purview(all_gpus=True),
            prepare=None,
            clock=lambda: next(hours),
        )

    async def pass_(self) -> None:
        await self._passes.make(self.heard)


class Extender:
    """What the extender knows of the node, and writes; as its own *plans* and *cluster*."""

    def __init__(self, world: World) -> None:
        self._world = world
        node = world.memory.node
        self.view = NodeView(
            node,
            PolicyName.DEFAULT,
            stale=False,
            releasing=left_behind(node),
            unanswered=unanswered(node),
        )
        self.loses = False
        self.lost: Mapping[str, Mapping[Assignment, float]] = {}
        knowledge: Any = self
        parts: Any = self
        self.settings = SimpleNamespace(unseen_pod_recheck_seconds=0.0)
        self.clock = itertools.count().__next__
        self.way = RightOfWay()
        self.recorder = Recorder(knowledge, parts, new_id=world.new_id)
        self.adopter = Adopter(knowledge, parts, parts, new_id=world.new_id)

    @property
    def views(self) -> Mapping[str, NodeView]:
        return {NODE: self.view}

    def hear(self) -> None:
        self.view = successor(self.view, self._world.memory.node)

    @contextlib.asynccontextmanager
    async def turn(self, node: str) -> AsyncIterator[None]:
        yield

    async def write(
        self,
        view: NodeView,
        *,
        add: Collection[Assignment] = (),
        remove: Collection[str] = (),
        hold: Collection[str] = (),
        told: bool = False,
    ) -> None:
        """Change the plan, unless it is another by now, or somebody else is faster."""
        plan = self._world.memory.node
        if self.loses or view.node.metadata.generation != plan.metadata.generation:
            self.loses = False
            raise PlanConflict("somebody else was faster")
        self._world.memory.write(
            [
                msgspec.structs.replace(each, pod=None) if each.id in hold else each
                for each in plan.spec.assignments
                if each.id not in remove
            ]
            + list(add)
        )
        self.hear()

    async def read_pod(self, namespace: str, name: str) -> PodFacts | None:
        for vm in self._world.node.vms:
            if vm.uid and vm.request.pod.name == name:
                return PodFacts(vm.request.pod, vm.request, NODE if vm.bound else "", "Running")
        return None

    async def mark_managed(self, pod: PodRef) -> bool:
        return True

    async def place(self, vm: Vm) -> None:
        """Write a pod's places to the plan, as bind does."""
        view, asked = self.view, vm.request
        choice = decide.place(view, Ledger(), asked)
        if isinstance(choice, Choice):
            ids = iter(self._world.new_id, "")
            since = f"2026-01-01T00:00:00.{next(self._world.count):06}Z"
            entries = decide.assignments(asked, choice, ids=ids, since=since)
            with contextlib.suppress(PlanConflict):
                await self.write(view, add=entries, remove=superseded(view, asked, choice))


class World:
    """Everybody, and the events by which they do or hear of something."""

    def __init__(self, vms: Sequence[Vm], *, kept: int) -> None:
        """Begin with *vms* that are off; the first *kept* of them have kept their devices."""
        self.count = itertools.count(1)
        self.memory = Memory()
        self.node = Node(vms)
        starts = itertools.count()
        self.memory.made = tuple(
            self.node.keep(vm, next(starts)) for vm in vms[:kept] for _ in range(vm.count)
        )
        self.agent = Agent(self.node, self.memory, epoch="0")
        self.extender = Extender(self)

    def new_id(self) -> str:
        return f"a{next(self.count)}"

    @property
    def plan(self) -> Sequence[Assignment]:
        return self.memory.node.spec.assignments

    async def happen(self, event: str, which: int) -> None:
        """Let one thing happen; *which* VM it happens to, or which device is picked."""
        vms, extender = self.node.vms, self.extender
        vm = vms[which % len(vms)]
        entries = extender.view.assignments_of(vm.uid)
        match event:
            case "the agent looks":
                await self.agent.pass_()
            case "the agent hears":
                self.agent.heard = self.memory.node
            case "the extender hears":
                extender.hear()
            case "the kubelet hears":
                self.node.listed = set(filter(None, self.node.instances.values()))
            case "it is recorded":
                await extender.recorder.sweep()
            case "it is adopted":
                await extender.adopter.sweep()
            case "a write loses":
                extender.loses = True
            case "the agent restarts":
                self.agent = Agent(self.node, self.memory, epoch=self.new_id())
            case "the extender restarts":
                self.extender = Extender(self)
            case "a VM starts" if vm.exists and not vm.uid:
                vm.uid, vm.bound = f"pod-{next(self.count)}", False
            case "a place is chosen" if vm.uid and not vm.bound and not entries:
                await extender.place(vm)
            case "a pod is bound" if entries and not vm.bound:
                vm.bound = extender.view.realized(each.id for each in entries)
            case "a pod is admitted" if vm.bound and not self.node.places(vm.uid):
                self.node.admit(vm, which // len(vms))
            case "a VM's devices are noted" if vm.uid and self.node.places(vm.uid):
                vm.keeps = frozenset(d for d, uid in self.node.given.items() if uid == vm.uid)
            case "a VM stops" | "a VM is deleted":
                self.node.given = {d: it for d, it in self.node.given.items() if it != vm.uid}
                vm.uid, vm.bound, vm.exists = "", False, vm.exists and event != "a VM is deleted"
            case "places are taken back":
                await self._reclaim()
            case "a VM comes back" if vm.uid:  # its place is held for it meanwhile
                await self.happen("a VM stops", which)
                await self._reclaim(hold=True)
                await self.happen("a VM starts", which)
            case _:
                pass

    async def _reclaim(self, *, hold: bool = False) -> None:
        alive = {vm.uid for vm in self.node.vms}
        view = self.extender.view
        gone = [e.id for e in view.node.spec.assignments if e.pod and e.pod.uid not in alive]
        if gone:
            with contextlib.suppress(PlanConflict):
                if hold:
                    await self.extender.write(view, hold=gone)
                else:
                    await self.extender.write(view, remove=gone)

    async def round(self, events: Iterable[str], picks: Iterator[int]) -> None:
        """Let events happen in this order, to each VM; *picks* are the kubelet's."""
        vms = len(self.node.vms)
        for event in events:
            for vm in range(vms):
                await self.happen(event, vm + vms * next(picks))
                self.check()

    async def settle(self, picks: Iterator[int]) -> None:
        """Let everything happen that is due, until nothing does any more."""
        self.extender.loses = False
        before: object = None
        while before != (before := self._state()):
            await self.round(DUE, picks)
        view = self.extender.view
        if view.reservations:  # their time is over
            await self.extender.write(view, remove=[each.id for each in view.reservations])

    def check(self) -> None:
        """Nothing is promised twice, and to nobody more than it asked for."""
        for one, other in itertools.combinations(self.plan, 2):
            assert not one.placement.mask & other.placement.mask, (one, other)
        owners = Counter(each.pod.uid for each in self.plan if each.pod)
        assert all(owners[vm.uid] <= vm.count for vm in self.node.vms if vm.uid), owners

    def check_settled(self) -> None:
        """Who is to run does, the plan says where, and nothing is left of who does not."""
        vms, node = self.node.vms, self.node
        real = {vm.uid: node.places(vm.uid) for vm in vms if vm.uid}
        planned: dict[str, list[int]] = {}
        for each in sorted(self.plan, key=lambda it: it.start):
            planned.setdefault(each.pod.uid if each.pod else "", []).append(each.start)
        assert real == planned
        assert all(len(real[vm.uid]) == vm.count for vm in vms if vm.uid)
        kept = {device for vm in vms if vm.exists for device in vm.keeps}
        assert set(node.instances.values()) == kept | node.given.keys()

    def _state(self) -> tuple[object, ...]:
        node = self.node
        vms = [msgspec.structs.astuple(vm) for vm in node.vms]
        return self.plan, dict(node.instances), dict(node.given), set(node.listed), vms


DUE = (
    "places are taken back",
    "a place is chosen",
    "the agent hears",
    "the agent looks",
    "the kubelet hears",
    "the agent looks",
    "the extender hears",
    "a pod is bound",
    "a pod is admitted",
    "a VM's devices are noted",
    "the agent looks",
    "the extender hears",
    "it is recorded",
    "it is adopted",
)
"""What happens sooner or later, in an order in which it all gets on."""

DISTURBING = (
    "a VM starts",
    "a VM stops",
    "a VM is deleted",
    "a VM comes back",
    "a write loses",
    "the agent restarts",
    "the extender restarts",
)
