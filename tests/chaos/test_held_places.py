"""What the judge demands of places that are held, and of whoever comes back for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from nodeagent.api.gpunode import Assignment, OwnerRef
from tests.builders import assignment, gpu_node
from tests.chaos.holds import Holds

OWNER = OwnerRef("VirtualMachineInstance", "default", "vm-1")
SMALL = 19


def small(id: str, start: int, *, pod: str | None) -> Assignment:
    return assignment(id, SMALL, start, pod=pod, owner=OWNER)


def faults(
    *,
    held: Sequence[int],
    taken: Mapping[str, Sequence[int]],
    before: Mapping[str, Sequence[int]] | None = None,
    obstructed: Collection[int] = (),
    holder: str = "a",
    giver: str = "a",
) -> list[str]:
    """Return what is said when pods (UID) are given places, *held* ones being there for the owner.

    They are held by one process, and given by one, which may be another. What the pods had *before*
    the places were held leaves the plan as they are given these.
    """
    holds = Holds(
        60.0,
        lambda: 0.0,
        alive=lambda uid: uid != "last",
        clear=lambda entry: entry.start not in obstructed,
        together=lambda uid: False,
    )
    had = [small(f"b{n}", n, pod=uid) for uid, starts in (before or {}).items() for n in starts]
    ran = gpu_node(plan=[*had, *(small(f"h{n}", n, pod="last") for n in held)])
    waits = gpu_node(plan=[*had, *(small(f"h{n}", n, pod=None) for n in held)])
    given = [small(f"n{n}", n, pod=uid) for uid, starts in taken.items() for n in starts]
    starts = {each.start for each in given}
    stays = [e for e in waits.spec.assignments if e.start not in starts and e not in had]
    returned = gpu_node(plan=[*stays, *given])
    begun = [*holds.wrote(None, ran, holder), *holds.wrote(ran, waits, holder)]
    assert not begun
    return list(holds.wrote(waits, returned, giver))


def test_who_asks_the_same_must_be_given_the_same_places() -> None:
    assert not faults(held=[0], taken={"next": [0]})
    assert faults(held=[0], taken={"next": [3]})


def test_who_asks_for_less_than_is_held_may_be_given_any_of_it() -> None:
    """Though something in the way of one leaves as much as is asked for."""
    assert not faults(held=[0, 1], taken={"next": [0]})
    assert not faults(held=[0, 1], taken={"next": [0]}, obstructed=[0])


def test_nobody_must_be_given_a_place_that_something_else_is_in() -> None:
    assert not faults(held=[0, 1], taken={"next": [2, 3]}, obstructed=[1])


def test_of_several_that_ask_the_same_at_once_one_must_be_given_the_place() -> None:
    assert not faults(held=[0], taken={"next": [0], "next but one": [3]})
    assert len(faults(held=[0], taken={"next": [2], "next but one": [3]})) == 1


def test_who_held_a_pods_place_for_the_next_must_not_place_that_pod_again() -> None:
    (said,) = faults(held=[0], taken={"last": [0]})
    assert said.startswith("placed when over")
    assert faults(held=[0], taken={"last": [3], "next": [0]})
    # Its successor may not have read that it has ended, and believes kube-scheduler.
    assert not faults(held=[0], taken={"last": [0]}, holder="a", giver="b")


def test_who_has_the_same_place_by_another_id_was_given_it_before_the_other_was_held() -> None:
    assert not faults(held=[0], taken={"next": [2]}, before={"next": [2]})
    assert faults(held=[0], taken={"next": [3]}, before={"next": [2]})
