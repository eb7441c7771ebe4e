"""Others make GPU instances and vGPUs too, and the driver chooses."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from nodeagent.api.gpunode import Mode
from nodeagent.driver import (
    InstanceInUse,
    PlacementUnavailable,
    RivalCandidate,
    VgpuError,
)
from nodeagent.vgpu.mdev import Mdev
from tests.fakes.sysfs.tree import CREATE
from tests.unit.vgpu.node import FUNCTIONS, VgpuNode


class Killed(BaseException):
    """The process ends here, as far as the driver can tell."""


def kill(node: VgpuNode, when: str) -> None:
    """Cut the next write off before or after it takes effect."""

    def at_write(now: str) -> None:
        if now == when:
            raise Killed

    node.sysfs.at_write = at_write


def before_the_write(node: VgpuNode, interfere: Callable[[], object]) -> None:
    """Let somebody interfere between all checks and the first write."""

    def at_write(now: str) -> None:
        node.sysfs.at_write = lambda now: None
        interfere()

    node.sysfs.at_write = at_write


async def killed_with_the_vgpu_in_a_foreign_instance(node: VgpuNode) -> int:
    """Let the agent be killed after a write whose vGPU went into a foreign GPU instance."""
    node.kernel.arbitrary = 1  # not the first of those that would do, which is ours

    def at_write(now: str) -> None:
        if now == "before":
            node.foreign_instance(place=1)
        else:
            raise Killed

    node.sysfs.at_write = at_write
    with pytest.raises(Killed):
        await node.create("a1")
    await node.restart()
    foreign = node.machine.gpu_instances(0)[1]
    assert [vgpu.gi_id for vgpu in node.vgpus()] == [foreign.gi_id]
    return foreign.gi_id


async def test_nothing_is_made_beside_a_free_gpu_instance_of_the_profile(node: VgpuNode) -> None:
    node.foreign_instance()

    with pytest.raises(RivalCandidate, match="another free GPU instance of the profile"):
        await node.create()
    assert len(node.machine.gpu_instances(0)) == 1
    assert node.machine.calls(CREATE) == []


async def test_a_gpu_instance_that_has_its_vgpu_is_no_rival(node: VgpuNode) -> None:
    node.foreign_instance()
    node.foreign_vgpu()

    gi_id = await node.create()

    assert (await node.instance(gi_id)).device is not None


async def test_what_the_driver_put_elsewhere_is_taken_back(node: VgpuNode) -> None:
    node.kernel.arbitrary = 1
    before_the_write(node, lambda: node.foreign_instance(place=1))

    with pytest.raises(VgpuError, match="the driver chose another GPU instance"):
        await node.create()

    assert node.vgpus() == []
    (foreign,) = node.machine.gpu_instances(0)
    assert foreign.placement == node.places()[1]


async def test_a_stray_is_not_the_device_of_the_foreign_instance_it_is_in(node: VgpuNode) -> None:
    foreign = await killed_with_the_vgpu_in_a_foreign_instance(node)

    ours, theirs = (await node.gpu()).instances

    assert ours.device is None
    assert (theirs.gi_id, theirs.device, theirs.in_use) == (foreign, None, True)


async def test_a_stray_goes_with_the_gpu_instance_it_was_made_for(node: VgpuNode) -> None:
    foreign = await killed_with_the_vgpu_in_a_foreign_instance(node)
    ours, _ = (await node.gpu()).instances

    await node.driver.destroy(node.uuid, ours.gi_id)

    assert node.vgpus() == []
    assert [each.gi_id for each in node.machine.gpu_instances(0)] == [foreign]
    assert b"a1" in node.record.read_bytes()
    await node.driver.discover()
    assert b"a1" not in node.record.read_bytes()


async def test_a_stray_whose_gpu_instance_has_gone_is_swept_before_the_next_is_made(
    node: VgpuNode,
) -> None:
    foreign = await killed_with_the_vgpu_in_a_foreign_instance(node)
    ours = next(e for e in node.machine.gpu_instances(0) if e.gi_id != foreign)
    node.machine.destroy_gpu_instance(0, ours.gi_id)
    await node.driver.discover()

    with pytest.raises(RivalCandidate):  # for the foreign one is free again
        await node.create("a2")
    assert node.vgpus() == []


async def test_an_open_stray_is_let_be_and_not_forgotten(node: VgpuNode) -> None:
    foreign = await killed_with_the_vgpu_in_a_foreign_instance(node)
    ours = next(e for e in node.machine.gpu_instances(0) if e.gi_id != foreign)
    node.kernel.open(0, 1)
    await node.driver.discover()

    with pytest.raises(InstanceInUse):
        await node.driver.destroy(node.uuid, ours.gi_id)
    with pytest.raises(PlacementUnavailable):
        await node.create("a1")
    assert len(node.vgpus()) == 1

    node.kernel.open(0, 1, opened=False)
    await node.driver.destroy(node.uuid, ours.gi_id)
    assert node.vgpus() == []


async def test_an_open_stray_does_not_keep_others_from_being_made(node: VgpuNode) -> None:
    foreign = await killed_with_the_vgpu_in_a_foreign_instance(node)
    ours = next(e for e in node.machine.gpu_instances(0) if e.gi_id != foreign)
    node.machine.destroy_gpu_instance(0, ours.gi_id)
    node.kernel.open(0, 1)
    await node.driver.discover()

    gi_id = await node.create("a2", place=2)

    assert (await node.instance(gi_id)).device is not None
    with pytest.raises(InstanceInUse):  # its successor would make us forget it
        await node.create("a1")


async def test_a_foreign_vgpu_in_our_gpu_instance_is_never_handed_out(node: VgpuNode) -> None:
    before_the_write(node, node.foreign_vgpu)

    with pytest.raises(VgpuError, match="its GPU instance stay"):
        await node.create()

    (vgpu,) = node.vgpus()
    (ours,) = (await node.gpu()).instances
    assert (ours.gi_id, ours.device, ours.in_use) == (vgpu.gi_id, None, True)
    with pytest.raises(InstanceInUse):
        await node.driver.destroy(node.uuid, ours.gi_id)
    assert node.vgpus() == [vgpu]


async def test_a_foreign_vgpu_put_there_while_we_were_dead_is_not_ours(node: VgpuNode) -> None:
    kill(node, "before")
    with pytest.raises(Killed):
        await node.create()
    await node.restart()
    await node.driver.discover()
    # On the very function that we were about to use.
    node.foreign_vgpu(function=1)

    (ours,) = (await node.gpu()).instances
    assert (ours.device, ours.in_use) == (None, True)


async def test_killed_before_the_write_the_gpu_instance_is_taken_for_unfinished(
    node: VgpuNode,
) -> None:
    kill(node, "before")
    with pytest.raises(Killed):
        await node.create()
    await node.restart()

    (ours,) = (await node.gpu()).instances
    assert (ours.device, ours.in_use) == (None, False)
    await node.driver.destroy(node.uuid, ours.gi_id)
    assert (await node.instance(await node.create())).device is not None


async def test_killed_after_the_write_the_vgpu_is_taken_up(node: VgpuNode) -> None:
    kill(node, "after")
    with pytest.raises(Killed):
        await node.create()
    await node.restart()

    (ours,) = (await node.gpu()).instances
    assert ours.device is not None


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_while_destroying_it_can_be_destroyed_again(node: VgpuNode, when: str) -> None:
    gi_id = await node.create()
    kill(node, when)
    with pytest.raises(Killed):
        await node.driver.destroy(node.uuid, gi_id)
    await node.restart()

    assert ((await node.instance(gi_id)).device is None) == (when == "after")
    await node.driver.destroy(node.uuid, gi_id)
    assert (node.vgpus(), node.machine.gpu_instances(0)) == ([], [])


async def test_without_its_record_a_gpu_instance_keeps_the_vgpu_that_is_in_it(
    node: VgpuNode,
) -> None:
    gi_id = await node.create()
    before = await node.instance(gi_id)
    node.record.write_text("{")
    await node.restart()

    assert await node.instance(gi_id) == before
    assert node.record.with_name("vgpus.json.unreadable").exists()
    await node.driver.destroy(node.uuid, gi_id)
    assert (node.vgpus(), node.machine.gpu_instances(0)) == ([], [])


async def test_somebody_elses_vgpu_that_appears_in_a_listed_instance_keeps_it(
    node: VgpuNode,
) -> None:
    gi_id = node.foreign_instance()
    await node.driver.discover()
    node.foreign_vgpu()

    with pytest.raises(InstanceInUse, match="somebody has made a vGPU in it"):
        await node.driver.destroy(node.uuid, gi_id)


async def test_a_function_taken_just_before_us_is_let_to_them(node: VgpuNode) -> None:
    before_the_write(node, lambda: node.foreign_vgpu(function=1))

    with pytest.raises(VgpuError) as caught:
        await node.create()

    assert len(node.vgpus()) == 1
    cause = caught.value.__cause__
    assert isinstance(cause, VgpuError)
    assert cause.code == errno.EBUSY


async def test_a_uuid_of_ours_that_nobody_remembers_is_made_room_for(node: VgpuNode) -> None:
    if node.mode is not Mode.VGPU_MDEV:
        pytest.skip("functions have no names of ours")
    node.foreign_instance()
    node.foreign_vgpu(FUNCTIONS, Mdev(node.sysfs).name("a1"))

    with pytest.raises(RivalCandidate):
        await node.create("a1")

    assert node.vgpus() == []
