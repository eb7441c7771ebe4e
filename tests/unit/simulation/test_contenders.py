"""Policies and imitations place as their definitions say, and their names lead to them."""

from __future__ import annotations

from collections import Counter

import pytest

from extender.packing.tables import tables
from extender.policy import Policy, PolicyName
from extender.simulation.bound import bound
from extender.simulation.chance import Chance
from extender.simulation.contenders import IMITATIONS, UnknownContender, contender
from extender.simulation.lineup import lineup
from extender.simulation.pickers import AnyPlace
from extender.simulation.question import Trials
from extender.simulation.scenario import Scenario, mixed, stage
from extender.simulation.trained import nearest
from nodeagent.api.catalog import MODELS
from tests.builders import H100

FEW = Trials(seeds=6, arrivals=6_000)
STAGE = stage(Scenario(gpus=3, gpus_per_node=2))
NAMES = [kind.name for kind in STAGE.kinds]


def placed(name: str, wanted: list[str], seed: int = 0) -> list[tuple[int, str, int] | None]:
    """Place one after the other; return (GPU, profile, start) of each, None for the refused."""
    entered = contender(name, STAGE.observed)
    board = entered.board(STAGE.fleet, STAGE.kinds)
    picker, states = entered.picker(board, seed), board.start.copy()
    found: list[tuple[int, str, int] | None] = []
    for each in wanted:
        picked = picker.pick(NAMES.index(each), states)
        if picked is None:
            found.append(None)
            continue
        gpu, slot = picked
        _, profile_id, placement = board.slots[slot]
        found.append((gpu, H100.geometry.by_id[profile_id].name, placement.start))
        states[gpu] = board.after[slot][states[gpu]]
    return found


def places(name: str, *wanted: str) -> list[tuple[int, int] | None]:
    return [None if each is None else (each[0], each[2]) for each in placed(name, list(wanted))]


def test_first_fit_takes_the_first_gpu_and_start() -> None:
    wanted = ("3g.40gb", "1g.10gb", "7g.80gb", "4g.40gb")

    assert (
        places("first-fit", *wanted) == places("dra", *wanted) == [(0, 0), (0, 4), (1, 0), (2, 0)]
    )


def test_best_fit_takes_the_fullest_gpu_and_worst_fit_the_emptiest_both_by_best_index() -> None:
    wanted = ("4g.40gb", "1g.10gb", "1g.20gb")

    assert places("best-fit", *wanted) == [(0, 0), (0, 6), (0, 4)]
    assert places("worst-fit", *wanted) == [(0, 0), (1, 6), (2, 6)]


def test_round_robin_goes_on_after_the_last_and_stays_there_after_a_refusal() -> None:
    wanted = ("1g.10gb", "4g.40gb", "7g.80gb", "7g.80gb", "1g.10gb")

    assert places("round-robin", *wanted) == [(0, 0), (1, 0), (2, 0), None, (0, 1)]


def test_hami_gives_1g_and_3g_the_highest_start_and_others_the_lowest() -> None:
    wanted = ("1g.10gb", "2g.20gb", "3g.40gb")

    assert places("hami-binpack", *wanted) == [(0, 6), (0, 0), (1, 4)]
    assert places("hami-spread", *wanted) == [(0, 6), (1, 0), (2, 4)]


def test_hamis_proposed_rule_leaves_the_longest_run() -> None:
    # A 2g at 0 or 4 (of 0, 2, 4) leaves six or four slices in a row.
    assert places("hami-2855-binpack", "2g.20gb", "1g.10gb") == [(0, 0), (0, 2)]


def test_hami_silently_gives_another_profile_with_enough_memory() -> None:
    wanted = ["7g.80gb", "7g.80gb", "2g.20gb", "4g.40gb"]

    assert placed("hami-binpack", wanted)[-1] is None
    assert placed("hami-binpack-bigger", wanted)[-1] == (2, "3g.40gb", 4)


def test_emptier_nodes_go_first_where_a_rule_looks_at_nodes() -> None:
    # Nodes: GPUs 0 and 1; GPU 2 alone. The first has more free slices until it is half full.
    wanted = ("7g.80gb", "7g.80gb", "1g.10gb")

    assert [each and each[0] for each in places("instaslice", *wanted)] == [0, 1, 2]


