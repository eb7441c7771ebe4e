"""The GpuNode object as JSON: what it tells, what it weighs, what it forgives."""

from __future__ import annotations

import uuid

import msgspec
import pytest

from nodeagent.api import gpunode
from nodeagent.api.catalog import MODELS
from nodeagent.api.gpunode import (
    Assignment,
    Condition,
    Failed,
    Gpu,
    GpuNode,
    Instance,
    Inventory,
    Layout,
    Metadata,
    Mode,
    OwnerRef,
    Plan,
    PodRef,
    Realized,
)
from nodeagent.api.occupancy import summary

H100 = MODELS["H100-80GB"]
ONE = 19

# What the API server adds: kind, creation time, and in managedFields one entry for the spec and one
# for the status, each an atom. 453 on 1.36, with a shorter name of the writers.
BYTES_OF_METADATA = 500


def identity(*of: object) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, str(of)))


def node(gpus: int, instances: int) -> GpuNode:
    """A node in Harvester's shape: every instance a virtual machine's, names of real lengths."""
    plan, listed = [], []
    for g in range(gpus):
        made = []
        gpu = f"GPU-{identity('gpu', g)}"
        for start in range(instances):
            vm, id_ = f"training-{g}-{start}-of-team-blue", f"{g:06x}{start:06x}"
            plan.append(
                Assignment(
                    id=id_,
                    gpu=gpu,
                    profile_id=ONE,
                    start=start,
                    size=1,
                    resource="nvidia.com/NVIDIA_H100XM-1-10C",
                    since="2026-11-20T10:00:00Z",
                    pod=PodRef("team-blue-prod", f"virt-launcher-{vm}-x7k2p", identity(g, start)),
                    owner=OwnerRef("VirtualMachineInstance", "team-blue-prod", vm),
                )
            )
            made.append(Instance(7 + start, ONE, start, 1, id_))
        listed.append(
            Gpu(
                uuid=gpu,
                pci_address=f"00000000:{g:02x}:00.0",
                model="NVIDIA H100 80GB HBM3",
                geometry=H100.geometry.hash,
                vgpu_types="0123456789ab",
                numa_node=g // 4,
                instances=tuple(made),
            )
        )
    geometries = {H100.geometry.hash: H100.geometry} if gpus else {}
    status = Inventory(
        boot_id=identity("boot"),
        agent_epoch=identity("epoch"),
        sequence=1_234_567,
        observed_generation=123_456,
        driver="580.105.08",
        mode=Mode.VGPU_VFIO,
        summary=summary(geometries, listed, plan),
        geometries=geometries,
        vgpu_types={"0123456789ab": H100.vgpu_types} if gpus else {},
        gpus=tuple(listed),
        realized=tuple(
            Realized(a.id, f"NVIDIA_H100XM-1-10C-{n}") for n, a in enumerate(plan, start=100)
        ),
        conditions=(Condition("Ready", "True", "Reporting", "8 GPUs", "2026-11-20T10:00:00Z"),),
    )
    metadata = Metadata("gpu-node-0123.cluster.example.com", identity("node"), 123_456, "987654321")
    return GpuNode(metadata, Plan(tuple(plan)), status)


def weight(value: GpuNode) -> int:
    return len(msgspec.json.encode(value)) + BYTES_OF_METADATA


def test_a_full_node_of_eight_gpus_stays_within_its_budget() -> None:
    full = node(gpus=8, instances=7)
    assert len(full.spec.assignments) == 56
    assert weight(full) <= 40_000


def test_a_full_node_of_which_every_pod_is_to_be_adopted_stays_within_its_budget() -> None:
    full = node(gpus=8, instances=7)
    pods = {each.id: each.pod for each in full.spec.assignments}
    gpus = tuple(
        msgspec.structs.replace(
            gpu,
            instances=tuple(
                msgspec.structs.replace(
                    each,
                    assignment="",
                    holder=pods[each.assignment],
                    resource="nvidia.com/NVIDIA_H100XM-1-10C",
                )
                for each in gpu.instances
            ),
        )
        for gpu in full.status.gpus
    )
    status = msgspec.structs.replace(full.status, gpus=gpus, realized=())
    told = msgspec.structs.replace(full, spec=Plan(), status=status)
    assert weight(told) <= 40_000
    # From the plan's entries to the agent's answer, both halves tell of every pod.
    planned = msgspec.structs.replace(full, status=status)
    assert weight(planned) <= 41_000


