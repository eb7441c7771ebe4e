"""Advice on moves for goals that people state, on small clusters."""

from __future__ import annotations

import random
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.advice import Advice, Asked, Guard, Misstated, Setting, advise
from extender.advice.document import Outcome
from extender.advice.setting import Waiting
from extender.advice.yard import NOBODY_MAKES_IT, OF_A_GANG, SEVERAL_BUDGETS
from extender.explain.explanation import Move
from extender.ledger import Ledger
from extender.request import Gang
from nodeagent.api.gpunode import GpuNode
from tests.builders import H100, request, view
from tests.explained import RESOURCE_OF, Pod, Small, Vm

FOUR, THREE, TWO, ONE, SEVEN = 5, 9, 14, 19, 0
PROFILES = (SEVEN, FOUR, THREE, TWO, ONE)


def still() -> float:
    """Time stands still."""
    return 0.0


def setting(small: Small, **waiting: int) -> Setting:
    """A cluster in which pods of these names wait, each for a profile."""
    return Setting(
        small.views,
        Ledger(),
        small.pods,
        "default",
        "v1",
        waiting={
            ("default", name): Waiting(request(RESOURCE_OF[profile], pod=name))
            for name, profile in waiting.items()
        },
    )


def advised(small: Small | Setting, **asked: object) -> Advice:
    there = small if isinstance(small, Setting) else setting(small)
    return advise(there, msgspec.convert(asked, Asked), clock=still).advice


def names(said: Advice) -> list[str]:
    return [step.vm.name for step in said.moves]


IN_THE_WAY = Small.of(
    [Vm("big", FOUR, "a", 0, 0), Vm("x", ONE, "a", 0, 4), Vm("y", SEVEN, "b", 0, 0)], a=1, b=1
)
"""Node a has three slices free, and a VM where a 3g would go."""


def test_a_pod_is_admitted_by_the_move_that_makes_room() -> None:
    alone = advised(setting(IN_THE_WAY, me=THREE), admit=(("default", "me"),))
    beside = [*IN_THE_WAY.vms.values(), Vm("w", FOUR, "c", 0, 0), Vm("v", TWO, "c", 0, 4)]
    said = advised(setting(Small.of(beside, a=1, b=1, c=1), me=THREE), admit=(("default", "me"),))

    assert alone.outcome is Outcome.INFEASIBLE  # on its GPU, the 1g is in the way anywhere
    assert said.outcome is Outcome.PLAN
    assert (names(said), said.optimal, said.cost) == (["x"], True, 10)
    (placed,) = said.places
    assert (placed.pod.name, placed.profile, placed.on.node, placed.on.start) == (
        "name-me",
        "3g.40gb",
        "a",
        4,
    )
    changed = {(gpu.node, gpu.gpu): gpu for gpu in said.gpus}
    assert [cell.number for cell in changed["a", 0].before] == [0, 1]
    assert [cell.number for cell in changed["a", 0].after] == [0, 2]


def test_a_node_is_drained_or_what_holds_it_is_named() -> None:
    vms = [Vm("x", ONE, "a", 0, 0), Vm("stuck", TWO, "a", 1, 0, movable=False)]
    said = advised(Small.of(vms, a=2, b=1), drain=("a",))

    assert said.outcome is Outcome.INFEASIBLE
    ((holder, why),) = [(each.vm, each.why) for each in said.obstacles]
    assert holder is not None
    assert holder.name == "stuck"
    assert why == "of a VM with tangram.dev/movable: false, or with a value that is not known"
    assert (said.attained, said.asked, names(said)) == (1, 2, ["x"])

    said = advised(Small.of(vms[:1], a=2, b=1), drain=("a",))
    assert said.outcome is Outcome.PLAN
    assert [step.target.node for step in said.moves] == ["b"]


