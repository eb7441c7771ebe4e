"""What a history comes to, computed a second way."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from extender.packing.fragmentation import blocked_windows
from extender.packing.value import unusable_slices
from extender.simulation.board import Board
from extender.simulation.contenders import contender
from extender.simulation.demand import Demand
from extender.simulation.experiment import Stage
from extender.simulation.measures import PERIODS, measures
from extender.simulation.paired import difference, estimate, holm
from extender.simulation.repack import repack_test
from extender.simulation.replay import NOWHERE, History, replay
from extender.simulation.scenario import Scenario, stage
from extender.simulation.student import quantile, two_sided

WARMUP = 50


def played(**scenario: object) -> tuple[Stage, Board, Demand, History]:
    words = {"gpus": 5, "load": 1.2, "arrivals": 200, "warmup": WARMUP, **scenario}
    on = stage(Scenario(**words))  # type: ignore[arg-type]
    entered = contender("mfi", on.observed)
    board = entered.board(on.fleet, on.kinds)
    demand = on.demand(2)
    return on, board, demand, replay(board, entered.picker(board, 2), demand)


def test_only_requests_after_the_warm_up_are_counted() -> None:
    on, board, demand, history = played()

    found = measures(board, demand, history, repack_test(on.fleet, on.kinds), WARMUP)

    counted = range(WARMUP, len(demand.times))
    sizes = [on.kinds[kind].size for kind in demand.kinds]
    placed = [at for at in counted if history.gpu[at] != NOWHERE]
    assert found.requests == len(placed) / len(counted)
    assert found.slices == sum(sizes[at] for at in placed) / sum(sizes[at] for at in counted)
    assert found.rejections == len(counted) - len(placed) > 0
    for number, kind in enumerate(on.kinds):
        asked = [at for at in counted if demand.kinds[at] == number]
        assert found.kinds[kind.name].asked == len(asked)
        assert found.kinds[kind.name].accepted == len(set(asked) & set(placed))


def test_averages_over_time_are_exact() -> None:
    on, board, demand, history = played()
    geometry = on.fleet.groups[0].geometry

    found = measures(board, demand, history, repack_test(on.fleet, on.kinds), WARMUP)

    # A second way: step from change to change, looking at all GPUs each time.
    begin, end = demand.times[WARMUP], demand.times[-1]
    states = [0] * on.fleet.gpus
    sums, now = np.zeros(4), 0.0
    order = sorted(_changes(board, demand, history))
    for time, gpu, mask in [*order, (end, 0, 0)]:
        span = max(0.0, min(time, end) - max(now, begin))
        sums += span * np.array(
            [
                sum(bool(m) for m in states),
                sum(m.bit_count() for m in states) / on.fleet.memory_slices,
                sum(-unusable_slices(geometry, type(geometry.empty)(m)) for m in states if m)
                / on.fleet.gpus,
                sum(blocked_windows(geometry, m) for m in states) / on.fleet.gpus,
            ]
        )
        if time >= end:
            break
        states[gpu] ^= mask
        now = time
    expected = sums / (end - begin)
    averages = found.averages
    assert averages is not None
    assert [
        averages.active_gpus,
        averages.used,
        averages.unusable,
        averages.blocked,
    ] == pytest.approx(expected.tolist())
    assert len(found.over_time) == PERIODS
    assert np.mean([each.used for each in found.over_time]) == pytest.approx(averages.used)


def _changes(board: Board, demand: Demand, history: History) -> list[tuple[float, int, int]]:
    changes = []
    for at, gpu in enumerate(history.gpu):
        if gpu != NOWHERE:
            mask = board.slots[history.slot[at]][2].mask
            changes.append((demand.times[at], int(gpu), mask))
            changes.append((demand.times[at] + demand.lifetimes[at], int(gpu), mask))
    return changes


def test_refusals_are_labelled_by_what_ran_at_that_moment() -> None:
    on, board, demand, history = played()
    fits = repack_test(on.fleet, on.kinds)

    found = measures(board, demand, history, fits, WARMUP)

    fragmentation = 0
    for at in range(WARMUP, len(demand.times)):
        if history.gpu[at] == NOWHERE:
            live = [0] * len(on.kinds)
            live[demand.kinds[at]] += 1
            for other in range(at):
                leaves = demand.times[other] + demand.lifetimes[other]
                if history.gpu[other] != NOWHERE and leaves > demand.times[at]:
                    live[demand.kinds[other]] += 1
            fragmentation += fits(live)
    assert found.capacity is not None
    assert found.fragmentation == fragmentation > 0
    assert found.capacity + fragmentation == found.rejections
    assert found.capacity > 0


def test_waiting_is_measured_of_those_who_were_placed() -> None:
    on = stage(Scenario(gpus=1, mix="7g.80gb=1", arrivals=2, warmup=0, queueing=True))
    entered = contender("default", on.observed)
    board = entered.board(on.fleet, on.kinds)
    demand = Demand([0.0, 1.0, 30.0], [0, 0, 0], [5.0, 5.0, 1.0])
    history = replay(board, entered.picker(board, 0), demand, queueing=True)

    found = measures(board, demand, history, repack_test(on.fleet, on.kinds), 0)

    assert found.waiting is not None
    assert found.waiting.share == pytest.approx(1 / 3)
    assert found.waiting.mean == pytest.approx(4 / 3)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 19, 20, 100])
def test_students_distribution_is_scipys(freedom: int) -> None:
    for t in (0.0, 0.1, 1.0, 2.5, 7.0):
        expected = 2 * scipy.stats.t.sf(t, freedom)
        assert two_sided(t, freedom) == pytest.approx(expected, abs=1e-12)
        assert two_sided(-t, freedom) == two_sided(t, freedom)
    assert quantile(0.95, freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom))


def test_an_estimate_is_scipys_one_sample_t_test() -> None:
    values = [0.1, -0.2, 0.4, 0.3, 0.05]
    expected = scipy.stats.ttest_1samp(values, 0)
    interval = expected.confidence_interval(0.95)

    found = estimate(values)

    assert found.p == pytest.approx(expected.pvalue)
    assert found.ci95 == pytest.approx((interval.high - interval.low) / 2)
    assert not found.above_zero


def test_a_single_seed_gives_no_interval_and_equal_policies_no_difference() -> None:
    assert estimate([0.5]).ci95 is None
    assert not estimate([0.5]).above_zero
    assert (difference([1.0, 2.0], [1.0, 2.0]).p, difference([2.0, 3.0], [1.0, 2.0]).p) == (
        1.0,
        0.0,
    )


@given(st.dictionaries(st.text(min_size=1), st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: dict[str, float]) -> None:
    adjusted = holm(p_values)

    assert all(p_values[key] <= adjusted[key] <= 1 for key in p_values)
    ordered = sorted(p_values, key=lambda key: p_values[key])
    values = [adjusted[key] for key in ordered]
    assert values == sorted(values)
    assert values[0] == min(1, p_values[ordered[0]] * len(p_values))


def test_holm_adjusts_as_in_its_textbook_example() -> None:
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})

    assert adjusted == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
