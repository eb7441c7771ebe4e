"""Demand: reproducible, paired, and of the rates and laws that were asked for."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import pytest

from extender.simulation.chance import Chance
from extender.simulation.lifetimes import UnknownLifetime, lifetime
from extender.simulation.mixes import NAMED, UnknownMix
from extender.simulation.scenario import Scenario, UnknownModel, stage
from extender.simulation.traces import MalformedTrace, Rule, kind_for, recorded

HEADER = "name,num_gpu,gpu_milli,creation_time,deletion_time\n"


def test_the_generator_gives_the_numbers_of_its_definition() -> None:
    mask, state = 2**64 - 1, (5 * 0x9E3779B97F4A7C15 + 77) % 2**64
    expected = []
    for _ in range(11):
        state ^= state << 13 & mask
        state ^= state >> 7
        state ^= state << 17 & mask
        expected.append((state * 2685821657736338717 % 2**64 >> 11) / 2**53)

    chance = Chance(5)

    assert [chance.uniform() for _ in range(3)] == expected[8:]


@pytest.mark.parametrize("law", ["exponential", "uniform", "lognormal:1.0"])
def test_every_law_of_lifetimes_has_mean_one(law: str) -> None:
    chance, draw = Chance(1), lifetime(law)

    assert statistics.fmean(draw(chance) for _ in range(40_000)) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("text", ["", "normal", "lognormal", "lognormal:0", "exponential:2"])
def test_an_unknown_law_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(UnknownLifetime, match="exponential, uniform, lognormal:SIGMA"):
        lifetime(text)


@pytest.mark.parametrize("mix", NAMED)
def test_demand_has_the_mix_and_the_load_that_were_asked_for(mix: str) -> None:
    on = stage(Scenario(mix=mix, load=0.9, arrivals=20_000, warmup=0))
    demand = on.demand(1)

    counts = [demand.kinds.count(kind) / 20_000 for kind in range(len(on.kinds))]
    assert counts == pytest.approx(on.shares, abs=0.01)
    assert dict(zip((k.size for k in on.kinds), on.shares, strict=True)).keys() == {8, 4, 2, 1}
    held = sum(
        on.kinds[kind].size * life
        for kind, life in zip(demand.kinds, demand.lifetimes, strict=True)
    )
    assert held / demand.times[-1] / 800 == pytest.approx(0.9, rel=0.05)


def test_a_seed_brings_the_same_requests_whatever_else_differs() -> None:
    one = stage(Scenario(gpus=100, load=0.85)).demand(3)
    other = stage(Scenario(gpus=100, load=1.0)).demand(3)

    assert one.kinds == other.kinds
    assert one.lifetimes == other.lifetimes
    assert one.times != other.times


def test_a_mix_changes_half_way_through_the_counted_requests() -> None:
    scenario = Scenario(mix="7g.80gb=1,1g.10gb=0", then="7g.80gb=0,1g.10gb=1", warmup=100)
    on = stage(scenario)
    kinds = on.demand(1).kinds

    assert set(kinds[: 100 + 10_000]) == {0}
    assert set(kinds[100 + 10_000 :]) == {1}
    assert on.shares == (1.0, 0.0)


@pytest.mark.parametrize(
    ("scenario", "error", "says"),
    [
        (Scenario(model="H1"), UnknownModel, "'H1' is neither one of A100-40GB"),
        (Scenario(model="H100-80GB=x"), UnknownModel, "nor like H100-80GB=60"),
        (Scenario(mix="7g"), UnknownMix, "neither one of uniform"),
        (Scenario(mix="9g.1gb=1"), UnknownMix, "no profile 9g.1gb; this model has 7g.80gb"),
        (Scenario(mix="7g.80gb=0"), UnknownMix, "asks for nothing"),
        (Scenario(then="7g.80gb=1"), UnknownMix, "ask for other profiles"),
    ],
)
def test_what_cannot_be_tried_is_refused_with_what_can(
    scenario: Scenario, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        stage(scenario)


def test_parts_of_a_gpu_are_called_by_their_profiles_unless_models_differ() -> None:
    one = stage(Scenario(model="A30-24GB"))
    two = stage(Scenario(model="A30-24GB=1,H100-80GB=1"))

    assert [kind.name for kind in one.kinds] == ["4g.24gb", "2g.12gb", "1g.6gb"]
    assert {kind.name for kind in two.kinds} == {"whole", "4g", "3g", "2g", "1g-double", "1g"}


@pytest.mark.parametrize(
    ("share", "by_rule"),
    [
        (1.0, {"A": "whole", "B": "whole", "C": "whole"}),
        (0.81, {"A": "whole", "B": "whole", "C": "whole"}),
        (0.65, {"A": "whole", "B": "4g", "C": "whole"}),
        (0.47, {"A": "4g", "B": "3g", "C": "4g"}),
        (0.32, {"A": "3g", "B": "2g", "C": "4g"}),
        (0.11, {"A": "1g", "B": "1g", "C": "2g"}),
        (0.03, {"A": "1g", "B": "1g", "C": "1g-double"}),
    ],
)
def test_shares_of_a_gpu_become_profiles_by_three_rules(
    share: float, by_rule: dict[str, str]
) -> None:
    assert {rule.value: kind_for(share, rule) for rule in Rule} == by_rule


def test_a_trace_is_played_in_the_order_of_arrival(tmp_path: Path) -> None:
    path = tmp_path / "pods.csv"
    path.write_text(
        HEADER + "b,1,1000,20,30\na,1,110,10,12\nno-gpu,0,0,1,2\nmany,2,1000,1,2\nstays,1,470,15,\n"
    )
    on = stage(Scenario(trace=str(path)))
    demand = on.demand(0)

    assert demand.times == [10.0, 15.0, 20.0]
    assert [on.kinds[kind].name for kind in demand.kinds] == ["1g.10gb", "4g.40gb", "7g.80gb"]
    assert demand.lifetimes == [2.0, math.inf, 10.0]
    assert on.warmup == 0
    assert len(recorded(path, shared_only=True)) == 2


def test_a_resampled_trace_draws_its_pairs_at_the_load_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "pods.csv"
    path.write_text(HEADER + "a,1,1000,0,10\nb,1,110,0,30\n")
    on = stage(Scenario(trace=str(path), resampled=True, load=0.5, arrivals=20_000, warmup=0))
    demand = on.demand(1)

    asked = list(zip((on.kinds[k].name for k in demand.kinds), demand.lifetimes, strict=True))
    later = asked[on.warmup :]
    assert len(later) == 20_000
    assert set(later) == {("7g.80gb", 10.0), ("1g.10gb", 30.0)}
    held = sum(
        on.kinds[k].size * life for k, life in zip(demand.kinds, demand.lifetimes, strict=True)
    )
    assert held / demand.times[-1] / 800 == pytest.approx(0.5, rel=0.05)


def test_a_resampled_trace_has_its_load_from_the_start_though_few_stay_for_long(
    tmp_path: Path,
) -> None:
    path = tmp_path / "pods.csv"
    path.write_text(HEADER + "b,1,1000,0,100000\n" + "a,1,110,0,10\n" * 999)
    scenario = Scenario(trace=str(path), resampled=True, gpus=1000, load=0.5, warmup=0)
    on = stage(scenario)
    demand = on.demand(1)

    requests = zip(demand.times, demand.kinds, demand.lifetimes, strict=True)
    began = [(kind, until) for at, kind, until in requests if at == 0]
    assert len(began) == on.warmup
    assert sum(on.kinds[kind].size for kind, _ in began) / 8000 == pytest.approx(0.5, rel=0.05)
    long = [until for kind, until in began if on.kinds[kind].size == 8]
    assert statistics.fmean(long) == pytest.approx(50_000, rel=0.1)
    left = [until for until in long if until > demand.times[-1]]
    came = demand.kinds[on.warmup :].count(0)
    assert (len(left) + came) * 8 / 8000 == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,num_gpu\nx,1\n", "line 1: no column gpu_milli, creation_time, deletion_time"),
        (HEADER + "a,1,much,0,1\n", "line 2: gpu_milli 'much' is no number"),
        (HEADER + "a,1,1000,0,1\nb,1,0,0,1\n", "line 3: gpu_milli is not in 1..1000"),
        (HEADER + "a,1,1000,5,1\n", "line 2: .* or deleted before that"),
        (HEADER + "a,1,1000,inf,\n", "line 2: .* the pod was never created"),
        (HEADER + "a,1,1000,0,nan\n", "line 2: .* or deleted before that"),
        (HEADER + "a,0,0,0,1\n", "no pod in it asks for one GPU"),
    ],
)
def test_a_bad_trace_is_refused_with_the_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "pods.csv"
    path.write_text(text)

    with pytest.raises(MalformedTrace, match=says):
        recorded(path)


@pytest.mark.parametrize("pods", ["a,1,1000,0,\n", "a,1,1000,3,3\nb,1,500,4,\n"])
def test_nothing_is_drawn_from_a_trace_in_which_nobody_was_there_for_a_time(
    tmp_path: Path, pods: str
) -> None:
    path = tmp_path / "pods.csv"
    path.write_text(HEADER + pods)

    with pytest.raises(MalformedTrace, match="no lifetimes to draw from"):
        stage(Scenario(trace=str(path), resampled=True))


def test_a_trace_that_is_not_there_is_said_to_be_unreadable(tmp_path: Path) -> None:
    with pytest.raises(MalformedTrace, match="cannot be read"):
        recorded(tmp_path / "absent.csv")
