"""Virtual functions are enabled on request, and never over anything that is there."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from nodeagent.driver import (
    SRIOV_DISABLED,
    DriverError,
    InstanceInUse,
    LiveGpu,
    MigDisabled,
    VgpuError,
)
from nodeagent.vgpu import enable_sriov
from nodeagent.vgpu.sriov import ATTEMPTS
from tests.fakes.sysfs import sriov_manage
from tests.unit.vgpu.node import VgpuNode


class Scene:
    """A GPU without virtual functions, the script that enables them, and how NVML is closed."""

    def __init__(self, node: VgpuNode, directory: Path) -> None:
        self.node = node
        self.script = sriov_manage.install(directory, node.machine, functions=8)
        self.closings: list[str] = []
        self.pauses: list[float] = []

    async def enable(self, gpu: LiveGpu, within: float = 60.0) -> None:
        await enable_sriov(
            gpu,
            self.node.sysfs,
            self.node.worker,
            closed=self._closed,
            script=self.script,
            within=within,
            pause=self._pause,
        )

    def say(self, text: str) -> None:
        """Have a script in place of the fake one that does nothing but that."""
        self.script.write_text(f"#!/bin/sh\n{text}\n")

    @asynccontextmanager
    async def _closed(self) -> AsyncIterator[None]:
        async with self.node.nvml.driver.closed():
            self.closings.append("closed")
            yield
        self.closings.append("open")

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.fixture
def scene(node_of: Callable[..., VgpuNode], tmp_path: Path) -> Scene:
    return Scene(node_of(functions=0), tmp_path)


async def test_a_gpu_that_waits_for_them_gets_its_functions(scene: Scene) -> None:
    gpu = await scene.node.gpu()
    assert gpu.unhealthy == SRIOV_DISABLED

    await scene.enable(gpu)

    assert scene.closings == ["closed", "open"]
    assert (await scene.node.gpu()).unhealthy == ""
    assert (await scene.node.instance(await scene.node.create())).device is not None


async def test_a_gpu_that_has_its_functions_is_left_alone(scene: Scene) -> None:
    gpu = await scene.node.gpu()
    await scene.enable(gpu)
    await scene.node.create()

    await scene.enable(await scene.node.gpu())

    assert scene.closings == ["closed", "open"]
    assert len(scene.node.vgpus()) == 1


async def test_mig_mode_comes_first(scene: Scene) -> None:
    await scene.node.gpu()
    scene.node.nvml.set_mig_mode(0, False)

    with pytest.raises(MigDisabled):
        await scene.enable(await scene.node.gpu())
    assert scene.node.kernel.functions(0) == 0


async def test_gpu_instances_are_not_wiped(scene: Scene) -> None:
    scene.node.foreign_instance()

    with pytest.raises(InstanceInUse, match="would wipe GPU instances"):
        await scene.enable(await scene.node.gpu())
    assert len(scene.node.machine.gpu_instances(0)) == 1
    assert scene.closings == []


async def test_a_gpu_that_is_not_well_otherwise_is_left_alone(scene: Scene) -> None:
    ill = msgspec.structs.replace(await scene.node.gpu(), unhealthy="Xid 79")

    with pytest.raises(DriverError, match="Xid 79"):
        await scene.enable(ill)
    assert scene.node.kernel.functions(0) == 0


async def test_a_gpu_that_a_client_still_holds_is_tried_again(scene: Scene) -> None:
    sriov_manage.busy(scene.node.machine, ATTEMPTS - 1)

    await scene.enable(await scene.node.gpu())

    assert scene.node.kernel.functions(0) == 8
    assert scene.pauses == [2.0, 4.0, 8.0, 16.0]
    assert scene.closings == ["closed", "open"]


async def test_a_gpu_that_a_client_never_lets_go_is_given_up(scene: Scene) -> None:
    sriov_manage.busy(scene.node.machine, ATTEMPTS)

    with pytest.raises(VgpuError, match=r"no virtual functions came: .*Cannot obtain unbindLock"):
        await scene.enable(await scene.node.gpu())
    assert scene.closings == ["closed", "open"]


@pytest.mark.parametrize("ending", ["exit 0", "exit 1"])
async def test_success_is_judged_by_the_functions_that_come(scene: Scene, ending: str) -> None:
    gpu = await scene.node.gpu()
    scene.say(f"echo all is well; {ending}")

    with pytest.raises(VgpuError, match="no virtual functions came: all is well"):
        await scene.enable(gpu)
    assert scene.pauses == []


async def test_a_script_that_does_not_end_is_ended(scene: Scene) -> None:
    gpu = await scene.node.gpu()
    scene.say("sleep 600")

    with pytest.raises(VgpuError, match="no end in time"):
        await scene.enable(gpu, within=0.2)
    assert scene.closings == ["closed"]


async def test_a_script_that_is_not_there_is_told(scene: Scene) -> None:
    gpu = await scene.node.gpu()
    scene.script.unlink()

    with pytest.raises(VgpuError, match=r"run /.*sriov-manage") as caught:
        await scene.enable(gpu)
    assert caught.value.code == errno.ENOENT
