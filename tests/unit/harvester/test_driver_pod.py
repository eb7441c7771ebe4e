"""The driver is in a pod, and is reached through a process of it; then the pod is replaced."""

from __future__ import annotations

import shutil
from pathlib import Path

from nodeagent.nvml import Location
from nodeagent.nvml.library import NAME as LIBRARY
from tests.unit.harvester.station import Station


def start_pod(directory: Path, pid: int, library: Path) -> Path:
    """Have a process whose root has the driver's files, and return where it shows."""
    files = directory / f"pod-{pid}"
    for name in ("usr/lib64", "usr/lib/nvidia"):
        (files / name).mkdir(parents=True)
    shutil.copy(library, files / "usr/lib64" / LIBRARY)
    (files / "usr/lib/nvidia/sriov-manage").touch()
    home = directory / "proc" / str(pid)
    (home / "ns").mkdir(parents=True)
    (home / "root").symlink_to(files)
    (home / "ns/mnt").symlink_to(f"mnt:[{pid}]")
    (home / "stat").write_text(f"{pid} (nvidia-vgpud) S {'0 ' * 18}{pid}\n")
    return home


async def test_its_library_serves_and_that_of_the_next_pod_after_it(station: Station) -> None:
    library = station.machine.library
    first = start_pod(station.directory, 4242, library)
    station.location = Location()
    async with station.agent():
        await station.ready()
        pod = await station.vm_of("vm-1")
        await station.plan(station.assignment("a1", pod, 3))
        await station.until_realized("a1")
        opened = len(station.machine.calls("nvmlInitWithFlags"))

        shutil.rmtree(first)
        start_pod(station.directory, 4343, library)
        again = station.assignment("a2", await station.vm_of("vm-2"), 5, at=1)
        await station.running("vm-1")
        await station.plan(station.assignment("a1", pod, 3), again)

        await station.until_realized("a1", "a2")
        assert len(station.machine.calls("nvmlInitWithFlags")) == opened + 1
        assert station.starts() == [3, 5]


async def test_while_there_is_no_pod_the_node_says_so_and_nothing_is_touched(
    station: Station,
) -> None:
    station.location = Location()
    async with station.agent():
        told = await station.until_told(lambda it: bool(it.conditions))

        (ready,) = [each for each in told.conditions if each.type == "Ready"]
        assert (ready.status, ready.reason) == ("False", "DriverUnavailable")
        assert "nvidia-driver-toolkit" in ready.message

        start_pod(station.directory, 4242, station.machine.library)
        await station.ready()
