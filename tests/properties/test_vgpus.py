"""Whatever others do and whenever the agent is killed: no vGPU in a wrong place, none lost.

Others make GPU instances and vGPUs between any two steps of ours, the driver chooses at will among
the free GPU instances, writes fail or lie, and the process ends before or after any of them.
"""

from __future__ import annotations

import asyncio
import errno

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode
from nodeagent.driver import DriverError, LiveInstance
from tests.fakes.nvml.machine import Kind, Refused
from tests.fakes.sysfs.tree import CREATE, REMOVE, function_address
from tests.unit.vgpu.node import FUNCTIONS, VgpuNode

PLACES = 4

Act = tuple[str, int]
ACTS = st.tuples(
    st.sampled_from(
        [
            "create",
            "create",
            "create",
            "destroy",
            "destroy",
            "restart",
            "foreign instance",
            "foreign vgpu",
            "foreign vgpu goes",
            "foreign instance goes",
            "our vgpu goes",
            "open",
            "close",
        ]
    ),
    st.integers(0, PLACES - 1),
)
INTERFERENCE = st.sampled_from(
    [(), (("foreign instance", 1),), (("foreign instance", 2),), (("foreign vgpu", 0),)]
)
FAULTS = st.sampled_from(
    ["", "", "killed before", "killed after", "error", "done but error", "pretend", "not removed"]
)


class Killed(BaseException):
    """The process ends here."""


