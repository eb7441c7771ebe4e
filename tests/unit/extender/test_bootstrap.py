"""``tangram harvester bootstrap``, before Harvester's own webhooks and controllers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from typer.testing import CliRunner

from extender.bootstrap import LABEL, NOWHERE, types_of
from extender.cli.harvester import NoTypes, provided, taken_back
from extender.cli.main import app
from nodeagent.api.gpunode import Mode
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    Kind,
    PatchType,
    Refused,
    Unavailable,
)
from tests.builders import gpu_node
from tests.fakes.kubevirt import KubeVirt, virtual_machine
from tests.fakes.nvml.library import built_for_tests
from tests.fakes.pcidevices.names import (
    KUBEVIRT,
    KUBEVIRT_NAMESPACE,
    KUBEVIRTS,
    PCI_DEVICES,
    VGPUS,
    VMIS,
    VMS,
    Version,
)
from tests.fakes.pcidevices.site import Cluster, Site, machine

SMALL = "nvidia.com/NVIDIA_H100XM-1-10C"


@pytest.fixture(params=list(Version))
async def cluster(request: pytest.FixtureRequest) -> Cluster:
    """A Harvester cluster whose agent has reported H100s."""
    cluster = Cluster(Version(request.param))
    await cluster.prepare("node-1")
    node = gpu_node("node-1", gpus=1, mode=Mode.HARVESTER)
    await cluster.api.create(GPU_NODES, {"metadata": {"name": "node-1"}, "spec": {}})
    await cluster.api.patch(
        GPU_NODES,
        "node-1",
        {"status": msgspec.to_builtins(node.status)},
        patch_type=PatchType.MERGE,
        subresource="status",
    )
    return cluster


async def done(cluster: Cluster, *, remove: bool = False, dry_run: bool = False) -> list[str]:
    client = cluster.client("admin")
    lines = (taken_back if remove else provided)(client, dry_run=dry_run)
    return [line async for line in lines]


async def create(cluster: Cluster, name: str, *devices: str, **options: Any) -> None:
    vm = virtual_machine(name, *devices, **options)
    await cluster.client("user").create(VMS, vm, namespace="default")


async def listed(cluster: Cluster, kind: Kind) -> Sequence[dict[str, Any]]:
    return [msgspec.json.decode(raw) for raw in (await cluster.api.list(kind)).items]


async def permitted(cluster: Cluster) -> Sequence[dict[str, Any]]:
    raw = await cluster.api.get(KUBEVIRTS, KUBEVIRT, namespace=KUBEVIRT_NAMESPACE)
    configuration = msgspec.json.decode(raw)["spec"].get("configuration") or {}
    found: Sequence[dict[str, Any]] = (configuration.get("permittedHostDevices") or {}).get(
        "mediatedDevices"
    ) or ()
    return found


async def test_a_vm_may_then_ask_for_every_type_and_gets_a_launcher(cluster: Cluster) -> None:
    with pytest.raises(Refused, match="not found in pcidevice cache"):
        await create(cluster, "too-early", SMALL)

    await done(cluster)
    types = types_of([gpu_node("node-1", mode=Mode.HARVESTER)])
    for n, resource in enumerate(types):
        await create(cluster, f"vm-{n}", resource)
    await KubeVirt(cluster.api).work()

    assert len(types) == 7
    phases = [vmi["status"]["phase"] for vmi in await listed(cluster, VMIS)]
    assert phases == ["Scheduling"] * 7


async def test_doing_it_again_does_nothing(cluster: Cluster) -> None:
    first = await done(cluster)
    before = [await listed(cluster, kind) for kind in (VGPUS, PCI_DEVICES, KUBEVIRTS)]

    assert len(first) == 3 * 7
    assert await done(cluster) == []
    assert [await listed(cluster, kind) for kind in (VGPUS, PCI_DEVICES, KUBEVIRTS)] == before


async def test_a_dry_run_says_the_same_and_writes_nothing(cluster: Cluster) -> None:
    planned = await done(cluster, dry_run=True)
    assert await listed(cluster, VGPUS) == []
    assert await permitted(cluster) == ()

    assert await done(cluster) == planned

    going = await done(cluster, remove=True, dry_run=True)
    assert len(await listed(cluster, VGPUS)) == 7
    assert await done(cluster, remove=True) == going


async def test_what_was_there_before_stays_and_all_of_ours_goes_again(cluster: Cluster) -> None:
    theirs = {"mdevNameSelector": "NVIDIA A2-2Q", "resourceName": "nvidia.com/NVIDIA_A2-2Q"}
    configuration = {"permittedHostDevices": {"mediatedDevices": [theirs]}}
    await cluster.api.patch(
        KUBEVIRTS,
        KUBEVIRT,
        {"spec": {"configuration": configuration}},
        patch_type=PatchType.MERGE,
        namespace=KUBEVIRT_NAMESPACE,
    )
    await done(cluster)
    assert len(await permitted(cluster)) == 8

    await done(cluster, remove=True)

    assert list(await permitted(cluster)) == [theirs]
    assert await listed(cluster, VGPUS) == []
    assert await listed(cluster, PCI_DEVICES) == []
    (kubevirt,) = await listed(cluster, KUBEVIRTS)
    assert not kubevirt["metadata"].get("annotations")
    assert await done(cluster, remove=True) == []


async def test_what_a_vm_asks_for_stays_permitted(cluster: Cluster) -> None:
    await done(cluster)
    await create(cluster, "vm-1", SMALL)

    await done(cluster, remove=True)

    assert [each["resourceName"] for each in await permitted(cluster)] == [SMALL]


async def test_an_entry_is_what_harvester_itself_would_write(cluster: Cluster) -> None:
    await done(cluster)

    (entry,) = [each for each in await permitted(cluster) if each["resourceName"] == SMALL]
    assert entry == {
        "mdevNameSelector": "NVIDIA H100XM-1-10C",
        "resourceName": SMALL,
        "externalResourceProvider": True,
    }


async def test_another_writer_of_the_kubevirt_is_never_written_over(cluster: Cluster) -> None:
    others = {"developerConfiguration": {"logVerbosity": 2}}
    interfered = False

    async def interfere(call: Call) -> None:
        nonlocal interfered
        if call.verb == "patch" and call.kind == KUBEVIRTS and not call.done and not interfered:
            interfered = True
            await cluster.api.patch(
                KUBEVIRTS,
                KUBEVIRT,
                {"spec": {"configuration": others}},
                patch_type=PatchType.MERGE,
                namespace=KUBEVIRT_NAMESPACE,
            )

    cluster.api.disturbance = interfere  # type: ignore[attr-defined]
    await done(cluster)

    (kubevirt,) = await listed(cluster, KUBEVIRTS)
    assert interfered
    assert kubevirt["spec"]["configuration"].items() >= others.items()
    assert len(await permitted(cluster)) == 7


@pytest.mark.parametrize("at", range(12))
async def test_cut_off_anywhere_it_is_gone_on_with(cluster: Cluster, at: int) -> None:
    writes = 0

    async def cut_off(call: Call) -> None:
        nonlocal writes
        if call.verb in ("create", "patch") and call.done:
            writes += 1
            if writes > at:
                raise Unavailable(0, "no answer")

    cluster.api.disturbance = cut_off  # type: ignore[attr-defined]
    with pytest.raises(Unavailable):
        await done(cluster)
    cluster.api.disturbance = None  # type: ignore[attr-defined]

    await done(cluster)

    assert await done(cluster) == []
    await create(cluster, "vm-1", SMALL)


async def test_harvesters_controllers_leave_it_as_it_is(cluster: Cluster, tmp_path: Path) -> None:
    await done(cluster)
    before = [await listed(cluster, kind) for kind in (VGPUS, PCI_DEVICES)]
    shared = next(each for each in tmp_path.parents if each.name.startswith("pytest-"))
    library = built_for_tests(shared / "fake-nvml")
    site = Site(cluster, "node-1", machine(tmp_path, library, "H100-80GB", node="node-1"))

    await site.pass_(600)

    after = [await listed(cluster, kind) for kind in (VGPUS, PCI_DEVICES)]
    assert before == [[each for each in found if _is_ours(each)] for found in after]
    assert site.host.kernel.vgpus() == []
    assert site.host.machine.gpu_instances(0) == []


async def test_without_a_report_it_says_so(cluster: Cluster) -> None:
    await cluster.api.delete(GPU_NODES, "node-1")

    with pytest.raises(NoTypes, match="no agent"):
        await done(cluster)


def test_without_an_api_server_the_command_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    try:
        result = CliRunner().invoke(
            app, ["harvester", "bootstrap", "--dry-run", "--kubeconfig", "/nowhere"]
        )
    finally:
        structlog.reset_defaults()

    assert result.exit_code == 2
    assert "tangram harvester bootstrap: the API server: " in result.stderr


def test_only_gpus_of_harvester_nodes_count() -> None:
    assert types_of([gpu_node("node-1", mode=Mode.VGPU_MDEV)]) == {}
    nodes = [gpu_node("node-1", mode=Mode.HARVESTER, resources=[SMALL])]
    assert types_of(nodes) == {SMALL: "NVIDIA H100XM-1-10C"}


def _is_ours(value: dict[str, Any]) -> bool:
    labels = value["metadata"].get("labels") or {}
    return bool(labels.get(LABEL) == "true" and labels["nodename"] == NOWHERE)
