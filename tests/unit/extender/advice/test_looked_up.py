"""What is looked up of the VMs that a plan moves: their disruption budgets, and how they move."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import cast

import msgspec
import pytest

from extender.advice import EVICTION_REFUSED, NOT_BORNE_OUT, Advice, Asked
from extender.advice.document import Obstacle, Otherwise, Outcome, Step, Who
from extender.advice.veil import namespaces, veiled
from extender.explain.explanation import Spot
from extender.moves.obstacles import NO_ROOM
from extender.service import Service
from extender.service.advising import MOST_TRIES, Advisor
from extender.service.departing import Departing
from extender.service.inquiring import AT_ONCE, MOST_LOOKED_AT
from extender.service.ports import Budget, ClusterUnavailable, EvictionRefused, Evictor
from extender.service.relocation import Prospect, Relocator
from nodeagent.api.gpunode import OwnerRef, PodRef
from tests.advised import NOW, ONE, TWO, extender
from tests.explained import Small, Vm

SEVEN = 0
DRAIN = Asked(drain=("a",))
WHOLE = Asked(headroom=(("7g.80gb", 1),))


class Migrating:
    """KubeVirt, which migrates the VMs of these names while they run, and restarts all others."""

    forbids = False
    """Whether their owners say that they are not to be moved."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.asked: list[str] = []

    async def movable(self, owner: OwnerRef) -> bool:
        return not self.forbids

    async def prospect(self, owner: OwnerRef) -> Prospect:
        self.asked.append(owner.name)
        return Prospect(owner.name in self.names)

    async def comes_back(self, owner: OwnerRef) -> bool:
        return True


class Guarded:
    """Pods with a disruption budget each, by UID: how many may go; who is *refused* may not."""

    seconds = 0.0
    """It takes so long to find out whether one is refused."""

    def __init__(self, *refused: str, **allows: int) -> None:
        self.refused = refused
        self.allows: Mapping[str, int] = allows
        self.rehearsed: list[str] = []
        self.at_once = self.most_at_once = 0

    async def budgets(self, namespaces: Collection[str]) -> Sequence[Budget]:
        return [
            Budget("default", f"of-{uid}", frozenset({uid}), allows)
            for uid, allows in self.allows.items()
            if "default" in namespaces
        ]

    async def rehearse(self, pod: PodRef) -> None:
        self.rehearsed.append(pod.uid)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.seconds)
        self.at_once -= 1
        if pod.uid in self.refused:
            raise EvictionRefused("it cannot migrate", status=429)


class Away(Guarded):
    """It cannot be found out whether somebody's eviction is refused."""

    async def rehearse(self, pod: PodRef) -> None:
        await super().rehearse(pod)
        raise ClusterUnavailable("etcd is away")


async def advised(
    small: Small | Service,
    asked: Asked = DRAIN,
    migrating: Migrating | None = None,
    guarded: Guarded | None = None,
) -> Advice:
    service = extender(small) if isinstance(small, Small) else small
    evictor, relocator = guarded or Guarded(), cast(Relocator, migrating or Migrating())
    departing = Departing(service.knowledge, cast(Evictor, evictor), relocator)
    advisor = Advisor(service.knowledge, evictor, departing, utc_now=lambda: NOW)
    return await advisor.advise(asked)


def restartable(small: Small, *names: str) -> Service:
    """The cluster, with VMs whose pods let them be stopped past their budgets."""
    service = extender(small)
    for name in names:
        facts = service.knowledge.pods[name]
        service.knowledge.pod(msgspec.structs.replace(facts, restartable=True))
    return service


async def test_a_vm_that_kubevirt_migrates_runs_on_and_costs_little() -> None:
    small = Small.of([Vm("x", TWO, "a", 0, 0)], a=1, b=1)

    (step,) = (await advised(small, migrating=Migrating("x"))).moves
    (stopped,) = (await advised(small)).moves

    assert (step.how, step.cost) == ("live-migration", 2)
    assert (stopped.how, stopped.cost) == ("eviction", 22)


async def test_a_vm_that_migrates_goes_to_another_node() -> None:
    small = Small.of([Vm("x", ONE, "a", 0, 0), Vm("y", TWO, "a", 1, 0)], a=2, b=1)
    goal = Asked(drain_gpus=("a-0",))

    (stopped,) = (await advised(small, goal)).moves
    (step,) = (await advised(small, goal, Migrating("x"))).moves

    assert stopped.target.node == "a"  # the fuller GPU
    assert (step.how, step.target.node) == ("live-migration", "b")


async def test_of_two_that_would_do_the_one_that_runs_on_moves() -> None:
    """Which of them migrates comes to be known once a plan would move it."""
    small = Small.of([Vm("x", TWO, "a", 0, 0), Vm("y", ONE, "b", 0, 0)], a=1, b=1)
    migrating = Migrating("y")

    said = await advised(small, WHOLE, migrating)

    assert [(step.vm.name, step.how) for step in said.moves] == [("y", "live-migration")]
    assert "y" in migrating.asked