def test_as_far_as_possible_those_leave_a_node_who_can_and_the_others_are_named() -> None:
    vms = [Vm("x", ONE, "a", 0, 0), Vm("stuck", TWO, "a", 1, 0, movable=False)]
    said = advised(Small.of(vms, a=2, b=1), drain=("a",), as_far=True)

    assert (said.outcome, said.goals) == (Outcome.PLAN, ("drain a as far as possible",))
    assert said.some_stay
    assert (said.attained, said.asked, names(said)) == (1, 2, ["x"])
    assert [each.vm and each.vm.name for each in said.obstacles] == ["stuck"]

    said = advised(Small.of(vms[1:], a=2, b=1), drain=("a",), as_far=True)
    assert (said.outcome, names(said)) == (Outcome.INFEASIBLE, [])
    said = advised(Small.of(vms[:1], a=2, b=1), drain=("a",), as_far=True)
    assert (said.outcome, said.some_stay, names(said)) == (Outcome.PLAN, False, ["x"])


def test_a_node_that_is_cordoned_already_is_drained_all_the_same() -> None:
    small = Small.of([Vm("x", ONE, "a", 0, 0)], a=1, b=1)
    views = small.views
    views["a"] = msgspec.structs.replace(views["a"], cordoned=True)
    there = msgspec.structs.replace(setting(small), views=views)

    assert names(advised(there, drain=("a",))) == ["x"]
    views["b"] = msgspec.structs.replace(views["b"], stale=True)
    said = advised(msgspec.structs.replace(there, views=views), drain=("a",))
    assert said.outcome is Outcome.INFEASIBLE  # nothing new goes to b


def test_what_is_on_a_gpu_and_nobodys_holds_it() -> None:
    small = Small.of([Vm("x", ONE, "a", 0, 0)], a=1, b=1)
    views = small.views
    node: GpuNode = views["a"].node
    bare = [msgspec.structs.replace(each, owner=None) for each in node.spec.assignments]
    node = msgspec.structs.replace(
        node, spec=msgspec.structs.replace(node.spec, assignments=tuple(bare))
    )
    views["a"] = view(node)
    said = advised(msgspec.structs.replace(setting(small), views=views), drain=("a",))

    assert [each.why for each in said.obstacles] == [NOBODY_MAKES_IT]


@pytest.mark.parametrize(
    ("guards", "why"),
    [
        ((Guard("default/one", 1),), None),
        ((Guard("default/one", 0),), "the PodDisruptionBudget default/one allows no disruption"),
        ((Guard("default/one", 1), Guard("default/other", 1)), SEVERAL_BUDGETS),
    ],
)
def test_disruption_budgets_are_kept(guards: tuple[Guard, ...], why: str | None) -> None:
    there = setting(Small.of([Vm("x", ONE, "a", 0, 0)], a=1, b=1))
    there = msgspec.structs.replace(there, guards={"x": guards}, guarded=True)
    said = advised(there, drain=("a",))

    assert said.budgets
    assert [each.why for each in said.obstacles] == ([] if why is None else [why])


def test_members_of_a_gang_stay_where_they_are_placed_together() -> None:
    there = setting(Small.of([Vm("x", ONE, "a", 0, 0)], a=1, b=1))
    gang = Gang("default", "g", 2)
    asked = msgspec.structs.replace(request(RESOURCE_OF[ONE], pod="x"), gang=gang)
    there = msgspec.structs.replace(there, pods={"x": Pod("a", asked=asked)})
    said = advised(there, drain=("a",))

    assert [each.why for each in said.obstacles] == [OF_A_GANG]


def test_headroom_is_asked_for_by_profile() -> None:
    small = Small.of([Vm("x", ONE, "a", 0, 0), Vm("y", ONE, "b", 0, 0)], a=1, b=1)
    said = advised(small, headroom=(("7g.80gb", 1),))

    assert said.outcome is Outcome.PLAN
    assert len(said.moves) == 1
    assert [(each.pod.name, each.profile) for each in said.places] == [("", "7g.80gb")]
    said = advised(small, headroom=(("9g.100gb", 1),))
    assert [(each.what, each.missing) for each in said.obstacles] == [("room for 9g.100gb", 1)]


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"admit": (("default", "nobody"),)}, "default/nobody"),
        ({"drain": ("nowhere",)}, "nowhere"),
        ({"drain_gpus": ("GPU-none",)}, "GPU-none"),
    ],
)
def test_what_is_not_known_is_said_to_be_unknown(asked: Mapping[str, object], what: str) -> None:
    said = advised(IN_THE_WAY, **asked)

    assert said.outcome is Outcome.INFEASIBLE
    assert [each.what for each in said.obstacles] == [what]


