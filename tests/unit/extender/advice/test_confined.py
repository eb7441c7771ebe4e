"""VMs go where kube-scheduler would let their pods run, and it is told where it would not."""

from __future__ import annotations

import random
from collections.abc import Mapping

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.advice import Advice, Asked
from extender.advice.confined import MOST_CHECKS, MOST_KINDS, NOWHERE, TOO_MANY, UNTOLD, Confined
from extender.advice.document import Outcome
from extender.advice.yard import yard
from extender.kubescheduler.eligible import (
    Constraints,
    Requirement,
    Taint,
    Term,
    Toleration,
    Traits,
)
from extender.moves.obstacles import NO_ROOM
from tests.explained import Small, Vm
from tests.unit.extender.advice.test_advice import FOUR, ONE, SEVEN, THREE, advised, setting

RESERVED = Taint("gpu", "reserved", "NoSchedule")
TOLERANT = Constraints(tolerations=(Toleration("gpu", "Exists"),))
ZONE_A = Constraints(selector=(("zone", "a"),))
TOLD = "taint gpu=reserved:NoSchedule is not tolerated"

SPARE = Small.of([Vm("x", ONE, "a", 0, 4), Vm("full", SEVEN, "c", 0, 0)], a=1, b=1, c=1)
"""Only on node b there is room for anything that leaves node a."""


def confined(
    small: Small,
    *,
    tainted: Mapping[str, Taint],
    pods: Mapping[str, Constraints] | None = None,
    labels: Mapping[str, dict[str, str]] | None = None,
    waits: Mapping[str, int] | None = None,
    **asked: object,
) -> Advice:
    traits = {
        name: Traits(
            name, (labels or {}).get(name, {}), (tainted[name],) if name in tainted else ()
        )
        for name in small.gpus
    }
    there = msgspec.structs.replace(
        setting(small, **(waits or {})), constraints=pods or {}, traits=traits
    )
    return advised(there, **asked)


def targets(said: Advice) -> dict[str, str]:
    return {step.vm.name: step.target.node for step in said.moves}


def test_a_vm_is_not_moved_to_a_node_whose_taint_its_pod_does_not_tolerate() -> None:
    open_to_all = confined(SPARE, tainted={}, drain=("a",))
    barred = confined(SPARE, tainted={"b": RESERVED}, drain=("a",))
    tolerant = confined(SPARE, tainted={"b": RESERVED}, pods={"x": TOLERANT}, drain=("a",))

    assert targets(open_to_all) == targets(tolerant) == {"x": "b"}
    assert (barred.outcome, barred.moves) == (Outcome.INFEASIBLE, ())
    (why_not,) = barred.obstacles
    assert why_not.vm is not None
    assert (why_not.vm.name, why_not.why) == (
        "x",
        f"{NO_ROOM}; its pod may not run on all nodes (b: {TOLD})",
    )


def test_another_node_is_chosen_where_there_is_one() -> None:
    beside = Small.of(SPARE.vms.values(), a=1, b=1, c=1, d=1)

    said = confined(beside, tainted={"b": RESERVED}, drain=("a",))

    assert (said.outcome, targets(said)) == (Outcome.PLAN, {"x": "d"})


def test_a_vm_that_may_run_nowhere_else_stays_and_it_is_told_why() -> None:
    tainted = {"b": RESERVED, "c": RESERVED}
    only = Constraints(selector=(("zone", "a"),), tolerations=TOLERANT.tolerations)

    taints = confined(SPARE, tainted=tainted, drain=("a",))
    label = confined(SPARE, tainted={}, pods={"x": only}, drain=("a",))

    assert [each.why for each in taints.obstacles] == [NOWHERE.format(f"b, c: {TOLD}")]
    assert [each.why for each in label.obstacles] == [
        NOWHERE.format("b, c: its nodeSelector does not match")
    ]


def test_to_a_cordoned_node_nobody_is_moved_whatever_is_tolerated() -> None:
    taint = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")
    there = setting(SPARE)
    views = {**there.views, "b": msgspec.structs.replace(there.views["b"], cordoned=True)}
    pods = {"x": Constraints(tolerations=(Toleration(operator="Exists"),))}
    traits = {"b": Traits("b", taints=(taint,))}
    cordoned = msgspec.structs.replace(there, views=views, constraints=pods, traits=traits)

    said = advised(cordoned, drain=("a",))

    assert (said.outcome, [each.why for each in said.obstacles]) == (Outcome.INFEASIBLE, [NO_ROOM])


def test_a_vm_goes_where_its_node_selector_matches() -> None:
    two = Small.of([Vm("x", ONE, "a", 0, 0), Vm("y", ONE, "a", 0, 1)], a=1, b=1, c=1)
    zones = {"b": {"zone": "a"}, "c": {"zone": "b"}}
    pods = {"x": ZONE_A, "y": Constraints(selector=(("zone", "b"),))}

    said = confined(two, tainted={}, pods=pods, labels=zones, drain=("a",))

    assert (said.outcome, targets(said)) == (Outcome.PLAN, {"x": "b", "y": "c"})