async def test_one_that_runs_on_is_found_though_its_budget_was_known_to_keep_it() -> None:
    """KubeVirt keeps a budget that allows nothing of each VM that it would migrate."""
    small = Small.of([Vm("x", TWO, "a", 0, 0), Vm("y", ONE, "b", 0, 0)], a=1, b=1)
    none = Guarded(x=0, y=0)  # all are read once y may not go

    said = await advised(small, WHOLE, Migrating("x"), none)
    held = await advised(small, WHOLE, Migrating(), none)

    assert [(step.vm.name, step.how) for step in said.moves] == [("x", "live-migration")]
    assert held.outcome is Outcome.INFEASIBLE


async def test_as_far_as_possible_one_that_runs_on_leaves_though_a_budget_keeps_it() -> None:
    vms = [Vm("x", TWO, "a", 0, 0), Vm("y", ONE, "a", 0, 4), Vm("z", ONE, "a", 0, 5, movable=False)]
    small, goal = Small.of(vms, a=1, b=1), Asked(drain=("a",), as_far=True)

    said = await advised(small, goal, Migrating("x"), Guarded(x=0, y=1))
    held = await advised(small, goal, Migrating(), Guarded(x=0, y=1))

    assert {step.vm.name: step.how for step in said.moves} == {
        "x": "live-migration",
        "y": "eviction",
    }
    assert said.some_stay
    assert [step.vm.name for step in held.moves] == ["y"]


async def test_past_its_budget_a_vm_moves_only_where_its_pod_lets_it() -> None:
    small = Small.of([Vm("x", ONE, "a", 0, 0)], a=1, b=1)
    none = Guarded(x=0)

    kept = await advised(small, guarded=none)
    said = await advised(restartable(small, "x"), guarded=none)

    assert kept.outcome is Outcome.INFEASIBLE
    assert [(step.how, step.cost) for step in said.moves] == [("restart", 17)]


async def test_of_two_that_would_do_the_one_whose_eviction_is_not_refused_moves() -> None:
    small = Small.of([Vm("x", TWO, "a", 0, 0), Vm("y", ONE, "b", 0, 0)], a=1, b=1)
    guarded = Guarded("y")

    said = await advised(small, WHOLE, guarded=guarded)

    assert [(step.vm.name, step.how) for step in said.moves] == [("x", "eviction")]
    assert guarded.rehearsed == ["y", "x"], "each is asked after once"


async def test_who_would_have_to_leave_and_is_refused_is_named_and_why() -> None:
    small = Small.of([Vm("x", TWO, "a", 0, 0), Vm("y", ONE, "a", 0, 2)], a=1, b=1)

    said = await advised(small, guarded=Guarded("y"))

    assert said.outcome is Outcome.INFEASIBLE
    assert [step.vm.name for step in said.moves] == ["x"], "what comes nearest"
    assert [(each.vm and each.vm.name, each.why, each.answer) for each in said.obstacles] == [
        ("y", EVICTION_REFUSED, "it cannot migrate")
    ]


async def test_how_many_are_refused_that_might_make_room_is_told() -> None:
    small = Small.of([Vm("x", TWO, "a", 0, 0), Vm("y", ONE, "b", 0, 0)], a=1, b=1)

    said = await advised(small, WHOLE, guarded=Guarded("x", "y"))

    assert said.outcome is Outcome.INFEASIBLE
    assert [each.why for each in said.obstacles] == [
        NO_ROOM,
        "2 VMs that might be moved may not be evicted, as a dry run has shown",
    ]


async def test_past_a_refusal_a_vm_moves_only_where_its_pod_lets_it() -> None:
    small = Small.of([Vm("x", ONE, "a", 0, 0)], a=1, b=1)

    said = await advised(restartable(small, "x"), guarded=Guarded("x"))

    assert [(step.how, step.cost) for step in said.moves] == [("restart", 17)]


async def test_nobody_is_asked_after_who_runs_on_or_is_kept_by_a_budget() -> None:
    small = Small.of([Vm("x", ONE, "a", 0, 0)], a=1, b=1)
    migrates, kept = Guarded("x"), Guarded("x", x=0)

    said = await advised(small, migrating=Migrating("x"), guarded=migrates)
    held = await advised(small, guarded=kept)

    assert [step.how for step in said.moves] == ["live-migration"]
    assert held.outcome is Outcome.INFEASIBLE
    assert (migrates.rehearsed, kept.rehearsed) == ([], [])


def spread(count: int) -> Small:
    """So many nodes with a VM each, any of which would make room for a whole GPU if it went."""
    names = [f"n{number:03}" for number in range(count)]
    return Small.of(
        [Vm(f"of-{name}", ONE, name, 0, 0) for name in names], **dict.fromkeys(names, 1)
    )


