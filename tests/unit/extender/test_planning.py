"""The pending queue as one problem: the plan, those who follow it, and those who wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.cluster import KubernetesCluster, OwnPod
from extender.ledger import Ledger, Planned, Promise, promise
from extender.packing.check import Refuted
from extender.packing.choose import Choice, Placed
from extender.packing.problem import Problem
from extender.packing.solve import Outcome, Status, solve
from extender.planning import joint
from extender.planning.joint import JointPlan, Limits, Waiting, bounded, joint_plan
from extender.request import Gang
from extender.service import Service
from extender.service.pending import Pending
from extender.service.ports import Feed
from extender.settings import Settings
from extender.snapshot import NodeView, Taken
from extender.succession import successor
from extender.verbs.bind import place
from extender.verbs.filter import filter
from extender.verbs.fleet import Fleet
from extender.verbs.planned import planned
from extender.verbs.prioritize import prioritize
from extender.verbs.verdicts import Fits, verdict
from nodeagent.api.geometry import Placement
from nodeagent.apiserver.memory import InMemoryApi
from tests.builders import VGPU, assignment, gpu_node, raw_pod, request, view
from tests.fakes.scheduling import Scheduler
from tests.fakes.world import QUICK, World, filter_args
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

LIMITS = Limits(pods=100, seconds=5.0)
WANTED = ("1-10C", "2-20C", "3-40C", "4-40C", "7-80C")


def waiting(
    *wanted: str, pod: str, nodes: tuple[str, ...] = ("a", "b"), gang: str = "", priority: int = 0
) -> Waiting:
    asked = msgspec.structs.replace(
        request(*wanted, pod=pod),
        gang=Gang("default", gang, 2) if gang else None,
        priority=priority,
    )
    return Waiting(asked, frozenset(nodes), since=float(pod.removeprefix("pod-")))


def nodes(**gpus: int) -> dict[str, NodeView]:
    return {name: view(gpu_node(name, gpus=count)) for name, count in gpus.items()}


def plan(views: dict[str, NodeView], *queue: Waiting, ledger: Ledger | None = None) -> JointPlan:
    return joint_plan(views, ledger or Ledger(), queue, LIMITS, clock=time.monotonic)


def test_what_arrives_last_is_placed_if_that_serves_more() -> None:
    found = plan(
        nodes(a=1),
        waiting("1-10C", pod="pod-1"),
        waiting("7-80C", pod="pod-2"),
    )

    assert found.places.keys() == {"pod-2"}


def test_a_higher_priority_comes_first() -> None:
    found = plan(
        nodes(a=1),
        waiting("1-10C", pod="pod-1", priority=10),
        waiting("7-80C", pod="pod-2"),
    )

    assert found.places.keys() == {"pod-1"}


def test_pods_go_to_nodes_of_their_last_filter_alone() -> None:
    found = plan(
        nodes(a=1, b=1),
        waiting("7-80C", pod="pod-1", nodes=("b",)),
        waiting("7-80C", pod="pod-2", nodes=("a", "b")),
        waiting("7-80C", pod="pod-3", nodes=("elsewhere",)),
    )

    assert {uid: node for uid, (node, _) in found.places.items()} == {"pod-1": "b", "pod-2": "a"}


def test_stale_cordoned_and_unreported_nodes_are_not_planned_with() -> None:
    views = {
        "a": view(gpu_node("a"), stale=True),
        "b": view(gpu_node("b"), cordoned=True),
        "c": view(gpu_node("c", reported=False)),
    }

    assert plan(views, waiting("1-10C", pod="pod-1", nodes=("a", "b", "c"))).places == {}


def test_promised_places_are_taken_and_the_old_plans_own_are_free() -> None:
    whole = Placed(VGPU + "7-80C", 0, "GPU-0", 0, Placement(0, 8))
    old = Ledger().plan({"pod-1": Planned("a", (whole,), until=9.0)})
    queue = waiting("7-80C", pod="pod-1", nodes=("a",))

    assert plan(nodes(a=1), queue, ledger=old).places.keys() == {"pod-1"}
    held = promise("a", (whole,))
    assert plan(nodes(a=1), queue, ledger=Ledger().assume("other", held)).places == {}
    assert plan(nodes(a=1), queue, ledger=Ledger().presume("other", held, until=9.0)).places == {}


def test_a_gang_is_planned_whole_or_not_at_all() -> None:
    pair = (waiting("4-40C", pod="pod-1", gang="g"), waiting("4-40C", pod="pod-2", gang="g"))

    assert plan(nodes(a=1), *pair).places == {}
    assert plan(nodes(a=1, b=1), *pair).places.keys() == {"pod-1", "pod-2"}


def avoiding(node: str, *uuids: str, ledger: Ledger | None = None) -> Ledger:
    """Return a ledger by which these GPUs of a node have just failed."""
    book = ledger or Ledger()
    for uuid in uuids:
        whole = Taken(uuid, 0, Placement(0, 8))
        book = book.avoid(f"{node}/{uuid}", Promise(node, (whole,)), until=9.0)
    return book


def test_a_gpu_that_failed_is_planned_with_only_for_whom_the_others_have_no_place() -> None:
    ledger = avoiding("a", "GPU-0")
    whole = [waiting("7-80C", pod=f"pod-{at}") for at in range(2)]

    alone = plan(nodes(a=2), whole[0], waiting("1-10C", pod="pod-9"), ledger=ledger)
    both = plan(nodes(a=2), *whole, ledger=ledger)

    assert {placed[0].uuid for _, placed in alone.places.values()} == {"GPU-0", "GPU-1"}
    assert alone.places["pod-0"][1][0].uuid == "GPU-1"  # what is worth more comes first
    assert {placed[0].uuid for _, placed in both.places.values()} == {"GPU-0", "GPU-1"}
    one = plan(nodes(a=2), whole[0], ledger=ledger)
    assert one.places["pod-0"][1][0].uuid == "GPU-1"


def test_the_second_try_takes_nothing_that_is_promised_or_that_the_first_has_given() -> None:
    held = promise("a", (Placed(VGPU + "4-40C", 0, "GPU-0", 5, Placement(0, 4)),))
    ledger = avoiding("a", "GPU-0", ledger=Ledger().presume("other", held, until=9.0))
    queue = [waiting("3-40C", pod=f"pod-{at}") for at in range(4)]

    found = plan(nodes(a=2), *queue, ledger=ledger)

    assert sorted((p[0].uuid, p[0].placement.start) for _, p in found.places.values()) == [
        ("GPU-0", 4),
        ("GPU-1", 0),
        ("GPU-1", 4),
    ]


def test_a_gang_that_does_not_fit_otherwise_goes_where_a_gpu_has_failed() -> None:
    pair = [waiting("7-80C", pod=f"pod-{at}", gang="g") for at in (1, 2)]

    found = plan(nodes(a=2), *pair, ledger=avoiding("a", "GPU-0"))

    assert {placed[0].uuid for _, placed in found.places.values()} == {"GPU-0", "GPU-1"}


def test_the_second_try_has_what_the_first_left_of_the_time_and_is_greedy_without() -> None:
    times = iter([0.0])
    queue = [waiting("7-80C", pod=f"pod-{at}") for at in (1, 2)]

    found = joint_plan(
        nodes(a=2),
        avoiding("a", "GPU-0"),
        queue,
        LIMITS,
        clock=lambda: next(times, 2 * LIMITS.seconds),  # all of it has gone at once
    )

    assert found.places.keys() == {"pod-1", "pod-2"}
    assert found.status is not Status.OPTIMAL


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=12),
    st.integers(0, 12),
)
def test_a_bounded_queue_is_never_longer_and_never_parts_a_gang(
    queue: list[tuple[int, int]], pods: int
) -> None:
    made = [
        waiting("1-10C", pod=f"pod-{at}", gang=f"g{gang}" if gang else "", priority=priority)
        for at, (gang, priority) in enumerate(queue)
    ]

    kept = bounded(made, pods)

    assert len(kept) <= pods
    left = {each.request.gang for each in made if each not in kept and each.request.gang}
    assert not left & {each.request.gang for each in kept}
    if len(made) <= pods:
        assert len(kept) == len(made)


@pytest.mark.parametrize("gang", ["", "g"])
def test_whom_no_plan_has_looked_at_comes_before_those_who_found_no_place(gang: str) -> None:
    queue, clock = pending()
    for at in range(4):
        pair = gang and f"{gang}{at // 2}"
        asked = waiting("7-80C", pod=f"pod-{at}", gang=pair).request
        queue.filtered(asked, ["a"])
        clock.now += 1.0

    turns = []
    for _ in range(3):
        considered = bounded(tuple(queue.waiting.values()), 3 if not gang else 2)
        turns.append([each.uid.removeprefix("pod-") for each in considered])
        queue.no_place([each.uid for each in considered])
        for each in considered:  # to be filtered again costs nobody its place in the line
            queue.filtered(each.request, ["a"])

    expected = {"": ["012", "013", "012"], "g": ["01", "23", "01"]}
    assert ["".join(each) for each in turns] == expected[gang]


def test_a_gang_is_as_urgent_as_its_most_urgent_member() -> None:
    lesser = waiting("1-10C", pod="pod-0", gang="g")
    single = waiting("1-10C", pod="pod-1", priority=5)
    greater = waiting("1-10C", pod="pod-2", gang="g", priority=9)

    assert bounded((lesser, single, greater), 3) == (greater, lesser, single)
    assert bounded((lesser, single, greater), 2) == (greater, lesser)


def test_a_higher_priority_waits_for_nobody_elses_turn() -> None:
    urgent = waiting("1-10C", pod="pod-1", priority=1)
    tried = msgspec.structs.replace(urgent, turn=7)

    assert bounded((waiting("1-10C", pod="pod-0"), tried), 1) == (tried,)


queues = st.lists(
    st.tuples(st.sampled_from(WANTED), st.sampled_from(["", "", "g", "h"])), max_size=9
)


failed = st.sets(st.sampled_from([("a", "GPU-0"), ("b", "GPU-0"), ("b", "GPU-1")]))


@given(queues, failed)
def test_no_plan_gives_a_slice_twice_or_parts_a_gang_or_takes_a_failed_gpu_needlessly(
    queue: list[tuple[str, str]], avoided: set[tuple[str, str]]
) -> None:
    made = [waiting(wanted, pod=f"pod-{at}", gang=gang) for at, (wanted, gang) in enumerate(queue)]
    ledger = Ledger()
    for node, uuid in avoided:
        ledger = avoiding(node, uuid, ledger=ledger)

    found = plan(nodes(a=1, b=2), *made, ledger=ledger)

    taken: set[tuple[str, str, int]] = set()
    for node, placed in found.places.values():
        for each in placed:
            for slice in range(each.placement.start, each.placement.end):
                assert (node, each.uuid, slice) not in taken
                taken.add((node, each.uuid, slice))
    for gang in {each.request.gang for each in made} - {None}:
        fates = {each.uid in found.places for each in made if each.request.gang == gang}
        assert len(fates) == 1
    for pod in (each for each in made if each.request.gang is None):
        node, placed = found.places.get(pod.uid, ("", ()))
        if not placed:
            assert not room(found, pod, without=set())
        elif (node, placed[0].uuid) in avoided:
            assert not room(found, pod, without=avoided)


def room(found: JointPlan, pod: Waiting, *, without: set[tuple[str, str]]) -> bool:
    """Tell whether, beside a plan, there is room for a pod on GPUs other than these."""
    book = Ledger().plan(found.planned(until=9.0))
    for node, uuid in without:
        book = avoiding(node, uuid, ledger=book)
    return any(
        isinstance(verdict(view, pod.request.wanted, book.presumed_on(name)), Fits)
        for name, view in nodes(a=1, b=2).items()
    )


halves = st.lists(
    st.tuples(
        st.lists(st.sampled_from(("2-20C", "3-40C", "4-40C")), min_size=1, max_size=3),
        st.sampled_from(["", "", "g"]),
    ),
    max_size=5,
)


@given(halves, st.sets(st.integers(0, 7)))
def test_whom_no_node_has_room_for_the_solver_never_sees_and_no_plan_is_the_worse(
    queue: list[tuple[list[str], str]], gone: set[int]
) -> None:
    made = [waiting(*wanted, pod=f"pod-{at}", gang=gang) for at, (wanted, gang) in enumerate(queue)]
    book = Ledger()
    for at in gone:  # slices of the GPUs of b, which leave little there
        taken = Taken(f"GPU-{at // 4}", 19, Placement(at % 4, 1))
        book = book.assume(f"other-{at}", Promise("b", (taken,)))

    with patch.object(joint, "solve", wraps=solve) as solver:
        found = plan(nodes(a=1, b=2), *made, ledger=book)
    with patch.object(joint, "MOST_LOOKS", 0):
        unpruned = plan(nodes(a=1, b=2), *made, ledger=book)

    def slices(one: JointPlan) -> int:
        return sum(each.placement.size for _, placed in one.places.values() for each in placed)

    assert slices(found) == slices(unpruned)
    assert found.considered == unpruned.considered
    for call in solver.call_args_list:
        for asked in call.args[0].requests:
            views = nodes(a=1, b=2).items()
            assert any(
                isinstance(verdict(view, asked.wanted, book.assumed_on(name)), Fits)
                for name, view in views
            )


def test_a_gang_with_a_member_that_fits_nowhere_is_not_given_to_the_solver() -> None:
    with patch.object(joint, "solve", wraps=solve) as solver:
        found = plan(
            nodes(a=1),
            waiting("7-80C", "7-80C", pod="pod-1", gang="g", nodes=("a",)),
            waiting("1-10C", pod="pod-2", gang="g", nodes=("a",)),
        )

    assert found.considered == ("pod-1", "pod-2")
    assert found.places == {}
    assert not solver.called


def overlapping(problem: Problem, **limits: Any) -> Outcome:
    """Put all on the place of the first, as a solver with a fault may."""
    outcome = solve(problem, **limits)
    first, *others = outcome.solution.assignments
    moved = (
        msgspec.structs.replace(each, gpu=first.gpu, placement=first.placement) for each in others
    )
    return msgspec.structs.replace(
        outcome, solution=msgspec.structs.replace(outcome.solution, assignments=(first, *moved))
    )


def overpraised(problem: Problem, **limits: Any) -> Outcome:
    """Leave the last request out, and claim it admitted."""
    outcome = solve(problem, **limits)
    *kept, _ = outcome.solution.assignments
    return msgspec.structs.replace(
        outcome, solution=msgspec.structs.replace(outcome.solution, assignments=tuple(kept))
    )


@pytest.mark.parametrize("faulty", [overlapping, overpraised])
def test_a_plan_that_is_not_what_it_claims_is_refuted(faulty: Callable[..., Outcome]) -> None:
    with patch.object(joint, "solve", faulty), pytest.raises(Refuted):
        plan(nodes(a=1), waiting("1-10C", pod="pod-1"), waiting("1-10C", pod="pod-2"))


# Those who follow the plan.

LAST_HALF = Placed(VGPU + "3-40C", 1, "GPU-1", 9, Placement(0, 4))
"""Not what any policy would choose by itself."""


def with_plan(node: str = "b", *placed: Placed) -> Ledger:
    return Ledger().plan({"pod-1": Planned(node, placed or (LAST_HALF,), until=9.0)})


def test_prioritize_gives_the_planned_node_the_ten() -> None:
    views = nodes(a=2, b=2)

    ranked = prioritize(Fleet(views), with_plan(), request("3-40C"), ["a", "b"])

    assert ranked.winner == "b"
    assert ranked.scores["b"] == 10
    assert ranked.scores["a"] < 10


def test_bind_takes_the_planned_gpu_and_start() -> None:
    choice = place(nodes(b=2)["b"], with_plan(), request("3-40C"))

    assert isinstance(choice, Choice)
    assert choice.placed == (LAST_HALF,)


@pytest.mark.parametrize(
    "changed",
    [
        view(gpu_node("b", gpus=2, plan=[assignment("x", 9, 0, gpu="GPU-1", pod="other")])),
        view(gpu_node("b", gpus=1)),
        view(gpu_node("b", gpus=2), stale=True),
        view(gpu_node("b", gpus=2), cordoned=True),
        view(gpu_node("b", gpus=2, vgpu_types=())),
    ],
    ids=["taken", "GPU gone", "stale", "cordoned", "not served"],
)
def test_a_plan_that_is_not_right_any_more_is_not_followed(changed: NodeView) -> None:
    assert planned(changed, with_plan(), request("3-40C")) is None


def test_a_plan_for_another_request_is_not_followed() -> None:
    assert planned(nodes(b=2)["b"], with_plan(), request("4-40C")) is None


def test_others_avoid_planned_places_where_they_have_another_choice() -> None:
    views = nodes(b=2)
    ledger = with_plan("b", Placed(VGPU + "7-80C", 0, "GPU-0", 0, Placement(0, 8)))

    first = place(views["b"], ledger, request("7-80C", pod="other"))
    assert isinstance(first, Choice)
    assert first.placed[0].uuid == "GPU-1"

    one_left = successor(
        views["b"],
        gpu_node("b", gpus=2, plan=[assignment("x", 0, 0, gpu="GPU-1")], version=2, generation=2),
    )
    second = place(one_left, ledger, request("7-80C", pod="other"))
    assert isinstance(second, Choice)
    assert second.placed[0].uuid == "GPU-0"


def test_who_was_left_out_yields_to_the_plan() -> None:
    whole = Placed(VGPU + "7-80C", 0, "GPU-0", 0, Placement(0, 8))
    views, ledger = nodes(a=1), with_plan("a", whole)
    small = request("1-10C", pod="other")

    assert filter(Fleet(views), ledger, small, ["a"]).passed == ("a",)
    assert filter(Fleet(views), ledger, small, ["a"], yields=True).passed == ()


def test_a_planned_place_ends_with_its_time_or_its_pods_bind() -> None:
    ledger = with_plan()
    slices = promise("b", (LAST_HALF,))

    assert ledger.presumed_on("b", besides="other") == slices.taken
    assert ledger.presumed_on("b", besides="pod-1") == ()
    assert ledger.expire(now=9.0).planned == {}
    assert ledger.assume("pod-1", slices).planned == {}
    assert ledger.forget("pod-1").planned == {}
    assert ledger.presume("pod-2", promise("b", ()), until=9.0).planned == ledger.planned


# Those who wait for it.


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def pending(**fields: Any) -> tuple[Pending, Clock]:
    clock = Clock()
    made = Pending(Settings(**{"plan_burst_pods": 3, **fields}), clock)
    made.can_wake = True
    return made, clock


def arrive(queue: Pending, pod: str, *, room: int = 0) -> bool:
    queue.filtered(request("1-10C", pod=pod), ["a"])
    return queue.waits_for_plan(pod, room=room)


def test_single_pods_never_wait() -> None:
    queue, clock = pending()
    for pod in "abcdefgh":
        assert not arrive(queue, pod)
        clock.now += 0.6


def test_the_pods_of_a_burst_wait_once() -> None:
    queue, clock = pending()

    assert [arrive(queue, pod) for pod in "abcde"] == [False, False, True, True, True]
    clock.now += Settings().plan_wait_seconds
    assert not queue.waits_for_plan("e", room=0)


def test_pods_the_watch_has_told_of_are_part_of_the_burst() -> None:
    queue, _ = pending()
    for pod in "abc":
        queue.seen(pod)

    assert arrive(queue, "a")


def test_nobody_waits_who_has_room_on_more_nodes_than_pods_wait() -> None:
    queue, _ = pending()

    assert [arrive(queue, pod, room=4) for pod in "abcde"] == [False, False, False, True, True]


def test_nobody_waits_where_nobody_can_be_woken() -> None:
    queue, _ = pending()
    queue.can_wake = False

    assert not any(arrive(queue, pod) for pod in "abcde")


def test_bursts_may_be_left_alone() -> None:
    queue, _ = pending(plan_burst_pods=0)

    assert not any(arrive(queue, pod) for pod in "abcde")


def test_a_burst_has_settled_when_all_that_came_were_filtered() -> None:
    queue, clock = pending()
    for pod in "abcd":
        queue.seen(pod)
    assert queue.settled()  # nobody waits yet
    arrive(queue, "a")
    clock.now += 0.1
    assert not queue.settled()
    for pod in "bcd":
        arrive(queue, pod)
    assert queue.settled()


def test_a_plan_ends_the_waiting_and_who_is_left_out_yields_once() -> None:
    queue, clock = pending()
    for pod in "abcd":
        arrive(queue, pod)

    queue.planned("abcd", "d")

    assert not queue.waits_for_plan("c", room=0)
    assert queue.yields("d")
    clock.now += Settings().plan_lasts_seconds
    assert not queue.yields("d")
    queue.planned("d", "d")
    assert not queue.yields("d")


def test_who_yields_hears_of_the_end() -> None:
    queue, clock = pending()
    for pod in "abcd":
        arrive(queue, pod)
    queue.planned("abcd", "d")

    before = clock.now
    clock.now += 1.0
    assert not queue.expired(since=before)
    assert queue.carried_out()
    assert not queue.yields("d")


SOON = msgspec.structs.replace(
    QUICK, plan_burst_pods=2, plan_settle_seconds=0.01, plan_lasts_seconds=0.5
)


async def test_a_burst_is_placed_as_one_problem() -> None:
    """One by one in order of arrival, the small pods would leave no room for the large one."""
    world = World()
    await world.add_node("node-1")
    async with world.extender(SOON) as extender, world.obedient("node-1"):
        small = [await world.add_pod(f"small-{at}", "1-10C") for at in range(3)]
        large = await world.add_pod("large", "7-80C")
        await until(lambda: len(extender.knowledge.pods) == 4)
        scheduler = Scheduler(extender, ["node-1"])
        await scheduler.once([*small, large])
        assert set(scheduler.reasons.values()) == {
            "vGPU: being placed together with the pods that came with it"
        }
        await until(lambda: extender.knowledge.ledger.planned)
        await scheduler.once([*small, large])

        assert await world.bound("large") == "node-1"
        assert [await world.bound(f"small-{at}") for at in range(3)] == ["", "", ""]


async def test_a_plan_nobody_comes_for_keeps_nobody_out_for_long() -> None:
    world = World()
    await world.add_node("node-1")
    async with world.extender(SOON) as extender, world.obedient("node-1"):
        small = await world.add_pod("small", "1-10C")
        large = await world.add_pod("large", "7-80C")
        await until(lambda: len(extender.knowledge.pods) == 2)
        scheduler = Scheduler(extender, ["node-1"])
        await scheduler.once([small, large])
        await until(lambda: extender.knowledge.ledger.planned)
        await world.delete_pod(large)
        await until(lambda: not extender.knowledge.ledger.planned)
        await scheduler.until_bound(world, [small])


def broken(problem: Problem, **_: Any) -> Outcome:
    raise ValueError("the packing model is invalid")


@pytest.mark.parametrize("faulty", [broken, overlapping, overpraised])
async def test_a_fault_in_the_planning_leaves_pods_to_be_placed_one_by_one(
    faulty: Callable[..., Outcome],
) -> None:
    cluster = KubernetesCluster(InMemoryApi(), own_pod=OwnPod("tangram-system", "extender-0"))
    service = Service(cluster)
    for feed in Feed:
        service.knowledge.feed_synced(feed)
    service.knowledge.lease("node-1", "1")
    service.knowledge.gpu_node(gpu_node("node-1", gpus=2))
    pods = [raw_pod("1-10C", name=f"vm-{at}", uid=f"uid-{at}") for at in range(9)]
    answers = [service.hooks.filter(filter_args(pod, "node-1")) for pod in pods]
    assert answers[-1].node_names == ()

    with patch.object(joint, "solve", faulty):
        await service.planner.plan()

    assert service.knowledge.ledger.planned == {}
    failed = ("tangram_joint_plan_duration_seconds_count", {"status": "failed"})
    assert service.knowledge.work.registry.get_sample_value(*failed) == 1
    assert service.hooks.filter(filter_args(pods[-1], "node-1")).node_names == ("node-1",)
