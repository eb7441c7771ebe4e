"""Where one request goes among the GPUs of one node."""

from __future__ import annotations

import itertools

import pytest

from extender.packing.choose import INFEASIBLE, Bin, Choice, choose, enough, precedence
from extender.packing.states import reachable
from extender.packing.tables import tables
from extender.packing.value import unusable_slices
from extender.policy import PolicyName
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from tests.builders import H100

GEOMETRY = H100.geometry
SERVES = {"7g": 0, "4g": 5, "3g": 9, "2g": 14, "1g.20": 15, "1g": 19, "1g+me": 20}


def bin(uuid: str, *held: tuple[str, int], policy: PolicyName = PolicyName.DEFAULT) -> Bin:
    taken = [(SERVES[p], Placement(s, GEOMETRY.by_id[SERVES[p]].size)) for p, s in held]
    of = tables(GEOMETRY, policy)
    return Bin(uuid, of, of.holding(taken), SERVES)


def test_an_empty_gpu_is_worth_what_the_definition_says() -> None:
    # Slice 7 is beyond 2g and 1g, slices 4..7 are beyond 4g, slices 6 and 7 beyond 2g: 4 + 2 + 1.
    assert unusable_slices(GEOMETRY, GEOMETRY.empty) == -7


def test_a_3g_goes_to_the_half_that_a_4g_cannot_use() -> None:
    choice = choose([bin("a")], ["3g"])

    assert isinstance(choice, Choice)
    assert choice.placed[0].placement == Placement(4, 4)


def test_a_1g_joins_the_gpu_that_is_already_in_use() -> None:
    choice = choose([bin("empty"), bin("used", ("1g", 6))], ["1g"])

    assert isinstance(choice, Choice)
    assert choice.placed[0].uuid == "used"


def test_first_fit_takes_the_first_gpu_and_the_first_start() -> None:
    bins = [
        bin("a", ("1g", 0), policy=PolicyName.FIRST_FIT),
        bin("b", ("3g", 4), policy=PolicyName.FIRST_FIT),
    ]

    choice = choose(bins, ["2g"])

    assert isinstance(choice, Choice)
    assert (choice.placed[0].uuid, choice.placed[0].placement.start) == ("a", 2)


def test_equal_costs_go_to_the_fuller_gpu_then_to_the_lowest_index() -> None:
    full_half = (("4g", 0),)
    choice = choose([bin("a", *full_half), bin("b", *full_half), bin("c", *full_half)], ["3g"])

    assert isinstance(choice, Choice)
    assert choice.placed[0].uuid == "a"


def test_of_equally_full_gpus_the_one_with_more_instances_is_longer_in_becoming_empty() -> None:
    one, two = bin("one", ("4g", 0)), bin("two", ("2g", 0), ("2g", 2))

    for bins in ([one, two], [two, one]):
        choice = choose(bins, ["3g"])
        assert isinstance(choice, Choice)
        assert choice.cost == cost_on(one, "3g") == cost_on(two, "3g")
        assert choice.placed[0].uuid == "two"


def test_a_fuller_gpu_comes_before_one_with_more_instances() -> None:
    fuller, more = bin("fuller", ("4g", 0), ("2g", 4)), bin("more", ("1g", 0), ("1g", 1), ("2g", 2))

    assert cost_on(fuller, "1g") != cost_on(more, "1g")
    assert precedence(fuller) > precedence(more)


def test_equal_costs_are_no_reason_to_look_at_instances_where_the_first_is_simply_taken() -> None:
    bins = [
        bin("one", ("4g", 0), policy=PolicyName.MFI),
        bin("two", ("2g", 0), ("2g", 2), policy=PolicyName.MFI),
    ]

    choice = choose(bins, ["3g"])
    assert isinstance(choice, Choice)
    assert choice.placed[0].uuid == "one"


@pytest.mark.parametrize("model", ["A30-24GB", "RTX-PRO-6000-Blackwell-96GB"])
def test_a_pair_on_a_four_slice_gpu_grows_where_two_instances_are_it(model: str) -> None:
    geometry = MODELS[model].geometry
    of = tables(geometry, PolicyName.DEFAULT)
    quarter = geometry.memory_slices // 4
    small, pair = (
        next(p for p in geometry.profiles if p.size == size and not p.limited)
        for size in (quarter, 2 * quarter)
    )
    serves = {"1g": small.id, "2g": pair.id}
    halved = [(small.id, Placement(start, quarter)) for start in (0, quarter)]
    whole = Bin("whole", of, of.holding([(pair.id, Placement(0, 2 * quarter))]), serves)
    parts = Bin("parts", of, of.holding(halved), serves)

    for wanted in ("1g", "2g"):
        choice = choose([whole, parts], [wanted])
        assert isinstance(choice, Choice)
        assert choice.placed[0].uuid == "parts", "the other one is whole again after one departure"


def cost_on(alone: Bin, wanted: str) -> int:
    choice = choose([alone], [wanted])
    assert isinstance(choice, Choice)
    return choice.cost


def test_a_media_extension_is_given_once_per_gpu() -> None:
    assert choose([bin("a", ("1g+me", 0))], ["1g+me"]) == INFEASIBLE
    assert choose([bin("a", ("1g+me", 0)), bin("b")], ["1g+me"]) != INFEASIBLE


def test_a_gpu_with_more_of_a_profile_than_it_may_have_takes_no_room_from_others() -> None:
    """So it is where somebody has claimed the place of one that another has elsewhere on it."""
    over = bin("over", ("1g+me", 0), ("1g+me", 1))

    assert enough([over, bin("free")], ["1g+me"])
    assert not enough([over], ["1g+me"])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("policy", PolicyName)
def test_a_single_choice_is_the_cheapest_legal_placement_in_every_state(
    model: str, policy: PolicyName
) -> None:
    geometry = MODELS[model].geometry
    table = tables(geometry, policy)
    for state, profile in itertools.product(reachable(geometry, table.rule.key), geometry.profiles):
        choice = choose([Bin("a", table, state, {"x": profile.id})], ["x"])
        legal = tuple(geometry.legal(state, profile))
        if not legal:
            assert choice == INFEASIBLE
            continue
        assert isinstance(choice, Choice)
        ranked = table.rule.ranked(geometry, state, profile, legal)
        costs = {placement: cost for cost, placement in ranked}
        assert choice.cost == min(costs.values()) == costs[choice.placed[0].placement]
        assert set(costs) == set(legal)


def test_a_request_that_counting_refutes_is_refuted_without_a_search() -> None:
    empty = [bin(str(index)) for index in range(8)]

    # Nine of a kind of which each GPU takes one, behind four that are easily placed anywhere.
    assert choose(empty, ["2g"] * 4 + ["1g+me"] * 9) == INFEASIBLE


HARD_BINS = [bin(str(index), ("1g", start)) for index, start in enumerate((4, 4, 1, 6))]
HARD = ["1g+me"] * 3 + ["1g.20"] + ["2g"] * 5 + ["3g"] * 3


def test_what_has_thousands_of_dead_ends_is_decided_all_the_same() -> None:
    assert choose(HARD_BINS, HARD) == INFEASIBLE
    one_less = choose(HARD_BINS, [*HARD[:-1]])
    assert isinstance(one_less, Choice)
    assert len(one_less.placed) == len(HARD) - 1
