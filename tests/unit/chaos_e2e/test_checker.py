"""The checker of end-to-end histories sees each kind of broken promise, and only those."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis.strategies import builds, integers, sampled_from

from nodeagent.api import keys
from nodeagent.api.gpunode import Assignment, Decision, GpuNode, OwnerRef, Realized
from tests.builders import VGPU, as_json, assignment, gpu, gpu_node, instance, raw_pod
from tests.e2e.chaos.checker import GPU_NODES, PODS, Checker
from tests.e2e.chaos.history import Write
from tests.e2e.chaos.spots import Spot

ONE, THREE = 19, 9
RESOURCE = {ONE: "1-10C", THREE: "3-40C"}
FOREIGN = Spot("GPU-0", 20, 6, 1)
HOLD_SECONDS = 8.0
VM = OwnerRef("VirtualMachineInstance", "default", "vm")
OTHER = OwnerRef("VirtualMachineInstance", "default", "other")


class Story:
    """Writes things and remembers what the checker found broken."""

    def __init__(self, foreign: Iterable[Spot] = ()) -> None:
        self.broken: list[str] = []
        self.now = 0.0
        self.checker = Checker(
            set(foreign), self.broken.append, hold_seconds=HOLD_SECONDS, clock=lambda: self.now
        )
        self._revisions = itertools.count(1)

    def write(self, key: str, value: object) -> None:
        raw = None if value is None else as_json(value)
        self.checker.see(Write(next(self._revisions), key, raw))

    def node(
        self, *entries: Assignment, made: bool = True, realized: bool = True, foreign: bool = False
    ) -> None:
        """Write a GpuNode whose plan that is, with an instance for each entry where *made*.

        What is only held for an owner has none.
        """
        existing = [
            instance(e.profile_id, e.start, gi_id=n)
            for n, e in enumerate(entries)
            if made and e.pod is not None
        ]
        if foreign:
            existing.append(instance(FOREIGN.profile_id, FOREIGN.start, gi_id=9))
        node = gpu_node(
            gpus=[gpu(instances=tuple(existing))],
            plan=entries,
            realized=[Realized(entry.id) for entry in entries if realized],
        )
        self.raw_node(node)

    def raw_node(self, node: GpuNode) -> None:
        self.write(f"{GPU_NODES}node-1", node)

    def pod(
        self,
        uid: str,
        *decided: Assignment,
        node: str = "",
        phase: str = "Pending",
        wants: tuple[str, ...] = ("3-40C",),
        decision: bool = True,
        gang: int = 0,
        **metadata: Any,
    ) -> None:
        """Write a pod, bound where there is a *node*."""
        value = raw_pod(*wants, name=f"name-{uid}", uid=uid, nodeName=node)
        annotations = {keys.GANG: "gang", keys.GANG_SIZE: str(gang)} if gang else {}
        value["metadata"] |= metadata | {"annotations": annotations}
        if node and decision:
            text = as_json([_decision(each) for each in decided]).decode()
            annotations[keys.DECISION_ANNOTATION] = text
        value["status"] = {"phase": phase}
        self.write(f"{PODS}name-{uid}", value)

    def gone(self, uid: str) -> None:
        self.write(f"{PODS}name-{uid}", None)

    def bound(self) -> Assignment:
        """Write all that leads to a bound pod, and return its entry."""
        entry = planned("a", THREE, 0)
        self.node()
        self.pod("pod-1")
        self.node(entry)
        self.pod("pod-1", entry, node="node-1")
        return entry


def planned(
    id: str,
    profile_id: int,
    start: int,
    pod: str | None = "pod-1",
    owner: OwnerRef | None = None,
) -> Assignment:
    resource = VGPU + RESOURCE[profile_id]
    return assignment(id, profile_id, start, pod=pod, resource=resource, owner=owner)


def _decision(of: Assignment) -> Decision:
    return Decision(of.id, of.gpu, "", of.profile_id, of.start, of.size, of.resource)


def test_a_vm_that_comes_and_goes_breaks_nothing() -> None:
    story = Story([FOREIGN])
    story.node(foreign=True)
    entry = planned("a", THREE, 0)
    story.pod("pod-1")
    story.node(entry, made=False, realized=False, foreign=True)
    story.node(entry, foreign=True)
    story.pod("pod-1", entry, node="node-1")
    story.pod("pod-1", entry, node="node-1", phase="Running")
    story.gone("pod-1")
    story.node(foreign=True)
    successor = planned("b", THREE, 0, pod="pod-2")
    story.node(successor, foreign=True)

    assert story.broken == []


@pytest.mark.parametrize("change", [{"start": 1}, {"gpu": "GPU-1"}, {"pod": None}])
def test_what_a_bound_pod_has_is_not_changed_in_place(change: dict[str, Any]) -> None:
    story = Story()
    entry = story.bound()
    story.node(msgspec.structs.replace(entry, **change), made=False)

    assert any("which is bound, left the plan" in each for each in story.broken)


def test_an_entry_that_is_moved_onto_another_is_a_promise_too_many() -> None:
    story = Story()
    first, second = planned("a", ONE, 0), planned("b", ONE, 1, pod="pod-2")
    story.node(first, second)
    assert story.broken == []
    story.node(first, msgspec.structs.replace(second, start=0), made=False)

    assert any("promised twice: b and a" in each for each in story.broken)


def test_two_entries_on_one_slice_are_seen() -> None:
    story = Story()
    story.node(planned("a", THREE, 0), planned("b", ONE, 3, pod="pod-2"), made=False)

    assert [each.split(", ")[0] for each in story.broken] == [
        "revision 1: promised twice: a and b",
        "revision 1: promised twice: b and a",
    ]


def test_slices_of_a_bound_pod_that_are_planned_for_another_are_seen() -> None:
    story = Story()
    entry = story.bound()
    story.node(entry, planned("b", ONE, 3, pod="pod-2"), made=False)

    assert any("b, and to name-pod-1, which is bound" in each for each in story.broken)


def test_an_entry_of_a_bound_pod_that_leaves_the_plan_is_seen_and_of_an_ended_one_is_not() -> None:
    story, ended = Story(), Story()
    entry = story.bound()
    story.raw_node(gpu_node(gpus=[gpu(instances=(instance(THREE, 0),))], realized=[Realized("a")]))
    assert story.broken == [
        f"revision 5: lost: {entry.id} of name-pod-1, which is bound, left the plan"
    ]

    entry = ended.bound()
    ended.pod("pod-1", entry, node="node-1", phase="Succeeded")
    ended.node()
    assert ended.broken == []


def test_a_pod_that_is_only_being_deleted_still_has_what_it_was_promised() -> None:
    story = Story()
    entry = story.bound()
    story.pod("pod-1", entry, node="node-1", deletionTimestamp="2026-01-01T00:00:00Z")
    story.node()

    assert len(story.broken) == 2  # its entry, and its GPU instance


def test_a_gpu_instance_destroyed_under_a_bound_pod_is_seen() -> None:
    story = Story()
    entry = story.bound()
    story.node(entry, made=False)

    assert story.broken == [
        "revision 5: lost: the GPU instance of name-pod-1, which is bound, is gone"
    ]


def test_gpu_instances_that_overlap_are_seen() -> None:
    story = Story()
    there = (instance(THREE, 0, gi_id=1), instance(ONE, 3, gi_id=2))
    story.raw_node(gpu_node(gpus=[gpu(instances=there)]))

    assert len(story.broken) == 1
    assert "exist at once" in story.broken[0]


def test_a_foreign_instance_that_goes_or_whose_slices_are_planned_is_seen() -> None:
    story = Story([FOREIGN])
    story.node(foreign=True)
    story.node(planned("a", THREE, 4), made=False, foreign=True)
    story.node(planned("a", THREE, 4), made=False, foreign=False)

    assert [each.split(": ")[1] for each in story.broken] == ["promised twice", "foreign"]


@pytest.mark.parametrize(
    ("plan", "wrong"),
    [
        pytest.param([], "not planned", id="in no plan"),
        pytest.param([planned("a", THREE, 4)], "not planned", id="planned elsewhere"),
        pytest.param([planned("a", THREE, 0, pod="pod-2")], "not planned", id="for another"),
    ],
)
def test_a_pod_bound_otherwise_than_planned_is_seen(plan: list[Assignment], wrong: str) -> None:
    story = Story()
    story.node(*plan)
    story.pod("pod-1", planned("a", THREE, 0), node="node-1")

    assert len(story.broken) == 1
    assert "half bound" in story.broken[0]
    assert wrong in story.broken[0]


def test_a_pod_bound_before_its_entry_is_realized_is_seen() -> None:
    story = Story()
    entry = planned("a", THREE, 0)
    story.node(entry, realized=False)
    story.pod("pod-1", entry, node="node-1")

    assert story.broken == ["revision 2: half bound: name-pod-1, and a is not realized"]


def test_a_pod_bound_without_a_decision_or_with_part_of_it_is_seen() -> None:
    story = Story()
    entry = planned("a", THREE, 0)
    story.node(entry)
    story.pod("pod-1", node="node-1", decision=False)
    story.pod("pod-2", entry, node="node-1", wants=("3-40C", "1-10C"))

    assert sum("half bound: name-pod-1 wants" in each for each in story.broken) == 1
    assert sum("half bound: name-pod-2 wants" in each for each in story.broken) == 1


def test_a_pod_that_its_kubelet_refused_is_seen_once() -> None:
    story = Story()
    entry = story.bound()
    for _ in range(2):
        story.pod("pod-1", entry, node="node-1", phase="Failed")

    assert len(story.broken) == 1
    assert "its kubelet could not run it" in story.broken[0]


# Places on their way out.


def left(story: Story, *, owner: OwnerRef | None = None, observed: int, there: bool) -> None:
    """Write that an entry has left the plan, which the agent has *observed* up to a generation.

    Its GPU instance, where *there*, has yet to go. Then somebody else is promised its place.
    """
    gpus = [gpu(instances=(instance(THREE, 0),) if there else ())]
    story.raw_node(gpu_node(plan=[planned("a", THREE, 0, owner=VM)], generation=1))
    story.raw_node(gpu_node(gpus=gpus, generation=2, observed=observed))
    heir = planned("b", ONE, 3, pod="pod-2", owner=owner)
    story.raw_node(gpu_node(gpus=gpus, plan=[heir], generation=3, observed=observed))


@pytest.mark.parametrize(
    ("observed", "there"),
    [
        pytest.param(2, True, id="its GPU instance is there"),
        pytest.param(1, False, id="it may be made yet"),
    ],
)
def test_a_place_that_somebody_is_promised_before_it_is_free_is_seen(
    observed: int, there: bool
) -> None:
    story = Story()
    left(story, owner=OTHER, observed=observed, there=there)

    assert story.broken == ["revision 3: promised twice: b where a is on its way out"]
    assert story.checker.releases.seen == 1


def test_a_place_that_changes_hands_in_one_write_is_seen() -> None:
    story = Story()
    story.raw_node(gpu_node(plan=[planned("a", THREE, 0, owner=VM)], generation=1))
    heir = planned("b", ONE, 3, pod="pod-2", owner=OTHER)
    story.raw_node(gpu_node(plan=[heir], generation=2, observed=1))

    assert story.broken == ["revision 2: promised twice: b where a is on its way out"]


def test_a_place_of_which_the_agent_has_said_that_it_is_free_is_anybodys() -> None:
    story = Story()
    left(story, observed=2, there=False)

    assert story.broken == []


def test_the_owners_next_pod_need_not_wait_for_what_the_last_one_left() -> None:
    story = Story()
    left(story, owner=VM, observed=1, there=True)

    assert story.broken == []


def test_a_held_place_is_on_its_way_out_for_everybody_else() -> None:
    story = Story()
    hold = planned("a", THREE, 0, pod=None, owner=VM)
    story.raw_node(gpu_node(plan=[planned("a", THREE, 0, owner=VM)], generation=1))
    story.raw_node(gpu_node(plan=[hold], generation=2, observed=1))
    story.now = HOLD_SECONDS
    heir = planned("b", ONE, 3, pod="pod-2", owner=OTHER)
    story.raw_node(gpu_node(plan=[heir], generation=3, observed=1))

    assert story.broken == ["revision 3: promised twice: b where a is on its way out"]


def test_a_place_that_was_free_meanwhile_is_out() -> None:
    story = Story()
    story.raw_node(gpu_node(plan=[planned("a", THREE, 0)], generation=1))
    story.raw_node(gpu_node(generation=2, observed=1))
    story.raw_node(gpu_node(generation=2, observed=2))
    story.raw_node(gpu_node(plan=[planned("b", ONE, 3, pod="pod-2")], generation=3, observed=1))

    assert story.broken == []


# Places held for VMs that restart.


def held(story: Story) -> Assignment:
    """Write a pod with its place, its end, and that the place is held; return the hold."""
    entry = planned("a", THREE, 0, owner=VM)
    story.node(entry)
    story.pod("pod-1", entry, node="node-1")
    story.gone("pod-1")
    hold = planned("a", THREE, 0, pod=None, owner=VM)
    story.node(hold)
    return hold


def test_a_vm_that_finds_its_place_again_breaks_nothing_and_is_counted() -> None:
    story = Story()
    held(story)
    story.now = 2.0
    story.node(planned("b", THREE, 0, pod="pod-2", owner=VM))

    assert story.broken == []
    assert (story.checker.holds.made, story.checker.holds.found_again) == (1, 1)


def test_a_hold_that_nobody_came_for_in_time_may_go() -> None:
    story = Story()
    held(story)
    story.now = HOLD_SECONDS
    story.node(planned("b", ONE, 1, pod="pod-2", owner=OTHER))

    assert story.broken == []
    assert story.checker.holds.found_again == 0


def test_a_held_place_that_somebody_else_gets_is_seen() -> None:
    beside, instead = Story(), Story()
    hold = held(beside)
    beside.node(hold, planned("b", ONE, 1, pod="pod-2", owner=OTHER))
    held(instead)
    instead.now = 1.0
    instead.node(planned("b", ONE, 1, pod="pod-2", owner=OTHER))

    assert any("promised twice: b and a" in each for each in beside.broken)
    assert instead.broken == ["revision 5: hold: a was given back after only 1.0 s"]


def test_a_place_held_while_its_pod_still_runs_is_lost() -> None:
    story = Story()
    entry = story.bound()
    story.node(planned(entry.id, THREE, 0, pod=None, owner=VM))

    assert any("a of name-pod-1, which is bound, left the plan" in each for each in story.broken)


def test_a_place_held_for_somebody_who_never_had_it_is_seen() -> None:
    story = Story()
    story.node(planned("a", THREE, 0, owner=OTHER))
    story.node(planned("a", THREE, 0, pod=None, owner=VM), planned("b", ONE, 4, None, owner=VM))

    assert sum(" is held, and was no pod's of " in each for each in story.broken) == 2


# Gangs.


def gang(story: Story, *places: Assignment) -> None:
    """Write a gang of three, these places of theirs, and that its first member is bound."""
    for uid in ("pod-1", "pod-2", "pod-3"):
        story.pod(uid, wants=("1-10C",), gang=3)
    story.node(*places)
    story.pod("pod-1", places[0], node="node-1", wants=("1-10C",), gang=3)


def test_a_gang_whose_members_all_have_their_places_may_begin() -> None:
    story = Story()
    places = [planned(f"a{n}", ONE, n, pod=f"pod-{n + 1}") for n in range(3)]
    gang(story, *places)
    story.gone("pod-3")
    story.node(*places[:2])
    story.pod("pod-2", places[1], node="node-1", wants=("1-10C",), gang=3)

    assert story.broken == []
    assert story.checker.gangs.begun == {"gang"}


def test_a_member_bound_before_all_have_their_places_is_seen_once() -> None:
    story = Story()
    places = [planned(f"a{n}", ONE, n, pod=f"pod-{n + 1}") for n in range(2)]
    gang(story, *places)
    story.pod("pod-2", places[1], node="node-1", wants=("1-10C",), gang=3)

    assert [each.partition(": ")[2] for each in story.broken] == [
        "half a gang: one of gang is bound, and of 3 only 2 have their places"
    ]


def test_other_objects_are_none_of_its_business() -> None:
    story = Story()
    story.write("leases/tangram-system/tangram-extender", {"spec": {}})
    story.write("pods/tangram-system/extender-0", {"no": "pod"})

    assert story.broken == []


spots = builds(
    Spot,
    gpu=sampled_from(["GPU-0", "GPU-1"]),
    profile_id=integers(0, 3),
    start=integers(0, 7),
    size=integers(1, 8),
)


@given(spots, spots)
def test_spots_overlap_where_they_have_a_slice_of_one_gpu_in_common(one: Spot, other: Spot) -> None:
    slices = set(range(one.start, one.start + one.size))
    common = slices & set(range(other.start, other.start + other.size))

    assert one.overlaps(other) == (one.gpu == other.gpu and bool(common))
