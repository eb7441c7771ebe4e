"""What the judge says of how it is answered whom kube-scheduler would evict."""

from __future__ import annotations

import random

import msgspec
import pytest

from extender.wire import MetaPod, MetaVictims
from nodeagent.api.gpunode import Assignment, Instance, Mode
from nodeagent.simulated.hardware import Hardware
from tests.builders import H100, VGPU, assignment, gpu, gpu_node, instance
from tests.chaos.pods import Pod
from tests.chaos.proposals import HEARD_SECONDS, Proposals, proposed

WHOLE, HALF, SMALL = 0, 9, 19  # profile ids
URGENT = Pod("urgent", "u", wants=(VGPU + "3-40C",), priority=20)
TOLD_AT = 100.0


class Asked:
    """A node with one GPU, its plan, and a process that has read that when it was written."""

    def __init__(self, *plan: tuple[str | None, int, int], foreign: Instance | None = None) -> None:
        machine = Hardware("node-1", [H100], Mode.VGPU_VFIO)
        (board,) = machine.gpus
        entries: list[Assignment] = [
            assignment(f"of-{uid}", profile, start, gpu=board.uuid, pod=uid)
            for uid, profile, start in plan
        ]
        there = [instance(profile, start) for _, profile, start in plan]
        told = tuple(there if foreign is None else [*there, foreign])
        seen = msgspec.structs.replace(gpu(0, instances=told), uuid=board.uuid)
        self.version = 7
        node = gpu_node(plan=entries, gpus=[seen], version=self.version)
        self.now = TOLD_AT + HEARD_SECONDS
        self._proposals = Proposals(
            {"node-1": node},
            {},
            {"node-1": machine},
            clock=lambda: self.now,
            read=lambda process, node, by: (7 if by >= TOLD_AT else 6, 0.0),
        )

    def kept(self, *uids: str, kept: MetaVictims | None = None, violations: int = 0) -> list[str]:
        """Return what is wrong about keeping the proposal to evict pods of these UIDs."""
        victims = MetaVictims(tuple(map(MetaPod, uids)), violations)
        answer = victims if kept is None else kept
        return [*self._proposals.answered("a_1", URGENT, {"node-1": victims}, {"node-1": answer})]


def test_a_node_is_kept_where_the_pod_fits_without_those_proposed() -> None:
    asked = Asked(("one", HALF, 0), ("two", HALF, 4))

    assert asked.kept("one") == []
    assert asked.kept("two") == []


def test_and_not_where_it_does_not() -> None:
    asked = Asked(("one", HALF, 0), ("two", SMALL, 4), ("three", SMALL, 5))

    (told,) = asked.kept("two")
    assert told.startswith("evicted in vain")
    assert asked.kept("two", "three") == []


def test_nor_where_something_foreign_would_be_left() -> None:
    asked = Asked(("one", HALF, 0), ("two", SMALL, 4), foreign=instance(SMALL, 5))

    assert asked.kept("two")
    assert asked.kept("one") == []


def test_who_has_not_heard_the_last_of_the_plan_may_answer_by_what_it_was() -> None:
    asked = Asked(("one", WHOLE, 0))
    assert asked.kept("another")

    asked.now -= 0.01
    assert asked.kept("another") == []


@pytest.mark.parametrize(
    ("kept", "violations"),
    [(MetaVictims((MetaPod("two"),)), 0), (None, 1)],
    ids=["others than those proposed", "against a disruption budget"],
)
def test_nobody_goes_whom_kube_scheduler_may_not_evict(
    kept: MetaVictims | None, violations: int
) -> None:
    asked = Asked(("one", HALF, 0), ("two", HALF, 4))

    (told,) = asked.kept("one", kept=kept, violations=violations)
    assert told.endswith("which nobody may")


def test_those_are_proposed_who_are_below_the_pod_where_they_are_bound() -> None:
    pods = [
        Pod("below", "below", node="node-1", priority=10),
        Pod("equal", "equal", node="node-1", priority=20),
        Pod("leaving", "leaving", node="node-1", deleting=True),
        Pod("waiting", "waiting"),
    ]

    drawn = [proposed(random.Random(n), URGENT, {p.uid: p for p in pods}) for n in range(50)]

    assert {tuple(each) for each in drawn} == {("node-1",)}
    assert {each["node-1"].pods for each in drawn} == {(MetaPod("below"),)}
    assert {each["node-1"].num_pdb_violations for each in drawn} == {0, 1}
