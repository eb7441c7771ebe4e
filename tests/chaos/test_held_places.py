"""What the judge demands of places that are held, and of whoever comes back for them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nodeagent.api.gpunode import Assignment, OwnerRef
from tests.builders import assignment, gpu_node
from tests.chaos.holds import Holds

OWNER = OwnerRef("VirtualMachineInstance", "default", "vm-1")
SMALL = 19


def small(id: str, start: int, *, pod: str | None) -> Assignment:
    return assignment(id, SMALL, start, pod=pod, owner=OWNER)


def faults(
    *, held: Sequence[int], taken: Sequence[int], obstructed: Collection[int] = ()
) -> list[str]:
    """Return what is said when a pod is given places, *held* ones being there for its owner."""
    holds = Holds(
        60.0,
        lambda: 0.0,
        alive=lambda uid: uid != "last",
        clear=lambda entry: entry.start not in obstructed,
        together=lambda uid: False,
    )
    ran = gpu_node(plan=[small(f"h{n}", n, pod="last") for n in held])
    waits = gpu_node(plan=[small(f"h{n}", n, pod=None) for n in held])
    stays = [each for each in waits.spec.assignments if each.start not in taken]
    returned = gpu_node(plan=[*stays, *(small(f"n{n}", n, pod="next") for n in taken)])
    begun = [*holds.wrote(None, ran), *holds.wrote(ran, waits)]
    assert not begun
    return list(holds.wrote(waits, returned))


def test_who_asks_the_same_must_be_given_the_same_places() -> None:
    assert not faults(held=[0], taken=[0])
    assert faults(held=[0], taken=[3])


def test_who_asks_for_less_than_is_held_may_be_given_any_of_it() -> None:
    """Though something in the way of one leaves as much as is asked for."""
    assert not faults(held=[0, 1], taken=[0])
    assert not faults(held=[0, 1], taken=[0], obstructed=[0])


def test_nobody_must_be_given_a_place_that_something_else_is_in() -> None:
    assert not faults(held=[0, 1], taken=[2, 3], obstructed=[1])
