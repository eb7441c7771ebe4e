"""Whatever comes: a shadow with the live policy decides as that does, and any shadow adds up."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.policy import InForce
from extender.replay.making import decided
from extender.replay.recorded import Arrival, Recorded, RecordedGang
from tests.properties.test_replay import POLICIES, demands
from tests.shadowed import imagined, story


def lasting(demand: tuple[Recorded, list[float]]) -> tuple[Recorded, list[float]]:
    """Let nobody leave in the very moment in which they get their places, and gangs be of two.

    Who comes to a gang that has left is of another one live, and alone in a replay.
    """
    of, stays = demand
    counts: Counter[str] = Counter()

    def paired(each: Arrival) -> Arrival:
        if each.gang is None:
            return each
        counts[each.namespace] += 1
        name = f"g-{(counts[each.namespace] + 1) // 2}"
        return msgspec.structs.replace(each, gang=RecordedGang(name, 2))

    arrivals = tuple(map(paired, of.arrivals))
    return msgspec.structs.replace(of, arrivals=arrivals), [each + 1.0 for each in stays]


@settings(max_examples=100, deadline=None)
@given(demands().map(lasting), st.sampled_from(POLICIES))
def test_a_shadow_with_the_live_policy_agrees_about_every_vm(
    demand: tuple[Recorded, list[float]], by: InForce
) -> None:
    of = decided(demand[0], by, demand[1])

    found = imagined(story(of, by))

    told = {each.uid for each in of.outcomes}
    assert found.agreement.decided == found.agreement.alike == len(told)
    assert found.refusals.live == found.refusals.shadow
    assert found.refusals_more.mean == 0
    for name in ("used", "unusable", "whole"):
        assert getattr(found.live, name) == pytest.approx(getattr(found.shadow, name))


@settings(max_examples=100, deadline=None)
@given(demands().map(lasting), st.sampled_from(POLICIES), st.sampled_from(POLICIES))
def test_what_a_shadow_tells_adds_up(
    demand: tuple[Recorded, list[float]], live: InForce, shadow: InForce
) -> None:
    of = decided(demand[0], live, demand[1])

    found = imagined(story(of, shadow))

    each, total = found.agreement, found.refusals
    assert each.decided == total.asked <= len(of.arrivals)
    assert total.live == each.refused + each.live_refused
    assert total.shadow == each.refused + each.shadow_refused
    assert total.shadow == sum(found.because.values())
    for groups in (found.profiles, found.tenants):
        assert sum(of.asked for of in groups.values()) == total.asked
        assert sum(of.live for of in groups.values()) == total.live
        assert sum(of.shadow for of in groups.values()) == total.shadow
    assert found.refusals_more.mean == pytest.approx(total.shadow - total.live)
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found
