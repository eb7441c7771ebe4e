"""The driver is in a pod, and is reached through a process of it; then the pod is replaced."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import msgspec
import pytest

from nodeagent.api.gpunode import Condition, Inventory
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import PODS, ApiError
from nodeagent.driver import DriverError
from nodeagent.harvester import DriverPods
from nodeagent.nvml import Location
from nodeagent.nvml.library import NAME as LIBRARY
from tests.unit.harvester.station import NAME, Station


async def driver_pod(station: Station, name: str) -> str:
    """Have a pod of Harvester's driver on the node, and return its UID."""
    labels = {"app": "nvidia-driver-daemonset"}
    body = {"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": NAME}}
    raw = await station.cluster.api.create(PODS, body, namespace="harvester-system")
    return str(msgspec.json.decode(raw)["metadata"]["uid"])


def start_process(directory: Path, pid: int, library: Path, pod: str) -> Path:
    """Have a process of *pod* whose root has the driver's files, and return where it shows."""
    files = directory / f"pod-{pid}"
    for name in ("usr/lib64", "usr/lib/nvidia"):
        (files / name).mkdir(parents=True)
    shutil.copy(library, files / "usr/lib64" / LIBRARY)
    (files / "usr/lib/nvidia/sriov-manage").touch()
    home = directory / "proc" / str(pid)
    home.mkdir(parents=True)
    (home / "root").symlink_to(files)
    (home / "cgroup").write_text(f"0::/kubepods/besteffort/pod{pod}/{pid}\n")
    (home / "stat").write_text(f"{pid} (nvidia-vgpud) S {'0 ' * 18}{pid}\n")
    return home


async def test_its_library_serves_and_that_of_the_next_pod_after_it(station: Station) -> None:
    library = station.machine.library
    first = start_process(station.directory, 4242, library, await driver_pod(station, "driver-1"))
    station.location = Location()
    async with station.agent():
        await station.ready()
        pod = await station.vm_of("vm-1")
        await station.plan(station.assignment("a1", pod, 3))
        await station.until_realized("a1")
        opened = len(station.machine.calls("nvmlInitWithFlags"))

        shutil.rmtree(first)
        await station.cluster.api.delete(PODS, "driver-1", namespace="harvester-system")
        await station.until(lambda: station.machine.holders() == [])  # it may be unloaded
        start_process(station.directory, 4343, library, await driver_pod(station, "driver-2"))
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
        (ready,) = await told(station, "nvidia-driver-toolkit")
        assert (ready.status, ready.reason) == ("False", "DriverUnavailable")

        start_process(
            station.directory, 4242, station.machine.library, await driver_pod(station, "driver-1")
        )
        await station.ready()


async def test_a_library_in_a_tenants_container_is_never_loaded(station: Station) -> None:
    station.location = Location()
    tenant = str(uuid.uuid4())
    start_process(station.directory, 17, station.machine.library, tenant)
    await driver_pod(station, "driver-1")
    async with station.agent():
        await told(station, "no process of Harvester's driver pod has")
        assert station.machine.calls("nvmlInitWithFlags") == []


async def told(station: Station, text: str) -> list[Condition]:
    """Wait until the node tells that it is not ready, with that *text* in the reason."""

    def tells(status: Inventory) -> list[Condition]:
        return [each for each in status.conditions if each.type == "Ready" and text in each.message]

    return tells(await station.until_told(lambda it: bool(tells(it))))


@pytest.fixture
def api() -> InMemoryApi:
    return InMemoryApi()


async def test_only_the_nodes_own_pods_of_harvesters_namespace_and_label_count(
    api: InMemoryApi,
) -> None:
    uids = {}
    for name, namespace, app, node in (
        ("own", "harvester-system", "nvidia-driver-daemonset", "node-1"),
        ("far", "harvester-system", "nvidia-driver-daemonset", "node-2"),
        ("forged", "tenant", "nvidia-driver-daemonset", "node-1"),
        ("other", "harvester-system", "other", "node-1"),
    ):
        body = {"metadata": {"name": name, "labels": {"app": app}}, "spec": {"nodeName": node}}
        raw = await api.create(PODS, body, namespace=namespace)
        uids[name] = msgspec.json.decode(raw)["metadata"]["uid"]
    pods = DriverPods(api, "node-1", timeout=1.0)
    assert pods.uids is None

    await pods.ask()

    assert pods.uids == {uids["own"]}


async def test_what_an_api_server_does_not_answer_stays_what_it_was(api: InMemoryApi) -> None:
    pods = DriverPods(api, "node-1", timeout=1.0)

    async def fail(_: object) -> None:
        raise ApiError(500, "no")

    await pods.ask()
    api.disturbance = fail
    with pytest.raises(DriverError, match="list the driver's pods"):
        await pods.ask()
    assert pods.uids == frozenset()