async def test_where_all_are_refused_that_is_found_out_however_many_they_are() -> None:
    """As by the cluster's evictionStrategy, which no VM tells of."""
    small = spread(MOST_TRIES * MOST_LOOKED_AT + 8)
    guarded = Guarded(*small.vms)

    said = await advised(small, WHOLE, guarded=guarded)

    assert said.outcome is Outcome.INFEASIBLE
    assert sorted(guarded.rehearsed) == sorted(small.vms), "each is asked after once"


async def test_some_are_asked_after_at_once_and_no_more() -> None:
    small = Small.of([Vm(f"v{at}", ONE, "a", at // 7, at % 7) for at in range(14)], a=2, b=2)
    guarded = Guarded("v3", "v9")

    said = await advised(small, guarded=guarded)

    assert sorted(guarded.rehearsed) == sorted(small.vms)
    assert guarded.most_at_once == AT_ONCE
    assert {each.vm.name for each in said.obstacles if each.vm} == {"v3", "v9"}


async def test_once_one_cannot_be_found_out_nobody_else_is_asked_after() -> None:
    small = Small.of([Vm(f"v{at}", ONE, "a", at // 7, at % 7) for at in range(14)], a=2, b=2)
    away = Away()

    with pytest.raises(ClusterUnavailable, match="etcd is away"):
        await advised(small, guarded=away)

    assert len(away.rehearsed) == AT_ONCE


@pytest.mark.virtual_time
async def test_what_is_known_is_told_when_not_all_can_be_looked_up_in_time() -> None:
    small = spread(200)
    guarded = Guarded(*small.vms)
    guarded.seconds = 1.0

    said = await advised(small, WHOLE, guarded=guarded)

    assert (said.outcome, said.moves, said.gpus, said.digest) == (Outcome.UNKNOWN, (), (), "")
    assert (said.goals, said.nodes, said.budgets) == (tuple(WHOLE.sentences()), 200, True)
    why, refused = (each.why for each in said.obstacles)
    assert why == NOT_BORNE_OUT
    many, _, told = refused.partition(" ")
    assert told == "VMs that might be moved may not be evicted, as a dry run has shown"
    assert len(guarded.rehearsed) - AT_ONCE <= int(many) < 200


async def test_where_plan_after_plan_is_not_borne_out_that_is_told() -> None:
    """Each plan shows of one VM that it is not to be moved, and there are more VMs than plans."""
    small = spread(MOST_TRIES + 1)
    migrating = Migrating()
    migrating.forbids = True

    said = await advised(small, WHOLE, migrating)

    assert (said.outcome, said.moves) == (Outcome.UNKNOWN, ())
    assert [each.why for each in said.obstacles] == [NOT_BORNE_OUT]


async def test_why_a_vm_moves_and_not_another_is_told() -> None:
    small = Small.of([Vm("x", TWO, "a", 0, 0), Vm("y", ONE, "b", 0, 0)], a=1, b=1)

    said = await advised(small, WHOLE)

    ((step, reason),) = [(step, step.otherwise) for step in said.moves]
    assert step.vm.name == "y"
    assert reason == Otherwise(True, 0, 10, (Who("default", "VirtualMachineInstance", "x"),))


def test_who_would_move_instead_is_hidden_from_whoever_may_not_know_of_it() -> None:
    mine, theirs = Who("mine", "Pod", "x"), Who("theirs", "Pod", "y")
    on = Spot("a", 0, "GPU-0", 0, 1)
    step = Step(
        1, mine, "1g.10gb", on, on, "eviction", 10, None, Otherwise(True, 0, 1, (theirs, mine))
    )
    said = Advice(Outcome.PLAN, ("drain a",), "default", "v1", nodes=1, moves=(step,))

    assert namespaces(said) == {"mine", "theirs"}
    (told,) = veiled(said, lambda namespace: namespace == "mine").moves
    assert told.otherwise == Otherwise(True, 0, 1, (Who(), mine))


def test_what_is_said_to_the_eviction_of_a_vm_is_told_to_who_may_know_of_the_vm() -> None:
    mine, theirs = Who("mine", "Pod", "x"), Who("theirs", "Pod", "y")
    refused = tuple(
        Obstacle(EVICTION_REFUSED, who, Spot("a", 0, "GPU-0", 0, 1), answer=f"VMI {who.name}: no")
        for who in (mine, theirs)
    )
    said = Advice(Outcome.INFEASIBLE, ("drain a",), "default", "v1", nodes=1, obstacles=refused)

    told = veiled(said, lambda namespace: namespace == "mine").obstacles

    assert [(each.vm, each.why, each.answer) for each in told] == [
        (mine, EVICTION_REFUSED, "VMI x: no"),
        (Who(), EVICTION_REFUSED, ""),
    ]
