from __future__ import annotations

from nodeagent.api.gpunode import Assignment, Mode, Realized
from nodeagent.slots import (
    Ties,
    capacity,
    kept,
    recovered,
    resource_of,
    slot_name,
    tied,
    without_instance,
)
from tests.unit.nodeagent.builders import BY_PROFILE, H100, ONE, SEVEN, THREE, assignment, hardware

SMALL, HALF = BY_PROFILE[ONE], BY_PROFILE[THREE]
ROOM = {SMALL: 7, HALF: 2}
FIRST, SECOND = slot_name(SMALL, 0), slot_name(SMALL, 1)


def tie(ties: Ties, *plan: Assignment, claims: dict[str, str] | None = None) -> Ties:
    """Make one pass in which all that is planned is live."""
    held = claims or {}
    live = {each.id for each in plan}
    return tied(kept(ties, plan, held), plan, held, live=live, capacity=ROOM)


def ids(ties: Ties) -> list[str]:
    return [each.id for each in ties.realized]


def test_a_node_has_as_many_slots_as_it_could_ever_hold_instances() -> None:
    slots = capacity(hardware(2).host())

    assert slots[BY_PROFILE[ONE]] == 14
    assert slots[BY_PROFILE[THREE]] == 4
    assert slots[BY_PROFILE[SEVEN]] == 2
    assert slots[BY_PROFILE[20]] == 2  # +me: one on each GPU, though seven places would do


def test_a_container_node_counts_the_profiles_themselves() -> None:
    slots = capacity(hardware(1, mode=Mode.CONTAINER).host())

    assert slots.keys() == {
        "nvidia.com/mig-" + p.name.replace("+", ".") for p in H100.geometry.profiles
    }


def test_a_gpu_with_mig_off_brings_no_slots() -> None:
    machine = hardware(2)
    machine.gpus[0].mig_enabled = False

    assert capacity(machine.host())[SMALL] == 7


def test_a_slot_tells_its_resource() -> None:
    assert resource_of(slot_name(SMALL, 12)) == SMALL


def test_one_pod_at_a_time_waits_for_a_resource() -> None:
    a, b = assignment("a"), assignment("b", start=1)

    waiting = tie(Ties(), a, b)
    claimed = tie(waiting, a, b, claims={FIRST: "uid-a"})

    assert ids(waiting) == ["a"]
    assert ids(claimed) == ["a", "b"]


def test_the_next_follows_when_the_waiting_one_leaves_the_plan() -> None:
    a, b = assignment("a"), assignment("b", start=1)

    assert ids(tie(tie(Ties(), a, b), b)) == ["b"]


def test_nobody_is_tied_while_a_pod_may_come_for_what_it_has_lost() -> None:
    lost, b, other = assignment("a"), assignment("b", start=1), assignment("c", profile=THREE)
    live = {"b", "c"}

    waiting = tied(Ties(), (b, other), {}, live=live, capacity=ROOM, in_vain=[lost])
    after = tied(waiting, (b, other), {}, live=live, capacity=ROOM)

    assert ids(waiting) == ["c"]
    assert ids(after) == ["c", "b"]


def test_a_pod_whose_instance_goes_before_it_comes_is_not_overtaken_by_one_it_would_rob() -> None:
    a, b = assignment("a"), assignment("b", start=1)
    waiting = tie(Ties(), a, b)

    gone = tied(kept(waiting, (a, b), {}), (a, b), {}, live={"b"}, capacity=ROOM)
    still_gone = tied(kept(gone, (a, b), {}), (a, b), {}, live={"b"}, capacity=ROOM)

    assert ids(gone) == ids(still_gone) == []
    assert ids(tie(still_gone, a, b)) == ["a"]


def test_nobody_waits_for_a_pod_that_has_failed_for_want_of_its_instance() -> None:
    a, b = assignment("a"), assignment("b", start=1)
    gone = tied(tie(Ties(), a, b), (a, b), {}, live={"b"}, capacity=ROOM)

    assert ids(tie(gone, b)) == ["b"]


def test_nobody_waits_for_a_pod_that_was_served_though_its_own_instance_was_gone() -> None:
    a, b = assignment("a"), assignment("b", start=1)
    claims = {slot_name(SMALL, 5): "uid-a"}
    gone = tied(tie(Ties(), a, b), (a, b), claims, live={"b"}, capacity=ROOM)

    served = tied(kept(gone, (a, b), claims), (a, b), claims, live={"b"}, capacity=ROOM)

    assert ids(served) == ["b"]


def test_pods_that_want_different_resources_do_not_wait_for_each_other() -> None:
    a, b = assignment("a"), assignment("b", profile=THREE)

    assert ids(tie(Ties(), a, b)) == ["a", "b"]


def test_the_pod_that_has_waited_longest_comes_first() -> None:
    young = assignment("a", since="2026-01-01T00:00:02Z")
    old = assignment("b", start=1, since="2026-01-01T00:00:01Z")

    assert ids(tie(Ties(), young, old)) == ["b"]


def test_a_pod_is_tied_to_all_its_slots_or_to_none() -> None:
    pair = [
        assignment("a1", pod="a"),
        assignment("a2", pod="a", start=1),
        assignment("a3", pod="a", profile=THREE, start=4),
    ]

    half = tied(Ties(), pair, {}, live={"a1", "a3"}, capacity=ROOM)
    whole = tied(half, pair, {}, live={"a1", "a2", "a3"}, capacity=ROOM)

    assert ids(half) == []
    assert ids(whole) == ["a1", "a2", "a3"]
    assert whole.waiting() == {SMALL: (FIRST, SECOND), HALF: (slot_name(HALF, 0),)}


