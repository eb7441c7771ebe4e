"""Whether what is known is still current."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.service.freshness import Freshness
from extender.service.ports import Feed
from extender.settings import Settings


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fresh(clock: Clock) -> Freshness:
    """All feeds are heard, and so are two agents."""
    made = Freshness(Settings(), clock, {"a", "b"})
    for feed in Feed:
        made.synced(feed)
    for node in ("a", "b"):
        made.renewed(node, "1")
    return made


def test_before_every_feed_is_complete_nothing_is_ready(clock: Clock) -> None:
    half = Freshness(Settings(), clock, {"a"})
    half.synced(Feed.NODES)

    assert "not loaded yet" in half.not_ready()


def test_a_lease_that_did_not_change_is_no_sign_of_life(fresh: Freshness, clock: Clock) -> None:
    clock.now = 41.0
    fresh.renewed("a", "1")
    fresh.renewed("b", "2")

    assert fresh.stale("a")
    assert not fresh.stale("b")
    assert fresh.not_ready() == ""


def test_an_agent_nobody_has_heard_of_is_silent(fresh: Freshness) -> None:
    assert fresh.stale("never")


def test_a_short_silence_of_a_feed_is_borne_and_a_long_one_is_not(
    fresh: Freshness, clock: Clock
) -> None:
    fresh.interrupted(Feed.PODS)
    clock.now = 30.0
    assert fresh.not_ready() == ""

    clock.now = 41.0
    assert "out of date" in fresh.not_ready()

    fresh.synced(Feed.PODS)
    fresh.renewed("a", "2")
    assert fresh.not_ready() == ""


def test_when_all_agents_fall_silent_at_once_it_is_we_who_hear_nothing(
    fresh: Freshness, clock: Clock
) -> None:
    clock.now = 41.0

    assert "no agent is heard" in fresh.not_ready()


def test_agents_whose_nodes_are_no_more_are_not_waited_for(clock: Clock) -> None:
    scaled_down = Freshness(Settings(), clock, {"cpu-node"})
    for feed in Feed:
        scaled_down.synced(feed)
    for node in ("a", "b"):
        scaled_down.renewed(node, "1")
    clock.now = 41.0

    assert scaled_down.not_ready() == ""


def test_after_an_outage_the_agents_get_time_to_renew(fresh: Freshness, clock: Clock) -> None:
    fresh.interrupted(Feed.LEASES)
    clock.now = 60.0
    fresh.synced(Feed.LEASES)

    assert not fresh.stale("a")
    clock.now = 101.0
    assert fresh.stale("a")


def test_which_agent_was_heard_is_known_over_an_outage(fresh: Freshness) -> None:
    fresh.renewed("a", "2", "life-2")
    fresh.interrupted(Feed.LEASES)
    fresh.synced(Feed.LEASES)

    assert (fresh.agent("a"), fresh.agent("b"), fresh.agent("never")) == ("life-2", "", "")


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("renewed"), st.sampled_from("abcd")),
            st.tuples(st.just("withdrawn"), st.sampled_from("abcd")),
            st.tuples(st.just("passes"), st.sampled_from([1.0, 25.0, 41.0])),
            st.just(("outage", "")),
        )
    )
)
def test_the_silent_are_found_without_looking_at_those_who_are_not(
    events: list[tuple[str, object]],
) -> None:
    clock = Clock()
    fresh = Freshness(Settings(), clock, set("abcd"))
    fresh.synced(Feed.LEASES)
    for version, event in enumerate(events):
        match event:
            case ("renewed", str(node)):
                fresh.renewed(node, str(version))
            case ("withdrawn", str(node)):
                fresh.withdrawn(node)
            case ("passes", float(seconds)):
                clock.now += seconds
            case _:
                fresh.interrupted(Feed.LEASES)
                fresh.synced(Feed.LEASES)
        assert set(fresh.silent()) == {node for node in fresh.announced if fresh.stale(node)}
