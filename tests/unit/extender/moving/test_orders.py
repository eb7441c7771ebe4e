"""Where orders are kept, what becomes of VMs that end, and how long places are held for orders."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from extender.cluster import ApiOrders, KubeVirtRelocator
from extender.moving import Order
from extender.service.holds import Holds
from extender.service.relocation import OrderChanged
from nodeagent.api import keys
from nodeagent.api.gpunode import OwnerRef, PodRef
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import (
    CONFIG_MAPS,
    MIGRATIONS,
    PODS,
    REPLICA_SETS,
    STATEFUL_SETS,
    VIRTUAL_MACHINE_INSTANCES,
    VIRTUAL_MACHINES,
    Kind,
    PatchType,
)
from tests.builders import assignment, view
from tests.fakes.world import World

pytestmark = pytest.mark.virtual_time

ORDER = Order(id="0123456789ab", digest="d", since="now", goals=("a goal",), legs=())
TOLD: dict[str, Any] = json.loads(msgspec.json.encode(ORDER))
OTHER = Order(id="ba9876543210", digest="e", since="then", goals=("another",), legs=())


async def test_of_two_who_keep_an_order_one_is_told_that_it_has_changed() -> None:
    orders = ApiOrders(InMemoryApi())
    assert await orders.read() is None
    first = await orders.write(ORDER, None)
    with pytest.raises(OrderChanged):
        await orders.write(OTHER, None)
    second = await orders.write(OTHER, first)
    with pytest.raises(OrderChanged):
        await orders.write(ORDER, first)

    assert await orders.read() == second
    assert second.order == OTHER


@pytest.mark.parametrize(
    "data",
    [
        None,
        {"order.json": "{"},
        {"order.json": '{"id": 3}'},
        {"order.json": json.dumps({**TOLD, "begun": ["yesterday"]})},
        {"order.json": json.dumps({**TOLD, "begun": ["2026-11-29T12:00:00"]})},
    ],
    ids=["emptied", "no JSON", "no order", "no time", "no zone"],
)
async def test_a_config_map_that_somebody_has_spoilt_has_no_order_and_takes_the_next(
    data: dict[str, str] | None,
) -> None:
    api = InMemoryApi()
    orders = ApiOrders(api)
    await orders.write(ORDER, None)
    written: dict[str, Any] = {"data": data}
    await api.patch(
        CONFIG_MAPS,
        keys.ORDER_CONFIG_MAP,
        written,
        patch_type=PatchType.MERGE,
        namespace=keys.SYSTEM_NAMESPACE,
    )
    assert await orders.read() is None

    kept = await orders.write(OTHER, None)
    assert await orders.read() == kept
    assert kept.order == OTHER


async def test_where_the_config_map_has_gone_the_order_has_changed() -> None:
    api = InMemoryApi()
    orders = ApiOrders(api)
    kept = await orders.write(ORDER, None)
    await api.delete(CONFIG_MAPS, keys.ORDER_CONFIG_MAP, namespace=keys.SYSTEM_NAMESPACE)
    with pytest.raises(OrderChanged):
        await orders.write(ORDER, kept)


@pytest.mark.parametrize(
    ("kind", "owner", "spec", "comes"),
    [
        (VIRTUAL_MACHINES, "VirtualMachineInstance", {"runStrategy": "Always"}, True),
        (VIRTUAL_MACHINES, "VirtualMachineInstance", {"running": True}, True),
        (VIRTUAL_MACHINES, "VirtualMachineInstance", {"runStrategy": "RerunOnFailure"}, False),
        (VIRTUAL_MACHINES, "VirtualMachineInstance", {"runStrategy": "Manual"}, False),
        (VIRTUAL_MACHINES, "VirtualMachineInstance", {"running": False}, False),
        (STATEFUL_SETS, "StatefulSet", {"replicas": 2}, True),
        (STATEFUL_SETS, "StatefulSet", {"replicas": 0}, False),
        (REPLICA_SETS, "ReplicaSet", {}, True),
        (REPLICA_SETS, "Job", {}, False),
    ],
)
async def test_only_what_is_made_anew_however_it_ended_comes_back(
    kind: Kind, owner: str, spec: dict[str, object], *, comes: bool
) -> None:
    api = InMemoryApi()
    api.register(kind)
    await api.create(kind, {"metadata": {"name": "it"}, "spec": spec}, namespace="default")
    relocator = KubeVirtRelocator(api)

    assert await relocator.comes_back(OwnerRef(owner, "default", "it")) is comes
    assert not await relocator.comes_back(OwnerRef(owner, "default", "nobody"))


@pytest.mark.parametrize(
    ("then", "leaves"),
    [
        ("", False),
        ("gone", True),
        ("another", True),
        ("deleted", True),
        ("migrating", True),
        ("migration failed", False),
        ("another's migration", False),
    ],
)
async def test_a_pod_leaves_that_is_deleted_or_whose_vm_is_migrated_by_that_name(
    then: str, *, leaves: bool
) -> None:
    world, owner = World(), OwnerRef("VirtualMachineInstance", "default", "vm")
    api = world.api
    for kind in (MIGRATIONS, VIRTUAL_MACHINE_INSTANCES):
        api.register(kind)
    made = await world.add_pod("vm-1", "1-10C")
    pod = PodRef("default", "vm-1", made["metadata"]["uid"])
    if then in ("gone", "another"):
        await world.delete_pod(made)
    if then == "another":
        await world.add_pod("vm-1", "1-10C")
    if then == "deleted":
        lasting = {"spec": {"terminationGracePeriodSeconds": 30}}
        await api.patch(PODS, "vm-1", lasting, patch_type=PatchType.MERGE, namespace="default")
        await world.delete_pod(made)
    if "migrat" in then:
        name = "another" if then == "another's migration" else "move"
        body = {"metadata": {"name": name}, "spec": {"vmiName": "vm"}}
        await api.create(MIGRATIONS, body, namespace="default")
    if then == "migration failed":
        failed = {"status": {"phase": "Failed"}}
        where: dict[str, Any] = {"namespace": "default", "subresource": "status"}
        await api.patch(MIGRATIONS, "move", failed, patch_type=PatchType.MERGE, **where)

    assert await KubeVirtRelocator(api).leaves(owner, pod, "move") is leaves


def test_what_is_held_for_an_order_lasts_as_long_as_that() -> None:
    now = 0.0
    holds = Holds(60.0, lambda: now)
    owner = OwnerRef("VirtualMachineInstance", "default", "vm")
    plan = [
        assignment(f"{keys.MOVE_PREFIX}0123456789ab-0", 19, 0, pod=None, owner=owner),
        assignment("restarts", 19, 1, pod=None, owner=owner),
    ]
    holds.planned("node-1", None, view(plan=plan))
    now = 1e6

    assert list(holds.over()) == [("node-1", frozenset({"restarts"}))]
    assert set(holds.moving) == {"node-1"}
    holds.planned("node-1", view(plan=plan), None)
    assert not holds.moving