def test_the_driver_alone_keeps_the_most_placements() -> None:
    assert places("kubernetes-default", "3g.40gb") == [(0, 4)]


def test_any_legal_place_is_equally_likely() -> None:
    board = contender("random", STAGE.observed).board(STAGE.fleet, STAGE.kinds)
    picker = AnyPlace(board, Chance(1))
    kind = NAMES.index("2g.20gb")

    counts = Counter(picker.pick(kind, board.start) for _ in range(9_000))

    assert len(counts) == 9  # three starts on each of three GPUs
    assert min(counts.values()) > 850


def test_a_full_fleet_refuses_under_every_rule() -> None:
    for name in (*(p for p in PolicyName if p is not PolicyName.LEARNED), *IMITATIONS):
        assert placed(name, ["7g.80gb"] * 3 + ["1g.10gb"])[-1] is None, name


def test_absolute_capability_spreads_and_its_loss_packs() -> None:
    assert [each and each[0] for each in places("capability", "4g.40gb", "3g.40gb")] == [0, 1]
    assert [each and each[0] for each in places("capability-loss", "4g.40gb", "3g.40gb")] == [0, 0]


@pytest.mark.parametrize("name", [PolicyName.DEMAND_WEIGHTED, PolicyName.FGD])
def test_demand_decides_which_start_is_the_cheapest(name: PolicyName) -> None:
    # Whether a lone 1g.10gb may spoil the place of 3g (at 4) depends on whether 3g is asked for.
    geometry = H100.geometry
    (small,) = (p for p in geometry.profiles if p.name == "1g.10gb")

    starts = {
        tables(geometry, Policy(name, ((profile, 1.0),)))
        .options(geometry.empty, small)[0]
        .placement.start
        for profile in ("4g.40gb", "3g.40gb", "2g.20gb", "1g.20gb")
    }
    assert len(starts) > 1


def test_an_unknown_name_is_refused_with_all_known_ones() -> None:
    with pytest.raises(UnknownContender, match=r"'best' is none of default, .*random, repack"):
        contender("best", ())


def test_learned_uses_its_weights_only_where_the_guard_finds_them_better() -> None:
    near = stage(Scenario(mix="bimodal", arrivals=1))
    far = stage(Scenario(mix="4g.40gb=.5,3g.40gb=.5", arrivals=1))

    there = lineup(["learned"], {}, near, 0.85, FEW)
    elsewhere = lineup(["learned"], {}, far, 0.85, FEW)

    assert there.deciding["learned"] is PolicyName.LEARNED
    assert there.gains["learned"].above_zero
    assert elsewhere.deciding["learned"] is PolicyName.DEFAULT
    assert not elsewhere.gains["learned"].above_zero


def test_learned_without_weights_of_these_shapes_is_default() -> None:
    on = stage(Scenario(model="A30-24GB"))

    assert lineup(["learned"], {}, on, 0.85).deciding["learned"] is PolicyName.DEFAULT


def test_weights_serve_every_model_with_the_same_shapes() -> None:
    own = nearest(H100.geometry, STAGE.observed)
    other = nearest(MODELS["A100-40GB"].geometry, ())

    assert own is not None
    assert other is not None
    assert own.weights is not None
    assert other.weights is not None
    assert dict(other.weights.fits).keys() >= {"7g.40gb", "1g.5gb"}
    assert list(dict(own.weights.fits).values()) == list(dict(other.weights.fits).values())


@pytest.mark.parametrize(
    ("mix", "load", "requests", "slices"),
    [
        ("uniform", 0.85, 1.0, 1.0),
        ("very-small", 1.0, 0.987, 0.946),
        ("no-4g", 1.0, 0.998, 0.996),
        ("uniform", 1.2, 0.927, 0.833),
        ("very-small", 1.2, 0.925, 0.801),
    ],
)
def test_the_bound_is_the_published_one(
    mix: str, load: float, requests: float, slices: float
) -> None:
    on = stage(Scenario(mix=mix))
    kinds, shares = mixed(mix, on.fleet)
    ids = {p.id: s for kind, s in zip(kinds, shares, strict=True) if (p := kind.profiles[0])}

    found = bound(H100.geometry, ids, load)

    assert found.requests == pytest.approx(requests, abs=0.0006)
    assert found.slices == pytest.approx(slices, abs=0.0006)
