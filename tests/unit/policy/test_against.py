"""A policy held against a cluster from outside: whom it matches, and what is likely a mistake."""

from __future__ import annotations

import msgspec

from extender.cli.against import lines
from extender.cluster.census import census
from extender.outlook import outlook
from extender.policy.file import parsed
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import GPU_NODES, NAMESPACES, NODES, PODS, PatchType
from tests.builders import assignment, raw_pod
from tests.fakes.world import World

HEAD = b"apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\n"
POLICY = (
    HEAD
    + b"""\
pools:
- {name: big, nodes: {matchLabels: {pool: big}}, profiles: [7g.80gb, 7g.40gb]}
- {name: typo, nodes: {matchLabels: {pol: big}}}
tenants:
- name: red
  namespaces: {matchLabels: {team: red}}
  caps: {memorySlices: 0, profiles: {1g.10gb: 4}}
- {name: blue, namespaces: {matchLabels: {team: blue}}}
headroom:
- {pool: big, profile: 7g.80gb, keep: 2}
- {profile: 7g.80gb, keep: 3}
avoid:
- {nodes: {matchLabels: {pool: big}}}
"""
)


async def test_the_effects_of_a_policy_are_told_with_what_is_likely_wrong() -> None:
    world = World()
    await world.add_node("node-1", gpus=2, pool="big")
    await world.add_node("node-2", gpus=1)
    await world.add_namespace("default", team="red")
    await world.add_namespace("other")
    entry = msgspec.to_builtins(assignment("a", 19, 0))
    patch = [{"op": "add", "path": "/spec", "value": {"assignments": [entry]}}]
    await world.api.patch(GPU_NODES, "node-2", patch, patch_type=PatchType.JSON)
    for name, namespace in (("mine", "default"), ("theirs", "other")):
        pod = raw_pod("1-10C", name=name, namespace=namespace)
        await world.api.create(PODS, pod, namespace=namespace)

    there = (await census(world.api, devices_per_pod=8)).there()
    found = outlook(there, parsed(POLICY, "policy").in_force)

    assert [
        f"{'WARNING: ' if each.warning else ''}{each.kind} {each.name}: {each.text}"
        for each in lines(found)
    ] == [
        "pool big: GPUs: 2 on nodes: 1 (node-1)",
        "WARNING: pool big: no GPU there serves 7g.40gb",
        "WARNING: pool typo: GPUs: 0 on nodes: none",
        "tenant red: namespaces: 1 (default)",
        "WARNING: tenant red: has 1 of 0 memory slices",
        "tenant red: has 1 of 4 x 1g.10gb",
        "WARNING: tenant blue: namespaces: none",
        "headroom big: 2 x 7g.80gb free in pool big, 2 to be kept",
        "WARNING: headroom : 2 x 7g.80gb free in all nodes, 3 to be kept",
        "avoid [0]: GPU nodes: 1 (node-1)",
        "WARNING: pods placed: 1 have their place, and keep it; 1 would not be given it again, as"
        " after a restart; refused: tenant red is at its cap of memory slices (1)",
        "pods waiting: 2 wait; 1 would fit, each by itself; refused: pool big does not serve"
        " 1g.10gb (1), tenant red is at its cap of memory slices (1)",
    ]
    assert found.warns


async def test_a_long_list_is_read_to_its_end() -> None:
    api = InMemoryApi()
    for at in range(1200):
        await api.create(NAMESPACES, {"metadata": {"name": f"ns-{at}"}})
        await api.create(NODES, {"metadata": {"name": f"node-{at}", "labels": {"at": str(at)}}})

    found = await census(api, devices_per_pod=8)

    assert len(found.namespaces) == len(found.nodes) == 1200
    assert found.nodes["node-1199"].labels == {"at": "1199"}


async def test_a_cordoned_node_has_no_headroom_and_no_room() -> None:
    world = World()
    await world.add_node("node-1", gpus=2)
    await world.api.patch(
        NODES, "node-1", {"spec": {"unschedulable": True}}, patch_type=PatchType.MERGE
    )
    policy = parsed(HEAD + b"headroom: [{profile: 7g.80gb, keep: 1}]", "policy")

    found = outlook((await census(world.api, devices_per_pod=8)).there(), policy.in_force)

    assert [each.text for each in found.effects] == ["0 x 7g.80gb free in all nodes, 1 to be kept"]
