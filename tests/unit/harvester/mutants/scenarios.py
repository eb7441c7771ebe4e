"""What happens on a node while a bug is planted; each passes where there is none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Inventory
from nodeagent.apiserver.protocol import Unavailable
from tests.fakes.pcidevices.log import CREATE_VGPU
from tests.fakes.pcidevices.names import MIG_CONFIGURATIONS, SRIOV_GPUS, VGPUS
from tests.unit.harvester.by_hand import FIRST, layout
from tests.unit.harvester.mutants.watched import Watched
from tests.unit.harvester.station import KINDS, SMALL, Station
from tests.unit.kubevirt_fake.house import GPU

Scenario = Callable[[Watched], Awaitable[None]]


class Away(Exception):
    """Harvester's controller has ended."""


async def comes(station: Station, name: str = "vm-1", start: int = 3, id: str = "a1") -> None:
    """Have a VM run, which may be there, in the GPU instance that is planned for it."""
    pod = await (station.launcher_of if await station.phase(name) else station.vm_of)(name)
    await station.plan(station.assignment(id, pod, start))
    await station.until_realized(id)
    await station.running(name)
    assert station.places_of(pod.uid) == [(0, start)]


async def goes(station: Station, name: str = "vm-1") -> None:
    """Delete a VM, and wait until nothing of it is left."""
    await station.remove(name)
    await station.plan()
    await station.until(lambda: station.starts() == [])
    assert await station.enabled() == []


async def one_vm(station: Station) -> None:
    """A VM comes and goes."""
    async with station.agent():
        await station.ready()
        await comes(station)
        await goes(station)


async def one_vm_soon(station: Station) -> None:
    """A VM comes sooner than Harvester looks by itself."""
    async with station.agent():
        await station.ready()
        began = station.cluster.now
        await comes(station)
        (made,) = station.cluster.log.of(CREATE_VGPU)
        if made.at - began > 15:
            raise TimeoutError


async def one_vm_for_long(station: Station) -> None:
    """A GPU instance is there when Harvester looks at its MigConfiguration again."""
    async with station.agent():
        await station.ready()
        pod = await station.vm_of("vm-1")
        await station.plan(station.assignment("a1", pod, 3))
        await station.until(lambda: station.starts() == [3])
        assert (await layout(station))["enabled"], "Harvester deletes what is on the GPU"
        await station.site.pass_(700)
        await station.until_realized("a1")


async def reboot(station: Station) -> None:
    """The node reboots, and its agent is there before Harvester's controller is."""
    early = True

    def step(name: str) -> None:
        if early and name == "sriov-manage":
            raise Unavailable(503, "the driver's pod is not there yet")

    async with station.agent():
        await station.ready()
    await station.reboot()
    station.site.step = step
    async with station.agent():
        await turns(station)
        early = False
        await station.until_told(
            lambda it: it.boot_id == "boot-2" and not any(gpu.unhealthy for gpu in it.gpus)
        )


async def a_foreign_instance(station: Station) -> None:
    """Somebody has made a GPU instance of the profile; the plan wants another."""
    async with station.agent():
        await station.ready()
        station.machine.create_gpu_instance(0, SMALL, Placement(0, 1))
        pod = await station.vm_of("vm-1")
        await station.plan(station.assignment("a1", pod, 3))
        await station.until_told(lambda it: bool(it.failed or it.realized))
        assert station.starts() == [0]


async def one_goes_while_anothers_is_made(station: Station) -> None:
    """A VM goes while Harvester's controller, which is away, has another one's vGPU to make."""
    away = False

    def step(name: str) -> None:
        if away and name == "create vGPU":
            raise Away(name)

    async def asked() -> bool:
        return len(await station.enabled()) == 2

    async with station.agent():
        await station.ready()
        await comes(station)
        pod = await station.vm_of("vm-2")
        first = station.assignment("a1", await station.launcher_of("vm-1"), 3)
        second = station.assignment("a2", pod, 5, at=1)
        station.site.step, station.ending, away = step, Away, True
        await station.plan(first, second)
        await station.until(asked)
        await station.remove("vm-1")
        await station.plan(second)
        await turns(station)
        away = False
        await comes(station, "vm-2", 5, "a2")


async def a_vm_that_is_off(station: Station) -> None:
    """A VM is stopped, and keeps what it has."""
    async with station.agent():
        await station.ready()
        await comes(station)
        await station.stop("vm-1")
        await station.plan()
        await station.until_told(lambda it: any(each.standing for each in it.gpus[0].instances))


