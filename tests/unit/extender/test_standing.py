"""Devices that stand there, with Harvester: who gets them, and how the plan follows the kubelet."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from extender.ledger import Ledger, promise
from extender.packing.choose import Choice, Placed
from extender.request import Request
from extender.snapshot import NodeView, Taken
from extender.verbs.bind import place
from extender.verbs.filter import filter
from extender.verbs.fleet import Fleet
from extender.verbs.inherit import inherited
from extender.verbs.prioritize import prioritize
from extender.verbs.record import adoptable, corrections
from extender.verbs.verdicts import Code, Fits, Refused, verdict
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Instance, Layout, Mode, OwnerRef, PodRef
from nodeagent.apiserver.protocol import GPU_NODES, PODS, PatchType
from tests.builders import VGPU, assignment, gpu, gpu_node, instance, request, view
from tests.fakes.world import World
from tests.tenancy import Cluster, asks, rules
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

SMALL = VGPU + "1-10C"
ONE = 19


def owner(name: str) -> OwnerRef:
    return OwnerRef("VirtualMachineInstance", "default", name)


def kept(start: int, *keepers: str, **fields: Any) -> Instance:
    return instance(
        ONE,
        start,
        gi_id=start + 1,
        standing=True,
        resource=SMALL,
        keepers=tuple(map(owner, keepers)),
        **fields,
    )


def on(
    *instances: Instance, name: str = "node-1", layout: Layout = Layout.DYNAMIC, **fields: Any
) -> NodeView:
    node = gpu_node(
        name, gpus=[gpu(instances=instances, layout=layout)], mode=Mode.HARVESTER, **fields
    )
    return view(node)


def starts(found: object) -> list[int]:
    assert isinstance(found, Fits)
    return [each.placement.start for each in found.choice.placed]


def asking(*wanted: str, pod: str = "pod-1", by: str = "") -> Request:
    return request(*wanted, pod=pod, owner=owner(by) if by else None)


def test_what_stands_there_is_given_before_anything_is_made() -> None:
    assert starts(verdict(on(kept(5)), (SMALL,))) == [5]


def test_what_nobody_keeps_goes_first() -> None:
    assert starts(verdict(on(kept(1, "vm-1"), kept(5)), (SMALL,))) == [5]


def test_no_device_is_given_twice_by_the_plan_or_by_promises() -> None:
    node = on(kept(1), kept(5), plan=[assignment("a1", ONE, 5, pod="other")])

    assert starts(verdict(node, (SMALL,))) == [1]
    first = Taken("GPU-0", ONE, Placement(1, 1))
    (made,) = starts(verdict(node, (SMALL,), (first,)))
    assert made not in (1, 5)


def test_a_pod_that_wants_more_than_stand_there_has_the_rest_made() -> None:
    found = verdict(on(kept(5)), (SMALL, SMALL))

    assert len(set(starts(found))) == 2
    assert 5 in starts(found)


@pytest.mark.parametrize("layout", [Layout.STATIC, Layout.DYNAMIC])
def test_those_of_a_static_layout_are_given_and_nothing_is_made_there(layout: Layout) -> None:
    node = on(kept(5), layout=layout)

    assert starts(verdict(node, (SMALL,))) == [5]
    both = verdict(node, (SMALL, SMALL))
    assert isinstance(both, Refused if layout is Layout.STATIC else Fits)


@pytest.mark.parametrize("mode", [Mode.VGPU_MDEV, Mode.VGPU_VFIO, Mode.CONTAINER])
def test_elsewhere_nothing_stands_there(mode: Mode) -> None:
    node = gpu_node(gpus=[gpu(instances=[kept(5)])], mode=mode)

    assert view(node).standing == ()


@pytest.mark.parametrize("field", ["stale", "cordoned", "failing"])
def test_a_node_that_takes_nothing_new_gives_nothing(field: str) -> None:
    node = msgspec.structs.replace(on(kept(5)), **{field: True})

    assert isinstance(verdict(node, (SMALL,)), Refused)


def test_a_node_where_a_device_stands_wins_and_the_one_that_keeps_its_own_before_that() -> None:
    views: dict[str, NodeView] = {
        "empty": on(name="empty"),
        "other": on(kept(3, "vm-2"), name="other"),
        "own": on(kept(4, "vm-1"), name="own"),
    }
    names = tuple(views)

    stranger = prioritize(Fleet(views), Ledger(), asking(SMALL, by="vm-3"), names)
    itself = prioritize(
        Fleet(views), Ledger(), asking(SMALL, by="vm-1"), names, held=frozenset({"own"})
    )

    assert stranger.winner in ("other", "own")
    assert itself.winner == "own"
    assert itself.choice is not None
    assert [each.placement.start for each in itself.choice.placed] == [4]


def test_an_owner_gets_its_own_among_those_of_a_node() -> None:
    node = on(kept(1), kept(2, "vm-2"), kept(3, "vm-1"))

    choice = place(node, Ledger(), asking(SMALL, by="vm-1"))

    assert not isinstance(choice, Refused)
    assert [each.placement.start for each in choice.placed] == [3]


@pytest.mark.parametrize(
    ("said", "why_not"),
    [
        ("profiles: [1g.10gb]", None),
        ("profiles: [7g.80gb]", Code.PROFILE_NOT_ALLOWED),
        ("caps: {memorySlices: 2}", None),
        ("caps: {memorySlices: 1}", Code.OVER_CAP),
    ],
)
def test_an_owner_gets_what_it_keeps_only_as_far_as_the_rules_let_it(
    said: str, why_not: Code | None
) -> None:
    tenant = f"{{name: red, namespaces: {{matchLabels: {{team: red}}}}, {said}}}"
    there = Cluster(rules(f"tenants: [{tenant}]"))
    there.give(
        asks("1-10C", namespace="r2", pod="other"),
        "a",
        Choice(0, 0, (Placed(SMALL, 0, "GPU-0", ONE, Placement(0, 1)),)),
    )
    asked = msgspec.structs.replace(
        asks("1-10C", namespace="r1"), owner=OwnerRef("VirtualMachineInstance", "r1", "vm-1")
    )
    device = msgspec.structs.replace(kept(3), keepers=(asked.owner,))
    node, bounded = on(device), there.knowledge.bounded(asked)

    assert (inherited(node, Ledger(), bounded) is None) == (why_not is not None)
    found = place(node, Ledger(), bounded)
    assert (found.code if isinstance(found, Refused) else None) == why_not


def test_a_place_held_for_a_restart_is_the_device_that_stands_there() -> None:
    hold = assignment("r1", ONE, 3, pod=None, owner=owner("vm-1"))
    node = on(kept(3, "vm-1"), kept(5), plan=[hold])

    mine = inherited(node, Ledger(), asking(SMALL, by="vm-1"))

    assert mine is not None
    assert [each.placement.start for each in mine.placed] == [3]
    assert starts(verdict(node, (SMALL,))) == [5]


def test_a_promise_of_another_is_kept() -> None:
    node = on(kept(3, "vm-1"))
    other = place(node, Ledger(), asking(SMALL, pod="pod-2"))
    assert not isinstance(other, Refused)
    ledger = Ledger().assume("pod-2", promise("node-1", other.placed))

    assert inherited(node, ledger, asking(SMALL, by="vm-1")) is None


def test_a_node_without_room_but_with_a_device_passes_the_filter() -> None:
    full = on(*(kept(start) for start in range(7)))

    answer = filter(Fleet({"node-1": full}), Ledger(), asking(SMALL), ["node-1"])

    assert answer.passed == ("node-1",)


def held_by(pod: str, start: int, **fields: Any) -> Instance:
    holder = PodRef("default", f"name-{pod}", pod)
    return instance(ONE, start, gi_id=start + 1, holder=holder, resource=SMALL, **fields)


def told(node: NodeView) -> dict[str, tuple[int, str] | None]:
    """Return what becomes of each entry: where it starts then, and whose it is."""

    def said(entry: Assignment | None) -> tuple[int, str] | None:
        return None if entry is None or entry.pod is None else (entry.start, entry.pod.uid)

    return {each.entry.id: said(each.becomes) for each in corrections(node)}


def test_nothing_is_recorded_where_all_is_as_planned() -> None:
    plan = [assignment("a1", ONE, 3, pod="p1")]

    assert told(on(instance(ONE, 3, assignment="a1"), plan=plan)) == {}


def test_a_pod_that_was_given_another_device_is_recorded_there() -> None:
    plan = [assignment("a1", ONE, 3, pod="p1")]

    assert told(on(kept(3), held_by("p1", 5), plan=plan)) == {"a1": (5, "p1")}


def test_two_that_were_given_each_others_are_exchanged() -> None:
    plan = [assignment("a1", ONE, 3, pod="p1"), assignment("a2", ONE, 5, pod="p2")]
    node = on(held_by("p2", 3, assignment="a1"), held_by("p1", 5, assignment="a2"), plan=plan)

    assert told(node) == {"a1": (5, "p1"), "a2": (3, "p2")}


def test_who_has_yet_to_come_has_what_was_left_for_it() -> None:
    plan = [assignment("a1", ONE, 3, pod="p1"), assignment("a2", ONE, 5, pod="p2")]
    node = on(instance(ONE, 3, assignment="a1"), held_by("p1", 5, assignment="a2"), plan=plan)

    assert told(node) == {"a1": (5, "p1"), "a2": (3, "p2")}


def test_whose_device_a_stranger_has_taken_is_placed_anew() -> None:
    plan = [assignment("a1", ONE, 3, pod="p1")]

    assert told(on(held_by("stranger", 3, assignment="a1"), plan=plan)) == {"a1": None}


def test_of_a_pod_with_several_only_the_wrong_one_is_changed() -> None:
    plan = [assignment("a1", ONE, 3, pod="p1"), assignment("a2", ONE, 5, pod="p1")]
    node = on(held_by("p1", 3, assignment="a1"), kept(5), held_by("p1", 6), plan=plan)

    assert told(node) == {"a2": (6, "p1")}


def test_who_waits_for_two_has_both_places_again_or_is_placed_anew() -> None:
    plan = [
        assignment("a1", ONE, 3, pod="p1"),
        assignment("b1", ONE, 5, pod="p2"),
        assignment("b2", ONE, 6, pod="p2"),
    ]
    there = [instance(ONE, start, gi_id=start + 1) for start in (3, 5, 6)]
    taken = on(there[0], held_by("p1", 5, assignment="b1"), there[2], plan=plan)
    stolen = on(there[0], held_by("stranger", 5, assignment="b1"), there[2], plan=plan)

    assert told(taken) == {"a1": (5, "p1"), "b1": (3, "p2")}
    assert told(stolen) == {"b1": None, "b2": None}


def test_what_is_left_is_for_who_asked_for_such_a_device() -> None:
    other = VGPU + "1-10CME"
    plan = [
        assignment("a1", ONE, 3, pod="p1"),
        assignment("b1", ONE, 5, pod="p2", resource=other),
    ]
    node = on(instance(ONE, 3, assignment="a1"), held_by("p1", 5, assignment="b1"), plan=plan)

    assert told(node) == {"a1": (5, "p1"), "b1": None}


def test_a_place_reserved_for_a_vm_that_comes_back_gives_way_to_who_is_there() -> None:
    owner = OwnerRef("VirtualMachineInstance", "default", "vm")
    plan = [
        assignment("a1", ONE, 3, pod="p1"),
        assignment("r1", ONE, 5, pod=None, owner=owner),
    ]
    node = on(instance(ONE, 3, assignment="a1"), held_by("p1", 5), plan=plan)

    first, second = corrections(node)
    assert (first.entry.id, first.becomes and first.becomes.start) == ("a1", 5)
    assert (second.entry.id, second.becomes and second.becomes.start) == ("r1", 3)
    assert second.becomes is not None
    assert second.becomes.pod is None


def test_what_an_entry_is_to_be_exchanged_for_gets_no_second_one() -> None:
    """The kubelet gave p2 what was planned for p1, and p1 something else: that was told first."""
    plan = [assignment("a2", ONE, 4, pod="p2"), assignment("c1", ONE, 6, pod="p1")]
    node = on(
        instance(ONE, 4, assignment="a2"),
        held_by("p2", 5),
        instance(ONE, 6, assignment="c1"),
        held_by("stranger", 2),
        plan=plan,
    )

    assert [(each.pod.uid, each.placement.start) for each in adoptable(node)] == [("stranger", 2)]
    assert told(node) == {"a2": (5, "p2")}


async def test_a_sweep_writes_down_what_the_kubelet_has_given() -> None:
    world = World()
    await world.add_node("node-1")
    pod = await world.add_pod("vm", "1-10C")
    uid = pod["metadata"]["uid"]
    ref = PodRef("default", "vm", uid)
    entry = msgspec.structs.replace(assignment("a1", ONE, 3), pod=ref)
    binding = {"metadata": {"name": "vm"}, "target": {"name": "node-1"}}
    await world.api.create(PODS, binding, namespace="default", name="vm", subresource="binding")
    await world.api.patch(
        GPU_NODES,
        "node-1",
        [{"op": "add", "path": "/spec/assignments", "value": [entry]}],
        patch_type=PatchType.JSON,
    )
    status = (await world.gpu_node("node-1")).status
    there = instance(ONE, 5, gi_id=6, holder=ref, resource=SMALL)
    gpus = (msgspec.structs.replace(status.gpus[0], instances=(kept(3), there)),)
    told = msgspec.structs.replace(status, gpus=gpus, mode=Mode.HARVESTER)
    await world.report("node-1", told)

    async with world.extender():

        async def recorded() -> bool:
            plan = (await world.gpu_node("node-1")).spec.assignments
            return [(each.start, each.pod) for each in plan] == [(5, ref)]

        await until(recorded)

    (after,) = (await world.gpu_node("node-1")).spec.assignments
    assert after.id != "a1"  # what was made for a1 is known by that id
