"""Extender and agent one version apart: what the other does not know, or does not say."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from extender.cluster.door import KubernetesCluster
from nodeagent.api import gpunode, keys
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Failed, GpuNode, Metadata, OwnerRef, Plan, PodRef, Realized
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import GPU_NODES, LEASES, PatchType
from nodeagent.journal import Made
from nodeagent.journal_file import FileJournal
from nodeagent.publish import Publisher
from tests.builders import assignment, gpu, gpu_node, instance
from tests.manifests.test_crd import SCHEMAS

NEWER = {"text": "newer", "number": 1, "list": [1], "object": {"x": None}, "null": None}
"""Fields that only a newer version writes."""


def full() -> GpuNode:
    """A node with something of everything."""
    entry = assignment("a", 19, 0, owner=OwnerRef("VirtualMachineInstance", "default", "vm"))
    held = instance(19, 1, gi_id=2, holder=PodRef("default", "p", "u"), resource="x", vacant=True)
    board = gpu(instances=(instance(19, 0, assignment="a"), held))
    failed = [Failed("z", "INSUFFICIENT_RESOURCES")]
    return gpu_node(gpus=[board], plan=[entry], realized=[Realized("a", "slot")], failed=failed)


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every JSON object within a value that stands for a type, not for a map."""
    if isinstance(value, list):
        for each in value:
            yield from objects(each)
    elif isinstance(value, dict):
        yield value
        for name, each in value.items():
            if name in ("geometries", "vgpuTypes") and isinstance(each, dict):
                for inner in each.values():
                    yield from objects(inner)
            else:
                yield from objects(each)


def as_written(node: GpuNode) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(node))
    return found


def test_whatever_a_newer_version_says_besides_is_passed_over() -> None:
    raw = as_written(full())
    known = copy.deepcopy(raw)
    places = list(objects(raw))
    assert len(places) > 10
    for each in places:
        each |= {name: value for name, value in NEWER.items() if name not in each}

    assert gpunode.decode(msgspec.json.encode(raw)) == gpunode.decode(msgspec.json.encode(known))


def test_what_an_older_version_does_not_say_means_its_default() -> None:
    bare = {
        "metadata": {"name": "node-1"},
        "spec": {"assignments": [_required(".spec.assignments[]")]},
        "status": {
            "gpus": [_required(".status.gpus[]") | {"instances": [_required(_INSTANCE)]}],
            "realized": [{"id": "text"}],
            "failed": [_required(".status.failed[]")],
        },
    }

    node = gpunode.decode(msgspec.json.encode(bare))

    (entry,) = node.spec.assignments
    assert (entry.pod, entry.owner, entry.seat) == (None, None, 0)
    (gpu,) = node.status.gpus
    assert (gpu.mig_enabled, gpu.layout, gpu.unhealthy) == (True, gpunode.Layout.DYNAMIC, "")
    (made,) = gpu.instances
    assert (made.assignment, made.holder, made.resource, made.vacant) == ("", None, "", False)


_INSTANCE = ".status.gpus[].instances[]"


def _required(path: str) -> dict[str, Any]:
    """Return the least that the definition demands of an object."""
    schema = SCHEMAS[path]
    values = {"string": "text", "integer": 1}
    return {name: values[schema["properties"][name]["type"]] for name in schema["required"]}


@pytest.fixture
async def api() -> InMemoryApi:
    """An API server with a plan that a newer extender has written."""
    made = InMemoryApi()
    entries = [
        msgspec.to_builtins(assignment(name, 19, start, pod=f"pod-{name}")) | {"tier": name}
        for start, name in enumerate("abc")
    ]
    body = as_written(GpuNode(Metadata("node-1"), Plan()))
    await made.create(GPU_NODES, body | {"spec": {"assignments": entries, "epoch": "newer"}})
    return made


async def stored(api: InMemoryApi) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(await api.get(GPU_NODES, "node-1"))
    return found


async def test_entries_keep_what_a_newer_extender_has_written_there(api: InMemoryApi) -> None:
    cluster = KubernetesCluster(api)
    node = await cluster.read_gpu_node("node-1")
    assert node is not None

    await cluster.write_plan(node, add=[assignment("d", 19, 3)], remove=["a"], hold=["b"])

    spec = (await stored(api))["spec"]
    assert spec["epoch"] == "newer"
    assert [(each["id"], each.get("tier"), "pod" in each) for each in spec["assignments"]] == [
        ("b", "b", False),
        ("c", "c", True),
        ("d", None, True),
    ]


async def test_a_report_leaves_the_plan_alone_and_is_whole_whoever_wrote_the_last_one(
    api: InMemoryApi,
) -> None:
    await api.patch(
        GPU_NODES,
        "node-1",
        {"status": {"sequence": 9, "power": "newer"}},
        patch_type=PatchType.MERGE,
        subresource="status",
    )
    before = (await stored(api))["spec"]
    node = gpunode.decode(await api.get(GPU_NODES, "node-1"))

    await Publisher(api, "node-1", timeout=1).tell(node, full().status)

    after = await stored(api)
    assert after["spec"] == before
    assert after["status"] == msgspec.json.decode(msgspec.json.encode(full().status))


async def test_a_newer_agents_lease_is_still_one(api: InMemoryApi) -> None:
    agent = Publisher(api, "node-1", timeout=1)
    await agent.renew_lease(holder="h", now=datetime(2026, 1, 1, tzinfo=UTC), duration_seconds=40)
    newer = {"metadata": {"labels": {"newer": "x"}}, "spec": {"strategy": "newer"}}
    name = keys.lease_name("node-1")
    await api.patch(
        LEASES, name, newer, patch_type=PatchType.MERGE, namespace=keys.SYSTEM_NAMESPACE
    )

    await agent.renew_lease(holder="h", now=datetime(2026, 1, 2, tzinfo=UTC), duration_seconds=40)

    lease = msgspec.json.decode(await api.get(LEASES, name, namespace=keys.SYSTEM_NAMESPACE))
    assert lease["spec"]["renewTime"].startswith("2026-01-02")
    assert (lease["metadata"]["labels"]["newer"], lease["spec"]["strategy"]) == ("x", "newer")


ENTRY = {
    "assignment": "a",
    "gpu": "GPU-0",
    "profile_id": 19,
    "placement": {"start": 0, "size": 1},
    "boot_id": "boot",
}


@pytest.mark.parametrize("besides", [{}, {"unanswered": True}, {"tier": "newer"}])
async def test_a_journal_of_another_version_still_proves_what_is_ours(
    tmp_path: Path, besides: dict[str, Any]
) -> None:
    file = tmp_path / "journal.json"
    file.write_bytes(msgspec.json.encode({"version": 1, "made": [ENTRY | besides]}))
    journal = FileJournal(file)

    await journal.load()

    assert not journal.damage
    unanswered = bool(besides.get("unanswered"))
    assert journal.made == (Made("a", "GPU-0", 19, Placement(0, 1), "boot", unanswered),)
