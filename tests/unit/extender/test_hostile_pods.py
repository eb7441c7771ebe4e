"""Whatever a tenant writes into its own pod, it gets what it asks for where that is free, or not.

What is decided rests on the resources, the namespace, the owner and the gang that a pod names, and
no tenant can name another's namespace. Nothing else in a pod is believed.
"""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender import wire
from extender.request import Asked, Gang, NotOurs, Request, of_pod
from extender.server import serving
from nodeagent.api import keys
from nodeagent.api.gpunode import OwnerRef
from nodeagent.apiserver.protocol import VIRTUAL_MACHINES
from tests.builders import VGPU, as_json, raw_pod
from tests.fakes.world import World, bind_args, filter_args
from tests.waiting import until

NODE = "node-1"
MEANT = (keys.GANG, keys.GANG_SIZE, keys.SPREAD_ANNOTATION)
NAMES = st.text(max_size=20) | st.sampled_from(
    [*(value for name, value in vars(keys).items() if name.endswith(("_LABEL", "_ANNOTATION")))]
)
WORDS = st.dictionaries(NAMES.filter(lambda name: name not in MEANT), st.text(max_size=20))
DECIDED = json.dumps([{"id": "mine", "gpu": "GPU-0", "profileId": 0, "start": 0, "size": 8}])
HOSTILE: tuple[dict[str, Any], ...] = (
    {"annotations": {keys.DECISION_ANNOTATION: DECIDED, "tangram.dev/planned": DECIDED}},
    {"annotations": {keys.ASSIGNMENT_ANNOTATION: "a", keys.GPUS_ANNOTATION: "GPU-0"}},
    {"labels": {keys.LEADER_LABEL: "true", keys.AGENT_LABEL: "true", keys.MANAGED_LABEL: "no"}},
    {"labels": None, "annotations": None, "ownerReferences": None},
    {"annotations": {keys.GANG: "../..", keys.GANG_SIZE: "1e9"}},
    {"annotations": {"\u202e\x00": "x" * 100_000}},
    {"ownerReferences": [{"kind": "K" * 500, "name": "n" * 500, "controller": True}]},
)


def asked(pod: dict[str, Any]) -> Asked:
    return of_pod(wire.decode(as_json(pod), wire.Pod), devices_per_pod=16)


@given(labels=WORDS, annotations=WORDS, node=st.text(max_size=20), phase=st.text(max_size=10))
def test_no_label_annotation_or_status_of_a_pod_changes_what_it_asks_for(
    labels: dict[str, str], annotations: dict[str, str], node: str, phase: str
) -> None:
    plain = raw_pod("2-20C", "1-10C", owner=("VirtualMachineInstance", "vm-1"))
    said = plain | {
        "metadata": plain["metadata"] | {"labels": labels, "annotations": annotations},
        "spec": plain["spec"] | {"nodeName": node},
        "status": {"phase": phase, "nominatedNodeName": node},
    }

    assert asked(said) == asked(plain)


@given(
    namespace=st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True),
    name=st.text(max_size=30),
)
def test_gang_and_owner_are_of_the_pods_own_namespace_whatever_they_are_called(
    namespace: str, name: str
) -> None:
    pod = raw_pod("1-10C", namespace=namespace, owner=("VirtualMachineInstance", name))
    pod["metadata"]["annotations"] = {keys.GANG: "others/gang", keys.GANG_SIZE: "2"}
    assert not isinstance(asked(pod), Request)  # that is not a name

    pod["metadata"]["annotations"][keys.GANG] = "gang"
    found = asked(pod)

    assert isinstance(found, Request)
    assert found.gang == Gang(namespace, "gang", 2)
    assert found.owner == OwnerRef("VirtualMachineInstance", namespace, name)


@given(st.text(max_size=30), st.text(max_size=10))
def test_a_resource_of_any_name_and_amount_is_counted_refused_or_not_ours(
    resource: str, amount: str
) -> None:
    for name in (resource, f"nvidia.com/{resource}", f"{VGPU}{resource}", "nvidia.com/mig-1g.10gb"):
        found = asked(raw_pod(resources={name: amount}))
        if isinstance(found, Request):
            assert set(found.wanted) == {name}
        elif not isinstance(found, NotOurs):
            assert found.reason.startswith("vGPU: ")
            assert found.reason.isprintable()


async def posted(url: str, verb: str, body: dict[str, Any]) -> Any:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/{verb}", data=as_json(body)) as answer,
    ):
        assert answer.status == 200, (verb, await answer.text())
        return await answer.json(content_type=None)


@pytest.mark.parametrize("metadata", HOSTILE, ids=lambda m: ",".join(m))
async def test_a_pod_that_forges_its_place_is_answered_as_any_other_and_takes_nothing(
    metadata: dict[str, Any],
) -> None:
    world = World()
    await world.add_node(NODE)
    async with world.extender() as service, world.obedient(NODE), serving(service) as url:
        resident = await world.add_pod("resident", "3-40C")
        service.hooks.filter(filter_args(resident, NODE))
        assert not (await service.binder.bind(bind_args(resident, NODE))).error
        before = (await world.gpu_node(NODE)).spec

        forged = raw_pod("7-80C", name="forged", uid="forged")  # there is no room for it
        forged["metadata"] |= metadata
        candidates = {"Pod": forged, "Nodes": None, "NodeNames": [NODE]}
        filtered = await posted(url, "filter", candidates)
        await posted(url, "prioritize", candidates)
        victims = {NODE: {"Pods": [{"UID": resident["metadata"]["uid"]}], "NumPDBViolations": 0}}
        preemption = {"NodeNameToVictims": None, "NodeNameToMetaVictims": victims}
        await posted(url, "preempt", {"Pod": forged} | preemption)
        binding = {"PodName": "forged", "PodNamespace": "default", "PodUID": "forged", "Node": NODE}
        bound = await posted(url, "bind", binding)

        assert not filtered["NodeNames"]
        assert bound["Error"]
        assert (await world.gpu_node(NODE)).spec == before
        assert await world.bound("resident") == NODE


async def test_a_namesake_in_another_namespace_has_no_part_in_what_is_held_for_a_vm() -> None:
    world = World()
    await world.add_node(NODE)
    await world.add_namespace("elsewhere")
    owner = ("VirtualMachineInstance", "vm")
    async with world.extender() as service, world.obedient(NODE):
        await world.add_owner(VIRTUAL_MACHINES, "vm")
        first = await world.add_pod("first", "7-80C", owner=owner)
        service.hooks.filter(filter_args(first, NODE))
        assert not (await service.binder.bind(bind_args(first, NODE))).error
        await world.delete_pod(first)

        async def held() -> bool:
            return [each.pod for each in (await world.gpu_node(NODE)).spec.assignments] == [None]

        await until(held)
        kept = (await world.gpu_node(NODE)).spec
        thief = await world.add_pod("thief", "7-80C", owner=owner, namespace="elsewhere")
        refused = service.hooks.filter(filter_args(thief, NODE))

        assert not refused.node_names
        assert (await service.binder.bind(bind_args(thief, NODE))).error
        assert (await world.gpu_node(NODE)).spec == kept
        successor = await world.add_pod("second", "7-80C", owner=owner)
        assert service.hooks.filter(filter_args(successor, NODE)).node_names
