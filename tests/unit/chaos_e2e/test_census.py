"""Counting what is written, and when which VM came and was bound."""

from __future__ import annotations

from tests.builders import as_json, raw_pod
from tests.e2e.chaos.census import Census, Meter
from tests.e2e.chaos.checker import GPU_NODES, PODS, pod
from tests.e2e.chaos.history import Write


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def saw(census: Census, uid: str, node: str = "") -> None:
    raw = as_json(raw_pod("1-10C", uid=uid, nodeName=node))
    census.see(Write(1, f"{PODS}{uid}", raw), pod(raw))


def test_the_first_bound_is_looked_for_among_those_that_came_after_a_time() -> None:
    clock = Clock()
    census = Census(clock)
    saw(census, "early")
    clock.now = 10.0
    assert census.first_bound(created_after=5.0) is None
    saw(census, "late")
    saw(census, "later")
    clock.now = 11.0
    saw(census, "early", node="node-1")
    assert census.first_bound(created_after=5.0) is None
    clock.now = 12.0
    saw(census, "later", node="node-1")
    clock.now = 13.0
    saw(census, "late", node="node-1")
    saw(census, "later", node="node-1")

    assert census.first_bound(created_after=5.0) == 12.0
    assert census.first_bound(created_after=0.0) == 11.0
    assert census.bound_between(11.5, 13.5) == 2


def test_leases_and_events_are_no_load() -> None:
    clock = Clock()
    census = Census(clock)
    for at, key in enumerate(
        (f"{PODS}a", f"{GPU_NODES}node-1", "minions/node-1", "leases/a/b", "events/default/c"), 1
    ):
        clock.now = float(at)
        census.see(Write(at, key, None), None)

    assert census.writes == 3
    assert census.last_write == 3.0


def test_a_rate_is_of_the_last_seconds_and_none_before_so_many_have_passed() -> None:
    clock = Clock()
    meter = Meter(clock, window=2.0)
    rates = []
    for count in (0, 10, 20, 30, 30, 30, 30):
        rates.append(meter.read(count))
        clock.now += 1.0

    assert rates == [0.0, 0.0, 10.0, 10.0, 5.0, 0.0, 0.0]