async def the_plugin_is_late(station: Station) -> None:
    """The device is there long before Harvester's plugin tells the kubelet of it."""
    away = True

    def step(name: str) -> None:
        if away and name == "advertise":
            raise Away(name)

    async with station.agent():
        await station.ready()
        pod = await station.vm_of("vm-1")
        station.site.step, station.ending = step, Away
        await station.plan(station.assignment("a1", pod, 3))
        await station.until(lambda: len(station.site.host.kernel.vgpus()) == 1)
        await turns(station)
        if (await station.status()).realized:
            await station.running("vm-1")
        away = False
        await station.until_realized("a1")
        await station.running("vm-1")


async def turns(station: Station, count: int = 60) -> None:
    """Let everybody work so many times."""
    left = iter(range(count))
    await station.until(lambda: next(left, None) is None)


async def dropped_while_made(station: Station) -> None:
    """The plan is dropped when a vGPU is there of which its VGPUDevice does not tell yet."""
    untold = False

    def step(name: str) -> None:
        nonlocal untold
        untold = untold or name == "created vGPU"
        if untold and name == "write status of vgpudevices":
            raise Unavailable(503, "the API server is not there")

    async with station.agent():
        await station.ready()
        pod = await station.vm_of("vm-1")
        station.site.step = step
        await station.plan(station.assignment("a1", pod, 3))
        await station.until(lambda: untold)
        await station.plan()
        await station.until_told(lambda it: it.observed_generation >= 3)
        await turns(station)
        station.site.step = lambda name: None
        await station.until(lambda: station.starts() == [])
        assert station.host_is_whole()


async def cut(station: Watched, instances: int) -> None:
    """Have an administrator cut the GPU into so many GPU instances, and nobody blamed for it."""
    with station.by_hand():
        await station.change(SRIOV_GPUS, GPU, enabled=True)
        await station.site.pass_(30)
        spec = [{"name": "MIG 1g.5gb", "id": SMALL, "requested": instances}]
        await station.change(MIG_CONFIGURATIONS, GPU, enabled=True, profileSpec=spec)
        await station.site.pass_(60)


async def cut_by_hand(station: Watched) -> None:
    """A GPU is cut by hand, and nobody has named it; the agent is told to manage all."""
    await cut(station, 2)
    starts = station.starts()
    async with station.agent():
        await station.until_told(lambda it: bool(it.gpus and it.gpus[0].instances))
        await station.site.pass_(300)
        await station.until_told(lambda it: "asks for GPU instances" in it.gpus[0].unhealthy)
    assert station.starts() == starts


async def named_while_it_serves(station: Watched) -> None:
    """A GPU cut by hand is named; a VM has what is enabled there, and goes."""
    await cut(station, 1)
    await station.change(VGPUS, FIRST, enabled=True, vGPUTypeName=KINDS[SMALL])
    await station.site.pass_(30)
    (start,) = station.starts()
    await station.choose_gpus(station.machine.uuids[0])
    async with station.agent():
        await station.until_told(_stands)
        await comes(station, start=start)
        await station.remove("vm-1")
        await station.plan()
        await station.until_told(lambda it: _stands(it) and not it.realized)
        await turns(station)
    assert await station.enabled() == [FIRST]


def _stands(told: Inventory) -> bool:
    return any(each.standing for gpu in told.gpus for each in gpu.instances)


async def disabled_by_hand(station: Station) -> None:
    """An administrator takes the virtual functions off a GPU that nobody uses."""
    async with station.agent():
        await station.ready()
        await station.change(SRIOV_GPUS, GPU, enabled=False)
        await station.until(lambda: station.site.host.kernel.functions(0) == 0)
        await turns(station)


async def handed_back_after_long(station: Station) -> None:
    """A GPU is handed back whose layout Harvester has found to be out of sync."""
    async with station.agent():
        await station.ready()
        await comes(station)
        await station.pass_(400)
        await goes(station)
        await station.choose_gpus("none")

        async def disabled() -> bool:
            return not (await layout(station))["enabled"]

        await station.until(disabled)


async def four_vms_together(station: Station) -> None:
    """Four VMs of a type come at once; the kubelet gives any free device to whoever comes first."""
    async with station.agent():
        await station.ready()
        pods = [await station.vm_of(f"vm-{n}") for n in range(4)]
        plan = [station.assignment(f"a{n}", pod, 6 - n, at=n) for n, pod in enumerate(pods)]
        await station.plan(*plan)
        for n, pod in enumerate(pods):
            await station.until_told(lambda it, n=n: f"a{n}" in {r.id for r in it.realized})  # type: ignore[misc]
            await turns(station)
            told = (await station.status()).realized
            assert len(told) == n + 1, "two pods may come for a type at once"
            await station.running(f"vm-{n}")
            assert station.places_of(pod.uid) == [(0, 6 - n)]
