"""A policy held against a cluster: whom it matches, and what is likely a mistake."""

from __future__ import annotations

import msgspec

from extender.cli.against import Effects
from extender.cluster.census import census
from extender.policy.file import parsed
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import GPU_NODES, NAMESPACES, NODES, PatchType
from tests.builders import assignment
from tests.fakes.world import World

POLICY = b"""\
apiVersion: tangram.dev/v1alpha1
kind: PlacementPolicy
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


async def test_the_effects_of_a_policy_are_told_with_what_is_likely_wrong() -> None:
    world = World()
    await world.add_node("node-1", gpus=2, pool="big")
    await world.add_node("node-2", gpus=1)
    await world.add_namespace("default", team="red")
    await world.add_namespace("other")

    entry = msgspec.to_builtins(assignment("a", 19, 0))
    patch = [{"op": "add", "path": "/spec", "value": {"assignments": [entry]}}]
    await world.api.patch(GPU_NODES, "node-2", patch, patch_type=PatchType.JSON)

    effects = Effects(parsed(POLICY, "policy"), await census(world.api)).told()

    assert [
        f"{'WARNING: ' if each.warning else ''}{each.kind} {each.name}: {each.text}"
        for each in effects
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
    ]


async def test_a_long_list_is_read_to_its_end() -> None:
    api = InMemoryApi()
    for at in range(1200):
        await api.create(NAMESPACES, {"metadata": {"name": f"ns-{at}"}})
        await api.create(NODES, {"metadata": {"name": f"node-{at}", "labels": {"at": str(at)}}})

    found = await census(api)

    assert len(found.namespaces) == len(found.nodes) == 1200
    assert found.nodes["node-1199"] == {"at": "1199"}