def test_a_pod_goes_only_to_nodes_it_may_go_to() -> None:
    small = Small.of([Vm("x", ONE, "a", 0, 0)], a=1, b=1)
    waiting = Waiting(request(RESOURCE_OF[SEVEN], pod="me"), frozenset({"a"}))
    there = msgspec.structs.replace(setting(small), waiting={("default", "me"): waiting})
    said = advised(there, admit=(("default", "me"),))

    assert names(said) == ["x"]
    assert said.places[0].on.node == "a"


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_every_step_of_advice_can_be_made(seed: int) -> None:
    """Carried out by those who know nothing of planning, the goal is attained."""
    chance = random.Random(seed)
    small = random_small(chance)
    if chance.random() < 0.5:
        said = advised(small, drain=("a",))
    else:
        said = advised(small, headroom=(("7g.80gb", 1),))
    if said.outcome is not Outcome.PLAN:
        return
    now = small
    for step in said.moves:
        now = now.moved(
            Move(
                step.vm.namespace,
                step.vm.kind,
                step.vm.name,
                step.profile,
                step.source,
                step.target,
            )
        )
    if said.places:
        assert all(now.free(place.on) for place in said.places)
    else:
        assert not [vm for vm in now.vms.values() if vm.node == "a"]


def random_small(chance: random.Random) -> Small:
    gpus = {"a": 1, "b": 2, "c": 1}
    small = Small.of([], **gpus)
    for at in range(chance.randint(2, 8)):
        profile_id = chance.choice(PROFILES[1:])
        node = chance.choice(list(gpus))
        for start in chance.sample(range(7), 7):
            vm = Vm(f"vm{at}", profile_id, node, chance.randrange(gpus[node]), start)
            if fits(small, vm):
                small = Small.of([*small.vms.values(), vm], **gpus)
                break
    return small


def fits(small: Small, vm: Vm) -> bool:

    if vm.placement not in H100.geometry.by_id[vm.profile_id].placements:
        return False
    return not any(
        (each.node, each.gpu) == (vm.node, vm.gpu) and each.placement.mask & vm.placement.mask
        for each in small.vms.values()
    )


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({}, "no goal is given"),
        ({"admit": ["vm"]}, "NAMESPACE/POD"),
        ({"headroom": ["3g.40gb"]}, "COUNTxPROFILE"),
        ({"headroom": ["0x3g.40gb"]}, "COUNTxPROFILE"),
        ({"empty-gpus": ["-1"]}, "a whole number up to 1000"),
        ({"empty-nodes": ["1001"]}, "a whole number up to 1000"),
        ({"drain": [""]}, "that is no name"),
        ({"drain": ["x" * 300]}, "that is no name"),
        ({"drain": ["n"] * 300}, "name at most 256"),
        ({"drain": ["n"], "as-far-as-possible": ["yes"]}, "write true or false"),
        (
            {"drain": ["n"], "empty-gpus": ["1"], "as-far-as-possible": ["true"]},
            "no goal but drain",
        ),
        ({"apply": ["true"]}, "'apply' is none of"),
    ],
)
def test_goals_that_cannot_be_read_say_how_they_are_written(
    query: dict[str, list[str]], says: str
) -> None:
    with pytest.raises(Misstated, match=says):
        Asked.of(query)


@pytest.mark.parametrize(
    "asked",
    [
        Asked((("default", "vm"),), (("3g.40gb", 2),), 1, 2, ("node",), ("GPU-1",), most_moves=0),
        Asked(drain=("node",), drain_gpus=("GPU-1",), as_far=True),
    ],
)
def test_goals_survive_the_way_through_a_query(asked: Asked) -> None:
    query: dict[str, list[str]] = {}
    for key, value in asked.query():
        query.setdefault(key, []).append(value)

    assert Asked.of(query) == asked
