from __future__ import annotations

import pytest

from nodeagent.api.gpunode import Mode
from nodeagent.deviceplugin.desk import Desk, Refusal
from tests.unit.deviceplugin.node import HALF, SMALL, offer, slot

ALL = [slot(n) for n in range(7)]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def desk(clock: Clock | None = None) -> Desk:
    return Desk(Mode.VGPU_VFIO, clock=clock or Clock())


def test_before_the_first_offer_there_is_nothing_to_give() -> None:
    fresh = desk()

    assert fresh.slots(SMALL) == ()
    with pytest.raises(Refusal):
        fresh.allocate(SMALL, [slot(0)])


def test_the_expected_pods_slots_are_preferred_in_their_order() -> None:
    subject = desk()
    subject.offer = offer(5, 2)

    assert subject.preferred(SMALL, ALL, [], 2) == (slot(5), slot(2))
    assert subject.preferred(SMALL, ALL, [], 1) == (slot(5),)
    assert subject.preferred(SMALL, [slot(2), slot(3)], [], 2) == (slot(2),)


def test_what_must_be_included_is_and_comes_first() -> None:
    subject = desk()
    subject.offer = offer(5, 2)

    assert subject.preferred(SMALL, ALL, [slot(2)], 2) == (slot(2), slot(5))
    assert subject.preferred(SMALL, ALL, [slot(6)], 1) == (slot(6),)


@pytest.mark.parametrize(
    ("available", "must_include", "size"),
    [
        (ALL, [slot(0), slot(1)], 1),
        ([slot(0)], [slot(1)], 1),
        (ALL, [], -1),
    ],
    ids=["too many", "not available", "fewer than none"],
)
def test_a_preference_that_cannot_be_meant_is_refused(
    available: list[str], must_include: list[str], size: int
) -> None:
    subject = desk()
    subject.offer = offer(0, 1)

    with pytest.raises(Refusal):
        subject.preferred(SMALL, available, must_include, size)


def test_asked_again_a_slot_gives_the_same_whatever_the_order() -> None:
    subject = desk()
    subject.offer = offer(5, 2)
    first = subject.allocate(SMALL, [slot(5), slot(2)])

    assert first.envs == {
        "PCI_RESOURCE_NVIDIA_COM_NVIDIA_H100XM-1-10C": "0000:41:00.2,0000:41:00.5"
    }
    assert subject.allocate(SMALL, [slot(2), slot(5)]) == first
    subject.offer = offer(5, 2, waiting=())  # the pod has them; another container asks
    assert subject.allocate(SMALL, [slot(2), slot(5)]) == first


def test_a_slot_that_is_not_tied_is_refused_and_says_what_to_do() -> None:
    subject = desk()
    subject.offer = offer(5)

    with pytest.raises(Refusal, match="must be placed by Tangram's scheduler extender"):
        subject.allocate(SMALL, [slot(5), slot(4)])


@pytest.mark.parametrize("id", [slot(5, HALF), "x" * 100_000, "", "../../etc/passwd"])
def test_an_id_that_is_no_slot_of_the_resource_is_refused_and_not_repeated_in_full(id: str) -> None:
    subject = desk()
    subject.offer = offer(5)

    with pytest.raises(Refusal, match="is no slot of") as refusal:
        subject.allocate(SMALL, [id])
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize("ids", [[], [slot(5), slot(5)], [slot(5)] * 8])
def test_none_the_same_twice_or_more_than_there_are_is_refused(ids: list[str]) -> None:
    subject = desk()
    subject.offer = offer(5)

    with pytest.raises(Refusal):
        subject.allocate(SMALL, ids)


def test_a_tied_slot_that_the_kubelet_picked_by_itself_is_refused() -> None:
    """Its pod has ended, and the plan does not know yet."""
    subject = desk()
    subject.offer = offer(3, 5, waiting=(5,))
    subject.preferred(SMALL, [slot(3), slot(4), slot(5)], [], 2)

    with pytest.raises(Refusal, match="another pod's"):
        subject.allocate(SMALL, [slot(5), slot(3)])
    assert subject.allocate(SMALL, [slot(5)])


def test_a_slot_once_picked_in_vain_is_given_to_the_pod_it_is_tied_for_later() -> None:
    subject = desk()
    subject.offer = offer(5)
    subject.preferred(SMALL, ALL, [], 2)
    subject.offer = offer(3, 5, waiting=(3,))

    assert subject.allocate(SMALL, [slot(3)])
    subject.preferred(SMALL, [slot(3)], [], 1)
    subject.offer = offer(3, 5, waiting=())
    assert subject.allocate(SMALL, [slot(3)])


def test_a_slot_given_out_is_open_until_it_is_claimed_or_has_had_its_time() -> None:
    clock = Clock()
    subject = desk(clock)
    subject.offer = offer(3, 5)
    subject.allocate(SMALL, [slot(3), slot(5)])

    assert subject.open({}, within=2.0) == {slot(3), slot(5)}
    assert subject.open({slot(3): "uid"}, within=2.0) == {slot(5)}
    clock.now += 2.0
    assert subject.open({}, within=2.0) == frozenset()


def test_a_refused_slot_is_not_open() -> None:
    subject = desk()
    subject.offer = offer(3)
    with pytest.raises(Refusal):
        subject.allocate(SMALL, [slot(3), slot(4)])

    assert subject.open({}, within=2.0) == frozenset()