def test_within_its_own_node_a_vm_may_move_that_is_bound_to_it() -> None:
    small = Small.of([Vm("x", ONE, "a", 0, 0)], a=2, b=1)
    mine = {"a": {"kubernetes.io/hostname": "a"}}
    pinned = {"x": Constraints(selector=(("kubernetes.io/hostname", "a"),))}

    said = confined(small, tainted={}, pods=pinned, labels=mine, drain_gpus=("a-0",))

    assert (said.outcome, targets(said)) == (Outcome.PLAN, {"x": "a"})


def test_for_a_pod_that_waits_it_is_told_which_vms_may_not_make_room() -> None:
    small = Small.of(
        [Vm("big", FOUR, "a", 0, 0), Vm("x", ONE, "a", 0, 4), Vm("w", FOUR, "b", 0, 0)], a=1, b=1
    )
    asked = {"waits": {"me": THREE, "you": THREE}, "admit": (("default", "me"), ("default", "you"))}

    free = confined(small, tainted={}, **asked)  # type: ignore[arg-type]
    barred = confined(small, tainted={"a": RESERVED, "b": RESERVED}, **asked)  # type: ignore[arg-type]

    assert free.outcome is barred.outcome is Outcome.INFEASIBLE
    assert "may not run" not in " ".join(each.why for each in free.obstacles)
    assert barred.obstacles[-1].why == (
        f"3 VMs that might be moved may not run on all nodes (a, b: {TOLD})"
    )


def test_a_pod_of_which_too_much_is_said_stays() -> None:
    said = confined(SPARE, tainted={}, pods={"x": Constraints(unread=True)}, drain=("a",))

    (why_not,) = said.obstacles
    assert "more than is looked at" in why_not.why


def test_as_many_kinds_of_vms_are_told_apart_as_a_plan_is_made_for_the_commonest_first() -> None:
    nodes = [f"n{at:03}" for at in range(MOST_KINDS + 3)]
    common = Constraints(selector=(("name", nodes[-1]),))
    traits = {name: Traits(name, {"name": name}) for name in nodes}
    rare = {name: Constraints(selector=(("name", name),)) for name in nodes[:-1]}
    pods = {**rare, "one": common, "two": common}

    found = Confined(pods, traits, [*pods, "free"], nodes)

    assert found.kept_from("free").stays == found.kept_from("one").stays == ""
    assert found.kept_from("one").nodes == frozenset(nodes[:-1])
    stays = [found.kept_from(name).stays for name in rare]
    assert (stays.count(""), stays.count(TOO_MANY)) == (MOST_KINDS - 1, len(rare) - MOST_KINDS + 1)


def test_vms_on_what_is_to_be_drained_come_first_where_too_many_are_pinned() -> None:
    """Each of forty nodes has two VMs that may run nowhere else: these are the ones that stay."""
    pinned = [f"p{at:02}" for at in range(40)]
    vms = [Vm(f"{name}-{at}", SEVEN, name, at, 0) for name in pinned for at in range(2)]
    leave = [Vm("x", ONE, "a", 0, 0), Vm("y", ONE, "a", 0, 1)]
    small = Small.of([*vms, *leave], a=1, b=1, c=1, **dict.fromkeys(pinned, 2))
    alone = {name: Constraints(selector=(("name", name),)) for name in pinned}
    pods = {
        **{vm.name: alone[vm.node] for vm in vms},
        "x": ZONE_A,
        "y": Constraints(selector=(("zone", "b"),)),
    }
    labels = {**{name: {"name": name} for name in pinned}, "b": {"zone": "a"}, "c": {"zone": "b"}}

    node = confined(small, tainted={}, pods=pods, labels=labels, drain=("a",))
    gpu = confined(small, tainted={}, pods=pods, labels=labels, drain_gpus=("a-0",))

    assert (node.outcome, targets(node)) == (Outcome.PLAN, {"x": "b", "y": "c"})
    assert (gpu.outcome, targets(gpu)) == (Outcome.PLAN, {"x": "b", "y": "c"})


def test_nothing_is_proven_impossible_while_vms_stay_for_there_are_too_many_kinds() -> None:
    def asked(many: int) -> Advice:
        pinned = [f"p{at:02}" for at in range(many)]
        vms = [Vm(f"of-{name}", SEVEN, name, 0, 0) for name in pinned]
        small = Small.of(vms, **dict.fromkeys(pinned, 1))
        pods = {f"of-{name}": Constraints(selector=(("name", name),)) for name in pinned}
        labels = {name: {"name": name} for name in pinned}
        waits = {"me": SEVEN}
        admit = (("default", "me"),)
        return confined(small, tainted={}, pods=pods, labels=labels, waits=waits, admit=admit)

    few, many = asked(MOST_KINDS), asked(MOST_KINDS + 2)

    assert (few.outcome, many.outcome) == (Outcome.INFEASIBLE, Outcome.UNKNOWN)
    assert UNTOLD not in " ".join(each.why for each in few.obstacles)
    assert many.obstacles[-1].why == f"2 VMs that might be moved are taken to stay: {UNTOLD}"


