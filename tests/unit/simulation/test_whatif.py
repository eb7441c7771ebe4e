"""What if: judged by trying everything on small fleets, and by what more GPUs may never do."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.simulation.baseline import Baseline, Gpu, Held, Node, Requests
from extender.simulation.changes import Added, Unchangeable, added
from extender.simulation.growth import TooLittle
from extender.simulation.history import History
from extender.simulation.more import More
from extender.simulation.outlook import Growing
from extender.simulation.whatif import Answer, Asked, what_if
from nodeagent.api.geometry import Occupancy, Placement, Profile
from tests.simulated import (
    H100,
    baseline,
    can_hold,
    default,
    fleets,
    gpu,
    held,
    kin,
)

SEEDS = tuple(range(5))


def asked(of: Baseline, *, adding: str = "", removing: str = "", mix: str = "") -> Answer:
    return what_if(
        of,
        Asked(
            (added(adding),) if adding else (), (removing,) if removing else (), mix, seeds=SEEDS
        ),
        default,
        "default",
    )


def more_of(answer: Answer) -> More:
    assert isinstance(answer.mix, More)
    return answer.mix


@settings(deadline=None, max_examples=15)
@given(fleets(), st.sampled_from(["H100-80GB:1", "A30-24GB:2x2", "H200-141GB:1"]))
def test_a_node_more_never_lessens_what_fits(of: Baseline, adding: str) -> None:
    before, after = asked(of), asked(of, adding=adding)

    for name, room in before.profiles.items():
        assert after.profiles[name].now >= room.now == room.before == after.profiles[name].before
        assert after.profiles[name].at_best >= room.at_best
    assert after.fleet.gpus > before.fleet.gpus
    assert not after.homeless


@settings(deadline=None, max_examples=15)
@given(fleets(), st.data())
def test_a_node_less_never_raises_what_fits_and_nobody_is_forgotten(
    of: Baseline, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from([node.name for node in of.nodes]))
    before, after = asked(of), asked(of, removing=name)

    for profile, room in before.profiles.items():
        assert after.profiles[profile].now <= room.now
        assert after.profiles[profile].at_best <= room.at_best
    assert after.wanted == before.wanted
    lost = {each: n for each, n in after.homeless.items() if n > after.displaced.get(each, 0)}
    assert not lost


def loose(of: tuple[Held, ...]) -> tuple[Held, ...]:
    """The same, all of it made by Tangram."""
    return tuple(Held(each.profile_id, each.start) for each in of)


def most_beside(there: tuple[Held, ...], profile: Profile) -> int:
    """How many of a profile alone fit beside what is there, by trying each at each place."""
    begun = H100.geometry.empty
    for each in there:
        size = H100.geometry.by_id[each.profile_id].size
        begun = H100.geometry.occupied(begun, each.profile_id, Placement(each.start, size))

    @cache
    def most(state: Occupancy) -> int:
        ways = H100.geometry.legal(state, profile)
        then = (H100.geometry.occupied(state, profile.id, placement) for placement in ways)
        return max((1 + most(after) for after in then), default=0)

    return most(begun)


@settings(deadline=None, max_examples=15)
@given(held(H100.geometry).map(loose), held(H100.geometry).map(loose))
def test_what_fits_now_and_at_best_agrees_with_trying_everything(
    one: tuple[Held, ...], other: tuple[Held, ...]
) -> None:
    answer = asked(baseline([Gpu(0, one), Gpu(0, other)]))

    there = Counter(H100.geometry.by_id[each.profile_id].name for each in (*one, *other))
    for profile in H100.geometry.profiles:
        room = answer.profiles[profile.name]
        assert room.now == most_beside(one, profile) + most_beside(other, profile)
        for count in (room.at_best, room.at_best + 1):
            wanted = there + Counter({profile.name: count})
            assert can_hold([H100.geometry] * 2, wanted) == (count == room.at_best)


@settings(deadline=None, max_examples=15)
@given(
    st.dictionaries(
        st.sampled_from(["7g.80gb", "3g.40gb", "2g.20gb", "1g.10gb"]), st.integers(0, 6)
    )
)
def test_so_many_gpus_are_needed_and_one_less_is_too_few(waiting: dict[str, int]) -> None:
    answer = asked(baseline([gpu()], requests=Requests(waiting=waiting)))

    needed = answer.gpus_needed["H100-80GB"]
    assert needed is not None
    assert can_hold([H100.geometry] * needed, waiting)
    assert not needed or not can_hold([H100.geometry] * (needed - 1), waiting)


@settings(deadline=None, max_examples=10)
@given(fleets(), st.sampled_from(["uniform", "skew-big", "very-small"]))
def test_requests_of_a_mix_fit_at_best_wherever_a_policy_places_them(
    of: Baseline, mix: str
) -> None:
    before, after = asked(of, mix=mix), asked(of, mix=mix, adding="H100-80GB:2")

    assert more_of(before).at_best_requests.mean >= more_of(before).requests.mean
    assert more_of(after).at_best_requests.mean >= more_of(before).at_best_requests.mean
    assert more_of(before).fewest <= more_of(before).requests.mean
    assert sum(more_of(before).first_refused.values()) == pytest.approx(1.0)


def test_a_mix_stops_at_the_first_request_that_finds_no_room() -> None:
    answer = asked(baseline([gpu(), gpu(("3g.40gb", 4))]), mix="3g.40gb=1")

    mix = more_of(answer)
    assert (mix.requests.mean, mix.at_best_requests.mean, mix.slices.mean) == (3.0, 3.0, 12.0)
    assert mix.first_refused == {"3g.40gb": 1.0}
    assert answer.profiles["3g.40gb"].now == 3


def test_what_stands_in_the_way_is_told_from_what_is_full() -> None:
    """Two small VMs on two GPUs: a whole one fits nowhere, and would if one of them moved."""
    answer = asked(baseline([gpu(("1g.10gb", 0)), gpu(("1g.10gb", 6))]))

    assert (answer.profiles["7g.80gb"].now, answer.profiles["7g.80gb"].at_best) == (0, 1)


def test_what_tangram_did_not_make_stays_where_it_is() -> None:
    answer = asked(baseline([gpu(("1g.10gb", 0), fixed=True), gpu(("1g.10gb", 6))]))

    assert (answer.profiles["7g.80gb"].now, answer.profiles["7g.80gb"].at_best) == (0, 0)
    assert answer.wanted == {"1g.10gb": 1}


def test_vms_of_a_removed_node_go_where_there_is_room_and_the_others_are_named() -> None:
    of = baseline([gpu(("4g.40gb", 0))], [gpu(("4g.40gb", 0), ("1g.10gb", 4))], [gpu()])

    one, two = (
        asked(of, removing="b"),
        asked(baseline(*(n.gpus for n in of.nodes[:2])), removing="b"),
    )

    assert one.displaced == two.displaced == {"4g.40gb": 1, "1g.10gb": 1}
    assert one.homeless == {}
    assert two.homeless == {"4g.40gb": 1}
    assert (one.before.gpus, one.fleet.gpus) == (3, 2)


def test_a_node_that_takes_nothing_new_is_no_room_and_its_vms_count() -> None:
    of = baseline([gpu()], Node("b", "the node is cordoned", (gpu(("7g.80gb", 0)), gpu())))

    answer = asked(of)

    assert answer.profiles["7g.80gb"].now == answer.profiles["7g.80gb"].at_best == 1
    assert answer.wanted == {"7g.80gb": 1}
    assert (answer.fleet.gpus, answer.fleet.gpus_aside, answer.fleet.ready_nodes) == (1, 2, 1)


def test_only_what_is_offered_has_room() -> None:
    of = baseline([gpu(("2g.20gb", 0))], kins=[kin(serves=("7g.80gb", "1g.10gb"))])

    answer = asked(of, mix="uniform")

    assert list(answer.profiles) == ["7g.80gb", "1g.10gb"]
    assert more_of(answer).shares == pytest.approx({"7g.80gb": 0.5, "1g.10gb": 0.5})


def test_what_no_gpu_has_is_told() -> None:
    answer = asked(baseline([gpu()], requests=Requests(waiting={"9g.90gb": 2, "1g.10gb": 1})))

    assert (answer.unserved, answer.waiting) == ({"9g.90gb": 2}, {"9g.90gb": 2, "1g.10gb": 1})
    assert answer.gpus_needed == {"H100-80GB": 1}


def test_a_model_that_lacks_a_profile_cannot_hold_it_in_any_number() -> None:
    of = baseline([gpu(("1g.10gb", 0))], kins=[kin(), kin("A30-24GB")])

    assert asked(of).gpus_needed == {"H100-80GB": 1, "A30-24GB": None}


def test_what_was_asked_for_lately_is_the_mix_where_none_is_given() -> None:
    lately = {"1g.10gb": 30.0, "7g.80gb": 10.0, "9g.90gb": 5.0}

    answer = asked(baseline([gpu()], requests=Requests(lately)))

    assert more_of(answer).shares == pytest.approx({"7g.80gb": 0.25, "1g.10gb": 0.75})


def test_nothing_is_claimed_from_a_few_requests() -> None:
    history = History().noted(0, {}).noted(20, {"1g.10gb": 5}).noted(21, {"1g.10gb": 5})

    answer = asked(baseline([gpu()], requests=Requests({"1g.10gb": 29.4}, history=history)))

    assert isinstance(answer.mix, TooLittle)
    assert isinstance(answer.growing, TooLittle)
    assert "29 requests seen of late, and 30 are needed" in answer.mix.why
    assert "29 requests seen of late, and 30 are needed" in answer.growing.why


def test_nothing_is_claimed_of_growth_from_a_few_days() -> None:
    history = History()
    for day in range(8):  # of which the last is not over: six differences
        history = history.noted(day, {"1g.10gb": 10 * day})

    answer = asked(baseline([gpu()], requests=Requests({"1g.10gb": 99.0}, history=history)))

    assert isinstance(answer.growing, TooLittle)
    assert "6 whole periods of 24 h" in answer.growing.why


def test_a_steady_growth_runs_out_on_a_day_that_can_be_reckoned() -> None:
    """One more 3g.40gb a day: of 8 places on four GPUs two are taken, so the seventh has none."""
    history = History()
    for day in range(9):
        history = history.noted(day, {"3g.40gb": day})
    of = baseline(
        [gpu(("3g.40gb", 0), ("3g.40gb", 4)), gpu(), gpu(), gpu()],
        requests=Requests({"3g.40gb": 40.0}, history=history),
    )

    growing = asked(of).growing

    assert isinstance(growing, Growing)
    assert (growing.periods, growing.slices.median, growing.slices.low) == (7, 4.0, 4.0)
    assert growing.run_out.periods.median == growing.run_out.periods.high == 7.0
    assert growing.runs_out.median == growing.runs_out.low == "2026-01-12"
    later = asked(of, adding="H100-80GB:1").growing
    assert isinstance(later, Growing)
    assert later.runs_out.median == "2026-01-14"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("H200-141GB", "MODEL:GPUSxNODES, such as H200-141GB:8x4"),
        ("H200:8x4", "no model H200; there are A100-40GB"),
        ("H200-141GB:0", "a node has 1 to 16 GPUs, not 0"),
        ("H200-141GB:17x1", "a node has 1 to 16 GPUs, not 17"),
        ("H200-141GB:8x0", "add 1 to 10000 nodes, not 0"),
        ("H200-141GB:8x-1", "MODEL:GPUSxNODES"),
    ],
)
def test_nodes_that_cannot_be_added_are_refused_with_how_it_is_said(text: str, says: str) -> None:
    with pytest.raises(Unchangeable, match=says):
        added(text)


def test_nodes_are_added_in_words() -> None:
    assert added("H200-141GB:8x4") == Added("H200-141GB", 8, 4)
    assert added("A30-24GB:2") == Added("A30-24GB", 2, 1)


def test_a_node_that_is_not_there_cannot_be_removed() -> None:
    of = baseline(Node("gpu-node-1"), Node("gpu-node-2"), Node("other"))

    with pytest.raises(Unchangeable, match="did you mean gpu-node-"):
        asked(of, removing="gpu-node-3")


def test_added_nodes_of_a_known_model_offer_what_those_there_offer() -> None:
    of = baseline([gpu()], kins=[kin(serves=("7g.80gb",))])

    assert list(asked(of, adding="H100-80GB:1").profiles) == ["7g.80gb"]
    assert asked(of, adding="H100-80GB:1").profiles["7g.80gb"].now == 2


def test_an_empty_fleet_holds_nothing() -> None:
    answer = asked(baseline([gpu(("7g.80gb", 0))]), removing="a", mix="7g.80gb=1")

    assert answer.homeless == {"7g.80gb": 1}
    assert more_of(answer).requests.mean == 0.0
    assert {room.now for room in answer.profiles.values()} == {0}
