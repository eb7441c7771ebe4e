"""Making room: as few moves as an exhaustive search finds, and every one of them legal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.defrag.exact import cases, compared, hosts, layouts
from extender.packing.relocation import Host, Move
from extender.packing.room import NoRoom, Room, make_room
from extender.packing.tables import tables
from extender.policy import PolicyName
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Occupancy, Placement

GEOMETRY = MODELS["H100-80GB"].geometry
TABLES = tables(GEOMETRY, PolicyName.DEFAULT)
KNOWN = layouts(GEOMETRY)
NAMES = [profile.name for profile in GEOMETRY.profiles]


def test_it_takes_as_few_moves_as_an_exhaustive_search_finds() -> None:
    """Whoever says what would help, and the planner whose plans are carried out."""
    found = compared([*itertools.chain(*cases(pairs=250, triples=250))])

    assert found["differing"] == 0, found["first_differing"]
    assert set(found["by_moves"]) == {"0", "1", "2", "3", "none"}


def occupied(host: Host) -> Occupancy:
    return TABLES.holding((each.profile_id, each.placement) for each in host.occupants)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[Host, ...]:
    """GPUs of which some instances may not be moved."""
    gpus = hosts(TABLES, draw(st.lists(st.sampled_from(KNOWN), min_size=1, max_size=5)))
    return tuple(
        Host(
            host.uuid,
            host.tables,
            host.serves,
            tuple(each._replace(movable=draw(st.booleans())) for each in host.occupants),
        )
        for host in gpus
    )


def carried_out(fleet: Sequence[Host], room: Room, wanted: str) -> int:
    """What a plan gains, carried out move by move; nothing may be in the way of any."""
    on = [{each.id: each for each in host.occupants} for host in fleet]
    for move in room.moves:
        occupant = on[move.source][move.occupant]
        assert occupant.movable
        target = TABLES.holding((o.profile_id, o.placement) for o in on[move.target].values())
        profile = GEOMETRY.by_id[occupant.profile_id]
        assert move.placement in list(GEOMETRY.legal(target, profile))
        del on[move.source][move.occupant]
        on[move.target][move.occupant] = occupant._replace(placement=move.placement)
    profile = GEOMETRY.by_id[fleet[room.gpu].serves[wanted]]
    state = TABLES.holding((o.profile_id, o.placement) for o in on[room.gpu].values())
    assert room.placement in list(GEOMETRY.legal(state, profile))
    gain = 0
    for at, host in enumerate(fleet):
        then = TABLES.holding((o.profile_id, o.placement) for o in on[at].values())
        if at == room.gpu:
            then = GEOMETRY.occupied(then, profile.id, room.placement)
        gain += TABLES.worth(then) - TABLES.worth(occupied(host))
    return gain


@given(fleets(), st.sampled_from(NAMES))
def test_every_plan_is_legal_step_by_step_and_gains_what_it_says(
    fleet: tuple[Host, ...], wanted: str
) -> None:
    found = make_room(fleet, wanted, most_moves=3)

    if isinstance(found, Room):
        assert carried_out(fleet, found, wanted) == found.gain


@given(st.lists(st.sampled_from(KNOWN), min_size=2, max_size=4), st.sampled_from(NAMES))
def test_gpus_that_are_alike_change_nothing_but_who_moves(
    layouts: list[tuple[tuple[int, int], ...]], wanted: str
) -> None:
    once = make_room(hosts(TABLES, layouts), wanted, most_moves=2)
    again = make_room(hosts(TABLES, layouts[::-1]), wanted, most_moves=2)

    assert isinstance(once, Room) == isinstance(again, Room)
    if isinstance(once, Room) and isinstance(again, Room):
        assert len(once.moves) == len(again.moves)


def test_a_search_that_is_cut_short_proves_nothing() -> None:
    crowded = hosts(TABLES, [layout for layout in KNOWN if len(layout) == 3][:40])

    assert make_room(crowded, "7g.80gb", most_moves=3, most_looks=5) == NoRoom(proven=False)


def test_of_two_plans_the_one_that_leaves_more_is_taken() -> None:
    """On either GPU a 1g.10gb is in the way of a 4g, and may go to several places."""
    spoiled = hosts(TABLES, [((19, 0),), ((19, 0), (19, 4), (19, 5))])

    found = make_room(spoiled, "4g.40gb", most_moves=1)

    assert isinstance(found, Room)
    gains = [
        carried_out(
            spoiled, Room(gpu, Placement(0, 4), (Move(f"{gpu}/0", gpu, to, at),), 0), "4g.40gb"
        )
        for gpu in (0, 1)
        for to in (0, 1)
        for at in GEOMETRY.by_id[19].placements
        if not (occupied(spoiled[to]).mask | (0b1111 if to == gpu else 0)) & at.mask
    ]
    assert found.gain == max(gains) > min(gains)
