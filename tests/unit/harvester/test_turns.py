"""Whose turn it is to have devices made, where the kubelet takes any."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.api.gpunode import Assignment, PodRef
from nodeagent.harvester.turns import expected, may_come, turns, unsafe
from nodeagent.kubelet import Holder

SMALL, BIG = "nvidia.com/NVIDIA_A100X-1-5C", "nvidia.com/NVIDIA_A100X-3-20C"


def wants(id: str, pod: str, resource: str = SMALL, at: int = 0) -> Assignment:
    since = f"2026-01-01T00:00:{at:02}Z"
    return Assignment(id, "GPU-0", 19, 0, 1, resource, since, PodRef("default", pod, pod))


def has(pod: str, resource: str = SMALL, device: str = "d") -> Holder:
    return Holder(resource, device, PodRef("default", pod, pod))


def test_one_pod_at_a_time_has_its_turn_for_a_resource() -> None:
    plan = [wants("a2", "p2", at=2), wants("a1", "p1", at=1)]

    assert turns(plan, [], ()).now == {"a1"}
    assert turns(plan, [], ()).later(plan) == {"a2"}
    served = turns(plan, [has("p1")], ())
    assert served.now == {"a2"}
    assert served.served == {"a1"}


def test_who_has_begun_goes_on() -> None:
    plan = [wants("a1", "p1", at=1), wants("a2", "p2", at=2)]

    assert turns(plan, [], {"a2"}).now == {"a2"}


def test_all_of_a_pod_have_their_turn_together() -> None:
    plan = [wants("a1", "p1"), wants("a2", "p1"), wants("b1", "p1", BIG)]

    assert turns(plan, [has("p1")], ()).now == {"a1", "a2", "b1"}
    every = [has("p1", device="d1"), has("p1", device="d2"), has("p1", BIG)]
    assert turns(plan, every, ()).served == {"a1", "a2", "b1"}


def test_other_resources_do_not_wait() -> None:
    plan = [wants("a1", "p1", at=1), wants("b1", "p2", BIG, at=2)]

    assert turns(plan, [], ()).now == {"a1", "b1"}


def test_who_waits_for_one_resource_is_overtaken_in_none() -> None:
    plan = [
        wants("a1", "p1", at=1),
        wants("a2", "p2", at=2),
        wants("b2", "p2", BIG, at=2),
        wants("b3", "p3", BIG, at=3),
    ]

    assert turns(plan, [], ()).now == {"a1"}


PODS = ["p1", "p2", "p3", "p4"]
plans = st.lists(
    st.builds(
        lambda n, pod, resource, at: wants(f"x{n}", pod, resource, at),
        st.integers(0, 99),
        st.sampled_from(PODS),
        st.sampled_from([SMALL, BIG]),
        st.integers(0, 9),
    ),
    max_size=8,
    unique_by=lambda each: each.id,
)
holders = st.lists(st.builds(has, st.sampled_from(PODS), st.sampled_from([SMALL, BIG])), max_size=6)


@given(plans, holders, st.sets(st.integers(0, 99).map(lambda n: f"x{n}")))
def test_never_two_pods_for_a_resource_and_never_nobody(
    plan: list[Assignment], given: list[Holder], begun: set[str]
) -> None:
    turn = turns(plan, given, begun)

    open_for: dict[str, set[str]] = {}
    for each in plan:
        if each.id in turn.now and each.pod is not None:
            open_for.setdefault(each.resource, set()).add(each.pod.uid)
    assert all(len(pods) == 1 for pods in open_for.values())
    assert turn.now.isdisjoint(turn.served)
    assert bool(turn.now) == bool({each.id for each in plan} - turn.served)


def test_a_resource_with_a_device_that_is_on_its_way_out_is_unsafe() -> None:
    devices = {SMALL: ["d1", "d2"], BIG: ["d3"]}

    assert unsafe(devices, {"d1", "d3"}) == {SMALL}
    assert unsafe(devices, {"d1", "d2", "d3"}) == frozenset()


def test_a_pod_may_come_when_all_it_wants_is_there_and_none_of_it_is_risky() -> None:
    plan = [wants("a1", "p1"), wants("b1", "p1", BIG), wants("a2", "p2", at=5)]
    turn = turns(plan, [], ())

    assert may_come(plan, turn, ready={"a1", "b1", "a2"}, risky=()) == {"a1", "b1"}
    assert may_come(plan, turn, ready={"a1", "a2"}, risky=()) == frozenset()
    assert may_come(plan, turn, ready={"a1", "b1"}, risky={BIG}) == frozenset()


def test_a_pod_is_expected_from_when_it_was_told_until_it_was_served() -> None:
    plan = [wants("a1", "p1")]

    assert expected(plan, {"a1"}, turns(plan, [], ())) == {SMALL}
    assert expected(plan, (), turns(plan, [], ())) == frozenset()
    assert expected(plan, {"a1"}, turns(plan, [has("p1")], ())) == frozenset()
