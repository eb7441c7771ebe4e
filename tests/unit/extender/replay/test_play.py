"""Records small enough to be worked out by hand, played."""

from __future__ import annotations

import msgspec
import pytest

from extender.policy import InForce, PolicyName
from extender.replay.play import events_of, play
from extender.replay.recorded import (
    Departure,
    Outcome,
    Place,
    Recorded,
    RecordedGang,
    Resident,
    Stranger,
)
from extender.request import LARGEST_GANG
from tests.replayed import FIRST_FIT, node, policy, recorded, stayed, vm, with_stays

WHOLE = "7g.80gb"


def test_a_vm_goes_where_the_policy_has_it_go() -> None:
    played = play(recorded(vm(0.0, "x", "1g.10gb")), FIRST_FIT)

    (fate,) = played.fates
    assert (fate.placed_at, fate.refused) == (0.0, "")
    assert fate.places == (Place("a", "a/0", "1g.10gb", 0),)


def test_who_finds_no_room_is_placed_when_another_leaves_and_then_stays_its_own_time() -> None:
    of = with_stays(
        recorded(vm(0.0, "x", WHOLE), vm(5.0, "y", WHOLE), vm(40.0, "z", WHOLE)),
        stayed("x", 0.0, 10.0),
        stayed("y", 12.0, 30.0),
    )

    _, y, z = play(of, FIRST_FIT).fates

    assert (y.refused, y.asked_at, y.placed_at, y.ended_at) == ("no-room", 5.0, 10.0, 28.0)
    assert (z.refused, z.placed_at) == ("", 40.0)


def test_at_one_moment_room_is_seen_before_others_come() -> None:
    of = with_stays(
        recorded(vm(0.0, "x", WHOLE), vm(1.0, "y", WHOLE), vm(10.0, "z", WHOLE)),
        stayed("x", 0.0, 10.0),
    )

    _, y, z = play(of, FIRST_FIT).fates

    assert (y.placed_at, z.placed_at, z.refused) == (10.0, None, "no-room")


def test_who_waits_is_tried_by_priority_and_then_by_when_it_came() -> None:
    of = with_stays(
        recorded(
            vm(0.0, "x", WHOLE),
            vm(1.0, "early", WHOLE),
            vm(2.0, "important", WHOLE, priority=5),
            vm(3.0, "late", WHOLE),
            vm(90.0, "end", "1g.10gb"),
        ),
        stayed("x", 0.0, 10.0),
        stayed("important", 2.0, 12.0),
        stayed("early", 1.0, 11.0),
    )

    _, early, important, late, _ = play(of, FIRST_FIT).fates

    assert (important.placed_at, early.placed_at, late.placed_at) == (10.0, 20.0, 30.0)


def test_a_small_vm_passes_a_large_one_that_has_no_room() -> None:
    of = with_stays(
        recorded(
            vm(0.0, "x", "3g.40gb"),
            vm(0.0, "y", "3g.40gb"),
            vm(1.0, "large", WHOLE),
            vm(2.0, "small", "3g.40gb"),
            vm(70.0, "end", "1g.10gb"),
        ),
        stayed("x", 0.0, 5.0),
        stayed("y", 0.0, 60.0),
    )

    *_, large, small, _ = play(of, FIRST_FIT).fates

    assert (large.placed_at, small.placed_at) == (60.0, 5.0)


def test_who_gave_up_in_the_record_gives_up() -> None:
    of = with_stays(
        recorded(vm(0.0, "x", WHOLE), vm(1.0, "y", WHOLE), vm(99.0, "end", WHOLE)),
        stayed("x", 0.0, 50.0),
    )
    of = msgspec.structs.replace(of, departures=(Departure(7.0, "y"), *of.departures))

    _, y, end = play(of, FIRST_FIT).fates

    assert (y.placed_at, y.ended_at, end.placed_at) == (None, 7.0, 99.0)


def test_a_vm_that_never_was_placed_stays_as_long_as_others_that_asked_for_the_same() -> None:
    of = with_stays(
        recorded(
            vm(0.0, "x", WHOLE),
            vm(20.0, "y", WHOLE),
            vm(30.0, "never", WHOLE),
            vm(99.0, "end", "1g.10gb"),
        ),
        stayed("x", 0.0, 4.0),
        stayed("y", 20.0, 26.0),
    )

    never = play(of, FIRST_FIT).fates[2]

    assert (never.placed_at, never.ended_at) == (30.0, 35.0)


def test_a_gang_is_placed_when_all_are_there_and_only_whole() -> None:
    pair = RecordedGang("pair", 2)
    of = recorded(
        vm(0.0, "x", WHOLE),
        vm(1.0, "one", WHOLE, gang=pair),
        vm(2.0, "two", WHOLE, gang=pair),
        vm(9.0, "end", "1g.10gb"),
        nodes=[node("a", 2)],
    )
    of = with_stays(of, stayed("x", 0.0, 5.0))

    _, one, two, _ = play(of, FIRST_FIT).fates

    assert (one.asked_at, one.refused) == (2.0, "no-room")
    assert one.placed_at == two.placed_at == 5.0
    assert {one.places[0].gpu, two.places[0].gpu} == {"a/0", "a/1"}


