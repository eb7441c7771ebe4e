"""What an explanation says of a pod, and that it stays small whatever the cluster's size."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from extender.claims import claimant
from extender.explain import Situation, explain, explain_none
from extender.explain.board import MOST_GPUS, OF_EACH_KIND, board
from extender.explain.census import Census
from extender.explain.explanation import (
    Cleared,
    Explanation,
    Lack,
    Means,
    Move,
    Moves,
    NoMoves,
    Spot,
    State,
    Then,
)
from extender.explain.groups import MOST_GROUPS
from extender.explain.situation import judgements
from extender.explain.text import MOST_CHARACTERS, brief, sentences
from extender.explain.veil import others, veiled
from extender.ledger import Ledger, Promise
from extender.packing.spread import Spread
from extender.request import Gang
from extender.snapshot import NodeView, Taken
from extender.verbs.verdicts import Code
from nodeagent.api import keys
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import OwnerRef
from tests.builders import VGPU, assignment, gpu, gpu_node, instance, request, view
from tests.explained import Pod, Small, Vm

ONE, TWO, THREE, FOUR, WHOLE = 19, 14, 9, 5, 0
"""Profiles of an H100 by id: 1g.10gb, 2g.20gb, 3g.40gb, 4g.40gb, 7g.80gb."""


def said(small: Small, *wanted: str, **fields: object) -> Explanation:
    situation = small.situation(request(*wanted, pod="me"))
    return explain(msgspec.structs.replace(situation, **fields))


def moves_in(explanation: Explanation) -> tuple[Move, ...]:
    assert isinstance(explanation.room, Moves)
    return explanation.room.moves


def text(explanation: Explanation) -> str:
    return " ".join(sentences(explanation))


# What is missing, and what would help.


def test_a_vm_in_the_way_is_named_with_where_it_would_go() -> None:
    here = [Vm("x", ONE, "a", 0, 4), Vm("big", FOUR, "a", 0, 0)]
    there = [Vm("y", FOUR, "a", 1, 0), Vm("z", TWO, "a", 1, 4), Vm("full", WHOLE, "b", 0, 0)]
    crowded = Small.of([*here, *there], a=2, b=1)

    found = said(crowded, "3-40C")

    assert found.state is State.REFUSED
    assert found.missing is not None
    assert found.missing.lack is Lack.FRAGMENTATION
    assert (found.missing.needed, found.missing.free, found.missing.most_free) == (4, 5, 3)
    assert found.room == Moves(
        (
            Move(
                "default",
                "VirtualMachineInstance",
                "x",
                "1g.10gb",
                Spot("a", 0, "a-0", 4, 1),
                Spot("a", 1, "a-1", 6, 1),
            ),
        ),
        (Spot("a", 0, "a-0", 4, 4),),
        fewest=True,
    )
    assert (
        "It would fit on node a, GPU 0, slices 4-7 if VirtualMachineInstance default/x (1g.10gb on"
        " node a, GPU 0, slice 4) moved to GPU 1, slice 6. Nothing else changes. Moving a VM"
        " restarts it: vGPUs do not migrate live before KubeVirt 1.9. Eviction strategies and"
        " PodDisruptionBudgets were not looked at."
    ) in text(found)


def test_what_is_known_against_a_move_is_told_with_it() -> None:
    here = [Vm("x", ONE, "a", 0, 4), Vm("big", FOUR, "a", 0, 0)]
    there = [Vm("y", FOUR, "a", 1, 0), Vm("z", TWO, "a", 1, 4)]
    crowded = Small.of([*here, *there], a=2)
    pods = {**crowded.pods, "x": Pod("a", priority=7, evictable=False)}

    found = said(crowded, "3-40C", pods=pods)

    assert isinstance(found.room, Moves)
    (move,) = found.room.moves
    assert (move.means, move.priority, move.evictable) == (Means.RESTART, 7, False)
    assert "slice 4, priority 7, annotated as not safe to evict) moved to" in text(found)
    (nameless,) = moves_in(veiled(found, lambda _: False))
    assert not nameless.priority


def test_a_pod_that_is_no_vms_is_made_again_where_it_goes() -> None:
    here = [Vm("x", ONE, "a", 0, 4), Vm("big", FOUR, "a", 0, 0)]
    there = [Vm("y", FOUR, "a", 1, 0), Vm("z", TWO, "a", 1, 4)]
    crowded = Small.of([*here, *there], a=2)
    node = crowded.views["a"].node
    plan = tuple(replace(each, owner=None) for each in node.spec.assignments)
    views = {"a": view(replace(node, spec=replace(node.spec, assignments=plan)))}

    found = said(crowded, "3-40C", views=views)

    assert [each.means for each in moves_in(found)] == [Means.RECREATION]
    assert "Moving a pod ends it, for its controller to make another." in text(found)
    assert "KubeVirt" not in text(found)


def test_who_may_not_be_moved_is_not_and_is_counted() -> None:
    for why, vm, pods in (
        (
            "of a VM with tangram.dev/movable: false, or with a value that is not known",
            Vm("x", ONE, "a", 0, 4, movable=False),
            {},
        ),
        ("of a pod that is starting, ending or not known", Vm("x", ONE, "a", 0, 4), {"x": Pod("")}),
    ):
        on_b = [Vm("y", TWO, "b", 0, 2), Vm("q", TWO, "b", 0, 4)]
        small = Small.of([vm, Vm("big", FOUR, "a", 0, 0), *on_b], a=1, b=1)
        known = {**small.pods, **pods, "big": Pod("a", movable=False)}
        known |= {"y": Pod("b", movable=False), "q": Pod("b", movable=False)}
        found = said(small, "3-40C", pods=known)

        assert found.room == NoMoves(3, proven=True), why
        assert why in {each.why for each in found.staying}
        assert "No 3 moves of VMs or fewer would make room for it." in text(found)


def test_a_lack_of_slices_is_told_from_a_lack_of_room_in_one_piece() -> None:
    full = Small.of([Vm("x", WHOLE, "a", 0, 0), Vm("y", FOUR, "b", 0, 0)], a=1, b=1)

    found = said(full, "7-80C")

    assert found.missing is not None
    assert found.missing.lack is Lack.CAPACITY
    assert found.room == NoMoves(3, proven=True)
    assert [(each.profile, each.nodes) for each in found.alternatives] == [
        ("3g.40gb", 1),
        ("1g.20gb", 1),
        ("2g.20gb", 1),
        ("1g.10gb", 1),
        ("1g.10gb+me", 1),
    ]
    assert "As it is, it would fit as 3g.40gb on 1 node, " in text(found)


def test_what_no_gpu_serves_is_looked_for_in_the_name() -> None:
    found = said(Small.of([], a=1), "nvidia.com/NVIDIA_H100XM-9-90C")

    assert found.state is State.REFUSED
    assert found.missing is not None
    assert found.missing.lack is Lack.OFFER
    assert found.asked is not None
    assert found.asked.amounts[0].profiles == ()
    assert "(which no GPU serves; did you mean nvidia.com/NVIDIA_H100XM-" in text(found)
    assert brief(found) == "No usable GPU serves what it asks for: look at the resource's name."


def test_nodes_that_take_nothing_new_are_counted_by_reason() -> None:
    views = {
        "a": view(gpu_node("a"), stale=True),
        "b": view(gpu_node("b"), stale=True),
        "c": view(gpu_node("c"), cordoned=True),
        "d": view(gpu_node("d", gpus=2), cordoned=True),
    }
    found = explain(Situation(request("1-10C"), views, Ledger(), "default", "v1"))

    assert found.missing is not None
    assert found.missing.lack is Lack.NODES
    assert [(group.gpus, group.nodes, group.fits) for group in found.groups] == [
        ("1 x H100-80GB", 3, 0),
        ("2 x H100-80GB", 1, 0),
    ]
    counts = [(reason.code, reason.nodes, reason.example) for reason in found.groups[0].reasons]
    assert counts == [(Code.STALE, 2, "a"), (Code.CORDONED, 1, "c")]


def test_nodes_that_kube_scheduler_does_not_offer_do_not_count_as_room() -> None:
    free = Small.of([Vm("x", WHOLE, "a", 0, 0)], a=1, b=1)

    found = said(free, "7-80C", candidates=frozenset({"a"}))

    assert found.missing is not None
    assert found.missing.lack is Lack.CAPACITY
    assert found.alternatives == ()
    (group,) = found.groups
    assert group.fits == 0
    assert {reason.code: reason.nodes for reason in group.reasons} == {
        "no-room": 1,
        "not-considered": 1,
    }
    assert isinstance(found.room, Moves)  # to where the pod may not be, x may go
    assert found.room.moves[0].target.node == "b"


def test_a_pod_that_fits_waits_to_be_scheduled_or_for_its_gang() -> None:
    free = Small.of([], a=1)

    assert said(free, "1-10C").state is State.FITS
    assert "it fits on 1 node, and waits to be scheduled" in text(said(free, "1-10C"))

    waits = said(free, "1-10C", told=frozenset({Code.GANG_INCOMPLETE}))
    assert waits.state is State.REFUSED
    assert "It would fit, and waits: waiting for the rest of the gang." in text(waits)
    assert brief(waits)


def test_slices_promised_to_a_pod_that_is_being_bound_are_taken() -> None:
    free = Small.of([], a=1)
    promised = Ledger().assume("other", Promise("a", (Taken("a-0", WHOLE, Placement(0, 8)),), "x"))

    found = said(free, "1-10C", ledger=promised)

    assert found.missing is not None
    assert found.missing.lack is Lack.CAPACITY
    assert found.room == NoMoves(3, proven=True)


def test_a_pod_that_asks_for_what_can_never_be_is_told_why() -> None:
    why = "vGPU: a pod may ask for at most 64 GPU instances"

    found = explain_none(request("1-10C").pod, State.NEVER, why, {}, policy="default", version="v1")

    assert text(found) == "A pod may ask for at most 64 GPU instances."
    assert brief(found) == ""


def test_a_gang_and_an_owner_are_named() -> None:
    asked = msgspec.structs.replace(
        request("1-10C", owner=OwnerRef("VirtualMachineInstance", "default", "vm-1")),
        gang=Gang("default", "ring", 2),
    )
    found = explain(Situation(asked, Small.of([], a=1).views, Ledger(), "default", "v1"))

    assert "It asks for VirtualMachineInstance vm-1 for 1 x" in text(found)
    assert "in gang ring" in text(found)


# Where a pod is.


def test_a_placed_pod_is_told_its_rank_and_the_runner_up() -> None:
    small = Small.of([Vm("me", ONE, "a", 0, 6), Vm("x", TWO, "b", 0, 4)], a=1, b=1)

    found = said(small, "1-10C")

    assert found.state is State.PLACED
    assert found.here is not None
    assert found.here.on == (Spot("a", 0, "a-0", 6, 1),)
    assert found.here.profiles == ("1g.10gb",)
    assert found.here.realized
    assert found.here.runner_up is not None
    assert found.here.runner_up.on[0].node == "b"
    better = found.here.runner_up.cost < found.here.cost
    assert (found.here.rank, found.here.nodes) == (2 if better else 1, 2)
    assert f"Now it costs {found.here.cost}" in text(found)
    assert found.missing is None
    assert found.room is None


def test_a_placed_pod_whose_instance_is_being_made_or_cannot_be_is_told_so() -> None:
    plan = [assignment("1", ONE, 0, pod="pod-1")]
    made = view(gpu_node("a", plan=plan))
    found = explain(Situation(request("1-10C"), {"a": made}, Ledger(), "default", "v1"))

    assert "The node's agent is making its GPU instance" in text(found)
    assert found.here is not None
    assert found.here.runner_up is None
    assert "it would fit on no other node" in text(found)


def test_what_decided_is_told_where_the_pod_is_there_still() -> None:
    small = Small.of([Vm("me", ONE, "a", 0, 6)], a=1, b=1)

    alone, beside = Then("a", 3, "", 0, "v7"), Then("a", 3, "b", 4, "v7")
    chosen = "When its node was chosen, by policy version v7, its place there cost 3"
    assert f"{chosen}, and it fitted on no other node." in text(said(small, "1-10C", then=alone))
    assert f"{chosen}; on the next best, b, it would have cost 4." in text(
        said(small, "1-10C", then=beside)
    )
    assert "was chosen" not in text(said(small, "1-10C", then=Then("b", 3, "a", 4, "v7")))


# Bounds.


def test_of_more_gpus_than_are_looked_at_nothing_is_proven() -> None:
    nodes, gpus = MOST_GPUS // 8 + 40, 8
    held = tuple(
        gpu(at, instances=(instance(FOUR, 0), instance(TWO, 4), instance(ONE, 6)))
        for at in range(gpus)
    )
    of = gpu_node(gpus=held)

    def named(name: str) -> NodeView:
        return view(replace(of, metadata=replace(of.metadata, name=name)))

    views = {f"n{at}": named(f"n{at}") for at in range(nodes)}
    situation = Situation(request("3-40C", pod="me"), views, Ledger(), "default", "v1")

    there = board(situation, Census(situation, judgements(situation)))
    found = explain(situation, most_looks=50)

    assert len(there.hosts) == OF_EACH_KIND  # they are all of one
    assert not there.whole
    assert found.room == NoMoves(3, proven=False)
    assert found.gpus == nodes * gpus
    assert "No way was found to make room" in text(found)


def test_of_more_gpus_than_are_looked_at_the_one_that_helps_is_found_wherever_it_is() -> None:
    """The others are emptier, and come first; but they are all alike, and none of them helps."""
    stuck = tuple(gpu(at, instances=(instance(FOUR, 0), instance(TWO, 4))) for at in range(8))
    of = gpu_node(gpus=stuck)
    views = {
        name: view(replace(of, metadata=replace(of.metadata, name=name)))
        for name in (f"n{at}" for at in range(MOST_GPUS // 8 + 1))
    }
    here = [Vm("x", ONE, "helps", 0, 4), Vm("big", FOUR, "helps", 0, 0)]
    full = [Vm(f"w{at}", WHOLE, "helps", at, 0) for at in range(1, 8)]
    small = Small.of([*here, *full], helps=8)
    asked = request("3-40C", pod="me")
    pods = {**small.pods, "big": Pod("helps", movable=False)}

    found = explain(Situation(asked, {**views, **small.views}, Ledger(), "default", "v1", pods))

    (move,) = moves_in(found)
    assert (move.name, move.source.node) == ("x", "helps")
    assert isinstance(found.room, Moves)
    assert found.room.fewest, "whatever was not looked at: as it is, it fits nowhere"


def test_vgpus_that_must_not_share_a_gpu_are_explained_as_filter_judges_them() -> None:
    free = Small.of([Vm("x", WHOLE, "a", 0, 0)], a=2)
    apart = replace(request("1-10C", "1-10C", pod="me"), spread=Spread.DISTINCT)
    together = replace(apart, spread=Spread.SAME)

    assert explain(free.situation(apart)).state is State.REFUSED
    assert explain(free.situation(together)).state is State.FITS


def test_whatever_there_is_an_explanation_is_a_page() -> None:
    views = {}
    for kind in range(3 * MOST_GROUPS):
        for at in range(3):
            name = f"n{kind}-{at}"
            views[name] = view(gpu_node(name, gpus=kind + 1), stale=bool(at))
    found = explain(Situation(request("7-80C", "7-80C"), views, Ledger(), "default", "v1"))

    assert len(found.groups) == MOST_GROUPS + 1
    assert sum(group.nodes for group in found.groups) == len(views)
    assert len(msgspec.json.encode(found)) < 16_384
    assert len(brief(found)) <= MOST_CHARACTERS


def test_an_explanation_survives_its_json() -> None:
    small = Small.of([Vm("x", ONE, "a", 0, 4), Vm("b", FOUR, "a", 0, 0)], a=1, b=1)
    for found in (said(small, "4-40C"), said(small, "1-10C"), said(small, "7-80C", "7-80C")):
        assert msgspec.json.decode(msgspec.json.encode(found), type=Explanation) == found


# Who may know.


def moves_of(*namespaces: str) -> Explanation:
    spot = Spot("a", 0, "a-0", 0, 1)
    moves = tuple(
        Move(each, "VirtualMachineInstance", f"vm-{each}", "1g.10gb", spot, spot)
        for each in namespaces
    )
    base = said(Small.of([], a=1), "1-10C")
    return msgspec.structs.replace(base, room=Moves(moves, (spot,), fewest=True))


@pytest.mark.parametrize("own", [True, False])
def test_vms_of_other_namespaces_are_not_named_to_who_may_not_know(own: bool) -> None:
    found = moves_of("default", "secret")

    seen = veiled(found, lambda namespace: own and namespace == "default")

    assert others(found) == {"secret"}
    assert ("vm-default" in text(seen)) is own
    assert "secret" not in msgspec.json.encode(seen).decode()
    assert "a VM you may not see (1g.10gb on node a, GPU 0, slice 0)" in text(seen)
    assert veiled(said(Small.of([], a=1), VGPU + "1-10C"), lambda _: False).room is None


@pytest.mark.parametrize("moved", [False, True], ids=["preempts", "an order of moves"])
def test_of_a_place_that_is_being_cleared_it_is_said_how_many_have_yet_to_leave_it(
    *, moved: bool
) -> None:
    small = Small.of([Vm("x", FOUR, "a", 0, 0), Vm("y", THREE, "a", 0, 4)], a=1)
    asked = request("7-80C", pod="me")
    id = f"{keys.MOVE_PREFIX}c" if moved else "c"
    claim = assignment(id, WHOLE, 0, gpu="a-0", pod=None, owner=claimant(asked.pod))
    node = small.views["a"].node
    plan = replace(node.spec, assignments=(*node.spec.assignments, claim))
    pods = {**small.pods, "x": replace(small.pods["x"], deleting=True)}
    there = {"a": view(replace(node, spec=plan))}

    found = explain(Situation(asked, there, Ledger(), "default", "v1", pods))
    other = explain(Situation(request("7-80C"), there, Ledger(), "default", "v1", pods))

    assert found.cleared == Cleared("a", pods=2, ending=1, moved=moved)
    assert "A place on node a is its own once 2 pods leave it, of which 1 is ending" in text(found)
    # An order of moves goes on with its next move meanwhile, which may be an eviction.
    assert ("nobody else is evicted for it meanwhile" in text(found)) is not moved
    assert other.cleared is None