def test_a_pod_waiting_for_one_resource_is_not_overtaken_in_the_other() -> None:
    first = assignment("a", since="1")
    both = [
        assignment("b1", pod="b", start=1, since="2"),
        assignment("b2", pod="b", profile=THREE, since="2"),
    ]
    later = assignment("c", profile=THREE, start=4, since="3")

    assert ids(tie(Ties(), first, *both, later)) == ["a"]


def test_a_reservation_is_not_realized() -> None:
    assert ids(tie(Ties(), assignment("a", pod=None))) == []


def test_a_claimed_slot_stays_tied_though_its_assignment_left_the_plan() -> None:
    a = assignment("a")
    claims = {FIRST: "uid-a"}
    claimed = tie(tie(Ties(), a), a, claims=claims)

    removed = tie(claimed, claims=claims)

    assert ids(removed) == ["a"]
    assert ids(tie(removed)) == []


def test_a_slot_stays_tied_after_its_claim_while_the_plan_has_the_assignment() -> None:
    a, b = assignment("a"), assignment("b", start=1)
    claimed = tie(tie(Ties(), a, b), a, b, claims={FIRST: "uid-a"})

    ended = tie(claimed, a, b)

    assert ids(ended) == ["a", "b"]
    assert ended.waiting() == {SMALL: (SECOND,)}


def test_a_slot_somebody_holds_is_never_tied() -> None:
    assert tie(Ties(), assignment("a"), claims={FIRST: "uid-x"}).realized == (
        Realized("a", SECOND),
    )


def test_a_pod_waits_where_every_slot_is_taken() -> None:
    claims = {slot_name(SMALL, n): "uid-x" for n in range(7)}

    assert ids(tie(Ties(), assignment("a"), claims=claims)) == []


def test_a_slot_whose_instance_is_gone_is_counted_besides_those_there_is_room_for() -> None:
    a, b = assignment("a"), assignment("b", start=1)
    claims = {FIRST: "uid-a", SECOND: "uid-b"}
    ties = tie(tie(Ties(), a, b), a, b, claims=claims)

    assert without_instance(ties, claims, existing={"b"}) == {SMALL: 1}
    assert not without_instance(ties, {}, existing={"b"}), "nobody has it any more"


def test_a_slot_just_given_back_is_not_the_next_one_used() -> None:
    a, b = assignment("a"), assignment("b", start=1)

    assert tie(tie(Ties(), a), b).realized == (Realized("b", SECOND),)


def test_a_restarted_agent_knows_from_the_order_who_still_waits() -> None:
    a, b = assignment("a"), assignment("b", start=1)
    told = [Realized("a", FIRST), Realized("b", SECOND)]

    again = recovered(told, [a, b], {}, {})

    assert again.realized == tuple(told)
    assert again.waiting() == {SMALL: (SECOND,)}


def test_a_restarted_agent_keeps_the_tie_of_a_claim_whose_assignment_is_gone() -> None:
    again = recovered([Realized("a", FIRST)], [], {FIRST: "uid-a"}, {})

    assert ids(again) == ["a"]
    assert again.ties[0].pod_uid == "uid-a"


def test_a_restarted_agent_waits_for_no_pod_that_has_the_slot_of_one_that_is_gone() -> None:
    a, b = assignment("a"), assignment("b", start=1)
    claims = {FIRST: "uid-a"}

    again = recovered([Realized("gone", FIRST), Realized("a", SECOND)], [a], claims, {})

    assert again.waiting() == {}
    assert ids(tie(again, a, b, claims=claims)) == ["gone", "a", "b"]


def test_a_restarted_agent_drops_the_ties_of_what_is_neither_planned_nor_claimed() -> None:
    assert recovered([Realized("a", FIRST)], [], {}, {}) == Ties()


def test_slots_of_another_making_are_ignored() -> None:
    assert recovered([Realized("a", "whatever")], [assignment("a")], {}, {}) == Ties()


def test_a_slot_that_another_pod_took_is_still_its_owners() -> None:
    a, b = assignment("a"), assignment("b", start=1)
    waiting = tie(Ties(), a, b)

    taken = tie(waiting, a, b, claims={FIRST: "uid-of-a-pod-that-is-gone"})
    free_again = tie(taken, a, b)

    assert ids(taken) == ids(free_again) == ["a"]
    assert free_again.waiting() == {SMALL: (FIRST,)}


def test_a_pod_that_was_given_another_slot_keeps_nobody_waiting() -> None:
    a, b = assignment("a"), assignment("b", start=1)
    waiting = tie(Ties(), a, b)

    served = tie(waiting, a, b, claims={FIRST: "uid-of-a-thief", slot_name(SMALL, 5): "uid-a"})

    assert ids(served) == ["a", "b"]
    assert served.waiting() == {SMALL: (SECOND,)}


def test_a_slot_that_another_pod_keeps_is_not_waited_for_once_its_owner_has_left_the_plan() -> None:
    a, b = assignment("a"), assignment("b", start=1)
    taken = tie(tie(Ties(), a, b), a, b, claims={FIRST: "uid-of-a-thief"})

    left = tie(taken, b, claims={FIRST: "uid-of-a-thief"})

    assert ids(left) == ["a", "b"]
    assert left.waiting() == {SMALL: (SECOND,)}


def test_the_second_container_of_a_pod_still_waits_when_the_first_has_its_slot() -> None:
    a, b = assignment("a", pod="two"), assignment("b", start=1, pod="two")

    first = tie(tie(Ties(), a, b), a, b, claims={FIRST: "uid-two"})

    assert first.waiting() == {SMALL: (SECOND,)}