def test_a_gang_of_which_one_gives_up_waits_for_another_member() -> None:
    pair = RecordedGang("pair", 2)
    of = recorded(
        vm(0.0, "x", WHOLE),
        vm(1.0, "one", WHOLE, gang=pair),
        vm(2.0, "two", WHOLE, gang=pair),
        vm(8.0, "three", WHOLE, gang=pair),
        nodes=[node("a", 2)],
    )
    of = with_stays(of, stayed("x", 0.0, 5.0))
    of = msgspec.structs.replace(of, departures=(Departure(3.0, "two"), *of.departures))

    _, one, two, three = play(of, FIRST_FIT).fates

    assert two.placed_at is None
    assert one.placed_at == three.placed_at == 8.0


def test_a_gang_has_no_more_members_than_a_gang_may_have() -> None:
    pair = RecordedGang("pair", 256)
    asked = LARGEST_GANG + 1
    of = recorded(*(vm(float(at), f"vm-{at}", WHOLE, gang=pair) for at in range(asked)))

    *_, last, beyond = play(of, FIRST_FIT).fates

    assert (last.asked_at, last.placed_at) == (255.0, None)
    assert (beyond.asked_at, beyond.placed_at) == (256.0, 256.0)


def test_a_tenant_at_its_cap_waits_until_one_of_its_own_leaves() -> None:
    capped = policy(
        "tenants: [{name: red, namespaces: {matchLabels: {team: red}}, caps: {memorySlices: 4}}]"
    )
    of = recorded(
        vm(0.0, "x", "3g.40gb"),
        vm(1.0, "y", "1g.10gb"),
        vm(2.0, "other", "1g.10gb", namespace="free"),
        vm(9.0, "end", "1g.10gb", namespace="free"),
        nodes=[node("a", 4)],
        namespaces={"n": {"team": "red"}},
    )
    of = with_stays(of, stayed("x", 0.0, 5.0))

    _, y, other, _ = play(of, capped).fates

    assert (y.refused, y.placed_at) == ("over-cap", 5.0)
    assert other.refused == ""


def test_headroom_is_kept_for_whom_it_is_for() -> None:
    kept = policy("headroom: [{profile: 7g.80gb, keep: 1, releasedTo: {priority: 10}}]")
    of = recorded(
        vm(0.0, "x", "1g.10gb"), vm(1.0, "y", "1g.10gb"), vm(2.0, "z", WHOLE, priority=10)
    )

    x, _, z = play(of, kept).fates

    assert (x.refused, z.refused) == ("headroom", "")


def test_a_tenant_of_its_own_gpus_shares_none() -> None:
    alone = policy("tenants: [{name: red, namespaces: {matchLabels: {team: red}}, dedicated: gpu}]")
    of = recorded(
        vm(0.0, "x", "1g.10gb"),
        vm(1.0, "y", "1g.10gb", namespace="free"),
        namespaces={"n": {"team": "red"}},
    )

    assert play(of, alone).fates[1].refused == "not-shared"


def test_a_pool_is_told_by_the_labels_of_its_nodes() -> None:
    pooled = policy("pools: [{name: big, nodes: {matchLabels: {pool: big}}, profiles: [7g.80gb]}]")
    of = recorded(vm(0.0, "x", "1g.10gb"), nodes=[node("a", labels={"pool": "big"}), node("b")])

    assert play(of, pooled).fates[0].places[0].node == "b"


def test_a_vm_goes_only_to_the_nodes_it_could_go_to() -> None:
    of = recorded(
        vm(0.0, "x", WHOLE, nodes=("b",)),
        vm(1.0, "y", WHOLE, nodes=("b",)),
        vm(2.0, "z", WHOLE, nodes=()),
        nodes=[node("a"), node("b")],
    )

    x, y, z = play(of, FIRST_FIT).fates

    assert x.places[0].node == "b"
    assert (y.refused, z.refused) == ("no-room", "no-inventory")


def test_a_node_takes_pods_from_when_it_came_until_it_is_closed() -> None:
    of = recorded(
        vm(0.0, "x", WHOLE),
        vm(1.0, "y", WHOLE),
        vm(9.0, "z", "1g.10gb"),
        nodes=[node("a", until=8.0), node("b", since=4.0, until=8.0)],
    )

    x, y, z = play(of, FIRST_FIT).fates

    assert (x.places[0].node, y.placed_at, y.places[0].node) == ("a", 4.0, "b")
    assert z.refused == "cordoned"


def test_who_was_there_keeps_its_place_until_it_leaves() -> None:
    of = recorded(
        vm(1.0, "x", WHOLE),
        vm(9.0, "end", "1g.10gb"),
        residents=(Resident("old", "n", "old", (Place("a", "a/0", "3g.40gb", 4),)),),
        departures=(Departure(6.0, "old"),),
    )

    x, _ = play(of, FIRST_FIT).fates

    assert (x.refused, x.placed_at) == ("no-room", 6.0)


