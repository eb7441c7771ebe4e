"""Simulated machines in files: what has happened outlives whoever did it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.api.geometry import Placement
from nodeagent.driver import InstanceInUse
from nodeagent.simulated.admission import Admitted
from tests.builders import assignment, gpu_node, raw_pod
from tests.e2e.chaos.machines import FILE, Driver, Machine, machine, plant
from tests.e2e.chaos.spots import Spot
from tests.e2e.chaos.verdict import on_machine

THREE = 9


async def with_instance(directory: Path) -> tuple[Machine, Spot]:
    """Return a machine on which a driver has made a GPU instance, and where that is."""
    there = machine(directory, "node-1", 2)
    uuid = there.gpus[1].uuid
    await Driver(there).create(uuid, THREE, Placement(4, 4))
    return there, Spot(uuid, THREE, 4, 4)


async def test_gpu_instances_their_users_and_the_kubelets_claims_are_there_afterwards(
    tmp_path: Path,
) -> None:
    before, spot = await with_instance(tmp_path)
    before.checkpoint.admitted["pod-1"] = Admitted(("slot-1",), before.boot_id)
    before.open(spot.gpu, 1, "pod-1")

    after = machine(tmp_path, "node-1", 2)
    assert after.spots == {spot: {"pod-1"}}
    assert after.checkpoint.claims == {"slot-1": "pod-1"}
    assert after.boot_id == before.boot_id
    with pytest.raises(InstanceInUse):
        await Driver(after).destroy(spot.gpu, 1)

    after.close("pod-1")
    await Driver(machine(tmp_path, "node-1", 2)).destroy(spot.gpu, 1)
    assert machine(tmp_path, "node-1", 2).spots == {}


async def test_what_had_not_reached_the_file_has_not_happened(tmp_path: Path) -> None:
    before, spot = await with_instance(tmp_path)
    before.gpus[1].destroy(1)  # and nobody saves it

    assert machine(tmp_path, "node-1", 2).spots == {spot: set()}


async def test_a_file_that_was_being_written_is_not_looked_at(tmp_path: Path) -> None:
    _, spot = await with_instance(tmp_path)
    (tmp_path / "node-1" / f"{FILE}.new").write_bytes(b'{"gpus": {"GP')

    assert machine(tmp_path, "node-1", 2).spots == {spot: set()}


async def test_what_is_on_gpus_is_held_against_the_plan(tmp_path: Path) -> None:
    there, spot = await with_instance(tmp_path)
    foreign = plant(tmp_path, "node-1", 2, 0, 20, 6)
    there = machine(tmp_path, "node-1", 2)
    there.open(spot.gpu, 1, "pod-1")
    pods = {"vm-1": raw_pod(uid="pod-1", nodeName="node-1")}
    entry = assignment("a", THREE, 4, gpu=spot.gpu)

    def wrong(*plan: object, foreign: frozenset[Spot] = frozenset({foreign})) -> list[str]:
        node = gpu_node(plan=plan)  # type: ignore[arg-type]
        return [each.split(":")[0] for each in on_machine(node, pods, there, foreign)]

    assert wrong(entry) == []
    assert wrong() == ["leaked"]
    assert wrong(entry, foreign=frozenset()) == ["leaked"]
    assert wrong(entry, assignment("b", THREE, 0, gpu=spot.gpu)) == ["lost"]
    there.close("pod-1")
    assert wrong(entry) == ["lost"]