class World:
    """A node, an agent that does as the real one, and somebody else; all of one profile."""

    def __init__(self, node: VgpuNode) -> None:
        self.node = node
        self.journal: dict[Placement, str] = {}
        self.foreign_functions: set[int] = set()
        self.foreign_places: set[Placement] = set()
        self.count = 0
        self.unclear = False

    # -- what others do ----------------------------------------------------------------------------

    def others(self, act: str, which: int) -> None:
        node = self.node
        place = node.places()[which]
        vgpus = [v for v in node.vgpus() if not v.opened]
        if act == "foreign instance":
            try:
                node.foreign_instance(which)
                self.foreign_places.add(place)
            except Refused:
                pass  # there is one already
        elif act == "foreign vgpu":
            unused = set(range(PLACES + 1, FUNCTIONS + 1)) - self.foreign_functions
            if unused and node.kernel.types(0)[node.type.name] in node.kernel.creatable(0):
                function = max(unused)
                node.foreign_vgpu(function)
                self.foreign_functions.add(function)
        elif act == "foreign vgpu goes" and self.foreign_functions:
            function = max(self.foreign_functions)
            if any(v.function == function for v in vgpus):
                node.kernel.remove(0, function)
                self.foreign_functions.discard(function)
        elif act == "foreign instance goes" and place in self.foreign_places:
            found = next(i for i in node.machine.gpu_instances(0) if i.placement == place)
            if not found.in_use:
                node.machine.destroy_gpu_instance(0, found.gi_id)
                self.foreign_places.discard(place)
        elif act == "our vgpu goes":
            for vgpu in vgpus[which : which + 1]:
                if vgpu.function not in self.foreign_functions:
                    node.kernel.remove(0, vgpu.function)
        elif act in ("open", "close"):
            for vgpu in node.vgpus()[which : which + 1]:
                node.kernel.open(0, vgpu.function, act == "open")

    # -- what the agent does -----------------------------------------------------------------------

    async def look(self) -> list[LiveInstance]:
        """Return our GPU instances, after a look that forgets what has gone."""
        there = (await self.node.gpu()).instances
        places = {each.placement for each in there}
        self.journal = {place: a for place, a in self.journal.items() if place in places}
        return [each for each in there if each.placement in self.journal]

    async def create(self, which: int) -> None:
        place = self.node.places()[which]
        await self.look()
        if all(each.placement != place for each in self.node.machine.gpu_instances(0)):
            self.count += 1
            self.journal[place] = f"a{self.count}"
            await self.node.create(self.journal[place], which)

    async def destroy(self, which: int) -> None:
        for each in (await self.look())[which : which + 1]:
            await self.node.driver.destroy(self.node.uuid, each.gi_id)

    async def destroy_all(self) -> None:
        for each in await self.look():
            if not each.in_use:  # by a vGPU of somebody else
                await self.node.driver.destroy(self.node.uuid, each.gi_id)

    async def do(self, act: str, which: int) -> None:
        before = {vgpu.function for vgpu in self.node.vgpus()}
        try:
            if act == "create":
                await self.create(which)
            elif act == "destroy":
                await self.destroy(which)
            elif act == "restart":
                await self.node.restart()
            else:
                self.others(act, which)
        except DriverError:
            pass  # it says so, and what it leaves is judged below
        except Killed:
            await self.node.restart()
        finally:
            self.node.sysfs.at_write = lambda when: None
            self.node.machine.clear_faults()
            if self.unclear:
                self.let_be(before)

    def let_be(self, before: set[int]) -> None:
        """Count as foreign what cannot be told from it.

        A function bears no name. If the driver reports an error and the function has a vGPU in
        somebody else's GPU instance, somebody else may have made it just before us.
        """
        foreign = {
            each.gi_id
            for each in self.node.machine.gpu_instances(0)
            if each.placement in self.foreign_places
        }
        self.foreign_functions |= {
            vgpu.function
            for vgpu in self.node.vgpus()
            if vgpu.function not in before and vgpu.gi_id in foreign
        }

    def disturb(self, interference: tuple[Act, ...], fault: str) -> None:
        """Have others interfere just before the next write, and have that go wrong."""
        todo = list(interference)

        def at_write(when: str) -> None:
            while todo:
                self.others(*todo.pop())
            if fault == f"killed {when}":
                raise Killed

        self.node.sysfs.at_write = at_write
        self.unclear = fault == "done but error" and self.node.mode is Mode.VGPU_VFIO
        if fault == "error":
            self.node.machine.fail(CREATE, errno.EIO)
        elif fault == "done but error":
            self.node.machine.fail(CREATE, errno.EIO, kind=Kind.DONE_BUT_ERROR)
        elif fault == "pretend":
            self.node.machine.pretend(CREATE)
            self.node.machine.pretend(REMOVE)
        elif fault == "not removed":
            self.node.machine.fail(REMOVE, errno.EBUSY)

    # -- what must hold ----------------------------------------------------------------------------

    async def check(self) -> None:
        vgpus = {v.uuid or function_address(0, v.function): v for v in self.node.vgpus()}
        functions = {v.function for v in vgpus.values()}
        assert self.foreign_functions <= functions, "a foreign vGPU was removed"
        there = {each.placement for each in self.node.machine.gpu_instances(0)}
        assert self.foreign_places <= there, "a foreign GPU instance was destroyed"
        for each in await self.look():
            if each.device is not None:
                vgpu = vgpus[each.device.id]
                assert vgpu.gi_id == each.gi_id, "a device in another GPU instance"
                assert vgpu.function not in self.foreign_functions, "a foreign one handed out"
                assert vgpu.opened <= each.in_use

    async def end(self) -> None:
        """All VMs end, the plan is empty: whatever is ours goes."""
        for vgpu in self.node.vgpus():
            self.node.kernel.open(0, vgpu.function, opened=False)
        await self.destroy_all()
        # Strays whose GPU instance has gone go with the next change on the GPU.
        for which in range(PLACES):
            await self.do("create", which)
        await self.destroy_all()
        left = {vgpu.function for vgpu in self.node.vgpus()}
        assert left == self.foreign_functions, "a vGPU of ours is left"
        theirs = {v.gi_id for v in self.node.vgpus()}
        for instance in self.node.machine.gpu_instances(0):
            if instance.placement not in self.foreign_places:
                assert instance.gi_id in theirs, "a GPU instance of ours is left"


@pytest.mark.parametrize("mode", [Mode.VGPU_MDEV, Mode.VGPU_VFIO])
@given(
    st.lists(st.tuples(ACTS, INTERFERENCE, FAULTS, st.integers(0, PLACES)), max_size=10),
)
@example(
    # The driver puts ours into a GPU instance that has just come, and reports an error.
    [(("create", 2), (("foreign instance", 1),), "done but error", 3)]
)
@settings(max_examples=40)
def test_no_vgpu_is_in_a_wrong_place_and_none_is_lost(
    mode: Mode,
    tmp_path_factory: pytest.TempPathFactory,
    story: list[tuple[Act, tuple[Act, ...], str, int]],
) -> None:
    async def told() -> None:
        node = VgpuNode(tmp_path_factory.mktemp("vgpus"), "A30-24GB", mode)
        try:
            world = World(node)
            for act, interference, fault, arbitrary in story:
                node.kernel.arbitrary = arbitrary
                world.disturb(interference, fault)
                await world.do(*act)
                await world.check()
            await world.end()
        finally:
            await node.close()

    asyncio.run(told())