@given(st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=20)
def test_kinds_are_named_alike_whatever_comes_first(chance: random.Random) -> None:
    """Or the same plan would be told by another digest, and not be applied."""
    nodes = [f"n{at:02}" for at in range(MOST_KINDS + 2)]
    pods = {name: Constraints(selector=(("name", name),)) for name in nodes}
    traits = {name: Traits(name, {"name": name}) for name in nodes}
    one = Confined(pods, traits, nodes, nodes)
    chance.shuffle(nodes)

    other = Confined(pods, traits, nodes, chance.sample(nodes, len(nodes)))

    assert all(one.kept_from(name) == other.kept_from(name) for name in nodes)
    numbers = sorted(other.kept_from(name).number for name in nodes)
    assert numbers == [0, 0, *range(1, MOST_KINDS + 1)]


def test_the_problem_is_the_same_whatever_node_and_pod_is_looked_at_first() -> None:
    two = Small.of([Vm("x", ONE, "a", 0, 0), Vm("y", ONE, "a", 0, 1)], a=1, b=1, c=1)
    pods = {"x": ZONE_A, "y": Constraints(selector=(("zone", "b"),))}
    traits = {"b": Traits("b", {"zone": "a"}), "c": Traits("c", {"zone": "b"})}
    there = msgspec.structs.replace(setting(two), constraints=pods, traits=traits)
    turned = msgspec.structs.replace(
        there,
        views=dict(list(there.views.items())[::-1]),
        pods=dict(list(there.pods.items())[::-1]),
    )

    one, other = (yard(each, Asked(drain=("a",))).problem.hosts for each in (there, turned))

    assert {each.uuid: (each.serves, each.occupants) for each in one} == {
        each.uuid: (each.serves, each.occupants) for each in other
    }


def test_vms_that_are_kept_from_the_same_nodes_share_one_set_and_who_stays_has_none() -> None:
    nodes = [f"n{at}" for at in range(4)]
    traits = {name: Traits(name, {"zone": "a" if at < 2 else "b"}) for at, name in enumerate(nodes)}
    named = Requirement("zone", "In", ("a",))
    pods = {
        "x": ZONE_A,
        "y": Constraints(terms=(Term((named,)),)),
        "z": Constraints(selector=(("zone", "c"),)),
    }

    found = Confined(pods, traits, pods, nodes)

    x, y, z = (found.kept_from(name) for name in pods)
    assert x.nodes is y.nodes
    assert (x.nodes, x.number, y.number) == (frozenset(nodes[2:]), 1, 1)
    assert x.told != y.told
    assert (z.nodes, z.number, z.stays != "") == (frozenset(), 0, True)


def test_of_what_pods_say_no_more_is_looked_at_than_there_is_time_for() -> None:
    """The commonest first."""
    nodes = [f"n{at}" for at in range(100)]
    taints = {name: Traits(name, taints=(RESERVED,)) for name in nodes}
    long = (*TOLERANT.tolerations, *[Toleration("other")] * (MOST_CHECKS // 100 - 3))
    alike, rare = Constraints(tolerations=long), Constraints(tolerations=TOLERANT.tolerations)
    pods = {"a": rare, "b": alike, "c": alike}

    found = Confined(pods, taints, [*pods, "x", "y", "z"], nodes)

    assert found.kept_from("a").stays == TOO_MANY
    assert found.kept_from("b").stays == ""
    assert found.kept_from("x").stays.startswith("of a VM whose pod may run on no node")


def test_the_commonest_reasons_are_told_with_some_of_the_nodes() -> None:
    nodes = {
        **{f"a{at}": Traits(f"a{at}", taints=(RESERVED,)) for at in range(5)},
        **{f"b{at}": Traits(f"b{at}") for at in range(2)},
        **{
            f"c{at}": Traits(f"c{at}", taints=(Taint(f"{at}", "", "NoExecute"),)) for at in range(3)
        },
        "z": Traits("z", {"zone": "a"}),
    }

    found = Confined({"x": ZONE_A}, nodes, ["x"], list(nodes))

    assert found.kept_from("x").told == (
        f"a0, a1 and 3 more: {TOLD}; b0, b1: its nodeSelector does not match;"
        " c0: taint 0:NoExecute is not tolerated; and 2 more for other reasons"
    )
    assert found.kept_from("x").nodes == nodes.keys() - {"z"}
