"""What is looked up of the VMs that a plan moves: their disruption budgets, and how they move."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import cast

import msgspec

from extender.advice import Advice, Asked
from extender.advice.document import Otherwise, Outcome, Step, Who
from extender.advice.veil import namespaces, veiled
from extender.explain.explanation import Spot
from extender.service import Service
from extender.service.advising import Advisor
from extender.service.departing import Departing
from extender.service.ports import Budget, Evictor
from extender.service.relocation import Prospect, Relocator
from nodeagent.api.gpunode import OwnerRef
from tests.advised import NOW, ONE, TWO, extender
from tests.explained import Small, Vm

SEVEN = 0
DRAIN = Asked(drain=("a",))


class Migrating:
    """KubeVirt, which migrates the VMs of these names while they run, and restarts all others."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.asked: list[str] = []

    async def movable(self, owner: OwnerRef) -> bool:
        return True

    async def prospect(self, owner: OwnerRef) -> Prospect:
        self.asked.append(owner.name)
        return Prospect(owner.name in self.names)

    async def comes_back(self, owner: OwnerRef) -> bool:
        return True


class Guarded:
    """Pods with a disruption budget each, by UID: how many may go."""

    def __init__(self, **allows: int) -> None:
        self.allows: Mapping[str, int] = allows

    async def budgets(self, namespaces: Collection[str]) -> Sequence[Budget]:
        return [
            Budget("default", f"of-{uid}", frozenset({uid}), allows)
            for uid, allows in self.allows.items()
            if "default" in namespaces
        ]


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

    said = await advised(small, Asked(headroom=(("7g.80gb", 1),)), migrating)

    assert [(step.vm.name, step.how) for step in said.moves] == [("y", "live-migration")]
    assert "y" in migrating.asked


async def test_one_that_runs_on_is_found_though_its_budget_was_known_to_keep_it() -> None:
    """KubeVirt keeps a budget that allows nothing of each VM that it would migrate."""
    small = Small.of([Vm("x", TWO, "a", 0, 0), Vm("y", ONE, "b", 0, 0)], a=1, b=1)
    none = Guarded(x=0, y=0)  # all are read once y may not go

    said = await advised(small, Asked(headroom=(("7g.80gb", 1),)), Migrating("x"), none)
    held = await advised(small, Asked(headroom=(("7g.80gb", 1),)), Migrating(), none)

    assert [(step.vm.name, step.how) for step in said.moves] == [("x", "live-migration")]
    assert held.outcome is Outcome.INFEASIBLE


async def test_past_its_budget_a_vm_moves_only_where_its_pod_lets_it() -> None:
    small = Small.of([Vm("x", ONE, "a", 0, 0)], a=1, b=1)
    none = Guarded(x=0)

    kept = await advised(small, guarded=none)
    said = await advised(restartable(small, "x"), guarded=none)

    assert kept.outcome is Outcome.INFEASIBLE
    assert [(step.how, step.cost) for step in said.moves] == [("restart", 17)]


async def test_why_a_vm_moves_and_not_another_is_told() -> None:
    small = Small.of([Vm("x", TWO, "a", 0, 0), Vm("y", ONE, "b", 0, 0)], a=1, b=1)

    said = await advised(small, Asked(headroom=(("7g.80gb", 1),)))

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