def test_an_empty_node_stays_within_its_budget() -> None:
    assert weight(node(gpus=8, instances=0)) <= 4_000
    assert weight(node(gpus=0, instances=0)) <= 4_000


def test_a_node_reads_as_it_was_written() -> None:
    full = node(gpus=2, instances=7)
    status = msgspec.structs.replace(full.status, failed=(Failed("a", "nvml: in use"),))
    told = msgspec.structs.replace(full, status=status)
    assert gpunode.decode(msgspec.json.encode(told)) == told


def test_what_nodes_have_in_common_is_in_memory_once() -> None:
    raw = msgspec.json.encode(node(gpus=2, instances=7))
    one, other = gpunode.decode(raw), gpunode.decode(raw)

    key = H100.geometry.hash
    assert one.status.geometries[key] is other.status.geometries[key]
    assert one.status.vgpu_types["0123456789ab"] is other.status.vgpu_types["0123456789ab"]
    assert one.spec.assignments[0].resource is other.spec.assignments[-1].resource
    gpu = one.status.gpus[1]
    (entry, *_) = [each for each in one.spec.assignments if each.gpu == gpu.uuid]
    assert entry.gpu is gpu.uuid
    assert gpu.instances[0].assignment is entry.id
    assert entry.id in {each.id for each in one.status.realized if each.id is entry.id}


@pytest.mark.parametrize("model", MODELS)
def test_every_geometry_survives_the_journey_with_its_hash(model: str) -> None:
    geometry = MODELS[model].geometry
    sent = GpuNode(Metadata("n"), status=Inventory(geometries={geometry.hash: geometry}))
    [(name, received)] = gpunode.decode(msgspec.json.encode(sent)).status.geometries.items()
    assert received == geometry
    assert received.hash == name


def test_defaults_are_left_out_but_for_the_summary_people_read() -> None:
    status = Inventory(gpus=(Gpu("u", "p", "m", "g"),), summary=gpunode.Summary(gpus=1))
    assert msgspec.json.decode(msgspec.json.encode(status)) == {
        "gpus": [{"uuid": "u", "pciAddress": "p", "model": "m", "geometry": "g"}],
        "summary": {"gpus": 1, "freeSlices": 0, "totalSlices": 0, "largestPlaceable": ""},
    }


def test_what_a_newer_version_adds_is_passed_over() -> None:
    read = gpunode.decode(
        b"""{"apiVersion": "tangram.dev/v1alpha1", "kind": "GpuNode",
             "metadata": {"name": "n", "generation": 3, "managedFields": [{"manager": "x"}]},
             "spec": {"assignments": [], "later": true},
             "status": {"mode": "harvester", "later": {"a": [1]},
                        "gpus": [{"uuid": "u", "pciAddress": "p", "model": "m", "geometry": "g",
                                  "layout": "static", "later": null}]}}"""
    )
    assert read.name == "n"
    assert read.metadata.generation == 3
    assert read.status.gpus == (Gpu("u", "p", "m", "g", layout=Layout.STATIC),)


def test_a_bare_object_is_an_empty_plan_and_nothing_known() -> None:
    assert gpunode.decode(b'{"metadata": {"name": "n"}}') == GpuNode(Metadata("n"))


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"{}", "metadata"),
        (b'{"metadata": {"name": "n"}, "spec": {"assignments": [{}]}}', r"assignments\[0\]"),
        (b'{"metadata": {"name": "n"}, "status": {"mode": "x"}}', r"\$\.status\.mode"),
        (b'{"metadata": {"name": "n"}, "status": {"sequence": "1"}}', r"\$\.status\.sequence"),
    ],
)
def test_an_object_of_another_shape_is_refused_with_its_path(raw: bytes, path: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=path):
        gpunode.decode(raw)


def test_an_assignment_and_its_instance_sit_at_the_same_placement() -> None:
    full = node(gpus=1, instances=1)
    [planned], [made] = full.spec.assignments, full.status.gpus[0].instances
    assert planned.placement == made.placement