def test_slices_of_strangers_and_gpus_that_are_not_managed_are_not_given() -> None:
    gpus = node("a", 2).gpus
    taken = msgspec.structs.replace(gpus[0], occupied=(Stranger(0, 4),))
    closed = msgspec.structs.replace(gpus[1], managed=False)
    of = recorded(vm(0.0, "x", "3g.40gb"), vm(1.0, "y", "3g.40gb"), nodes=[node("a", gpus=0)])
    of = msgspec.structs.replace(
        of, nodes=(msgspec.structs.replace(of.nodes[0], gpus=(taken, closed)),)
    )

    x, y = play(of, FIRST_FIT).fates

    assert x.places == (Place("a", "a/0", "3g.40gb", 4),)
    assert y.refused == "no-room"


def test_how_full_gpus_are_is_an_exact_mean_over_time() -> None:
    of = with_stays(
        recorded(vm(0.0, "x", WHOLE), vm(20.0, "end", WHOLE), nodes=[node("a", 2)]),
        stayed("x", 0.0, 5.0),
    )

    first, second = play(of, FIRST_FIT).meter.between((0.0, 10.0, 20.0))

    assert (first.used, first.active, first.whole, first.gpus) == (4.0, 0.5, 1.5, 2.0)
    assert (second.used, second.whole, second.unusable) == (0.0, 2.0, 0.0)


def test_progress_counts_every_event_and_no_more_than_there_may_be() -> None:
    of = with_stays(
        recorded(vm(0.0, "x", WHOLE), vm(5.0, "y", WHOLE), vm(20.0, "z", WHOLE)),
        stayed("x", 0.0, 10.0),
    )
    told: list[int] = []

    play(of, FIRST_FIT, progress=told.append)

    assert sum(told) == 5 <= events_of(of)  # the second leaves, too, when the third comes


@pytest.mark.parametrize("name", [PolicyName.DEFAULT, PolicyName.WORST_FIT])
def test_several_gpus_of_one_vm_are_placed_at_once(name: PolicyName) -> None:
    of = recorded(vm(0.0, "x", WHOLE, WHOLE), vm(1.0, "y", WHOLE), nodes=[node("a", 2)])

    x, y = play(of, InForce.of(name)).fates

    assert {each.gpu for each in x.places} == {"a/0", "a/1"}
    assert y.refused == "no-room"


def test_the_first_outcome_with_places_says_since_when_a_vm_stayed() -> None:
    of = recorded(vm(0.0, "x", WHOLE), vm(99.0, "end", WHOLE))
    of = msgspec.structs.replace(
        of,
        outcomes=(
            Outcome(0.0, "x", (), "no-room"),
            Outcome(6.0, "x", (Place("a", "a/0", WHOLE, 0),)),
        ),
        departures=(Departure(10.0, "x"),),
    )

    assert play(of, FIRST_FIT).fates[0].ended_at == 4.0


def slow_to_free(freed: float | None) -> Recorded:
    """A VM leaves at 5; another of its size comes at 6, and one more at 30."""
    of = with_stays(
        recorded(vm(0.0, "x", WHOLE), vm(6.0, "y", WHOLE), vm(30.0, "end", "1g.10gb")),
        stayed("x", 0.0, 5.0),
    )
    left = msgspec.structs.replace(of.departures[0], freed=freed)
    return msgspec.structs.replace(of, departures=(left,))


@pytest.mark.parametrize(("freed", "placed"), [(None, 6.0), (5.0, 6.0), (5.5, 6.0), (9.0, 9.0)])
def test_slices_that_were_free_late_are_free_as_late(freed: float | None, placed: float) -> None:
    _, y, _ = play(slow_to_free(freed), FIRST_FIT).fates

    assert y.placed_at == placed
    assert bool(y.refused) is (placed > 6.0)


def test_a_resident_s_slices_are_free_as_late_as_they_were() -> None:
    of = recorded(
        vm(6.0, "y", WHOLE),
        vm(30.0, "end", "1g.10gb"),
        residents=(Resident("old", "n", "old", (Place("a", "a/0", WHOLE, 0),)),),
        departures=(Departure(5.0, "old", 9.0),),
    )

    y, _ = play(of, FIRST_FIT).fates

    assert y.placed_at == 9.0


def test_where_a_vm_leaves_at_another_time_its_slices_are_free_as_much_later() -> None:
    of = with_stays(
        recorded(
            vm(0.0, "first", WHOLE),
            vm(1.0, "x", WHOLE),
            vm(2.0, "y", WHOLE),
            vm(40.0, "end", "1g.10gb"),
        ),
        stayed("first", 0.0, 10.0),
        stayed("x", 1.0, 6.0),
    )
    left = tuple(
        msgspec.structs.replace(each, freed=each.at + 2.0) if each.uid == "x" else each
        for each in of.departures
    )
    of = msgspec.structs.replace(of, departures=left)

    _, x, y, _ = play(of, FIRST_FIT).fates

    assert (x.placed_at, x.ended_at, y.placed_at) == (10.0, 15.0, 17.0)
