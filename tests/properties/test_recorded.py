"""Whatever a kubelet gives to whom, the plan follows, and promises nothing twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extender.snapshot import NodeView
from extender.verbs.record import corrections
from nodeagent.api.gpunode import Assignment, Instance, Mode, PodRef
from tests.builders import VGPU, assignment, gpu, gpu_node, instance, view

ONE, SMALL = 19, VGPU + "1-10C"
PODS = ["p1", "p2", "p3", "p4"]
STARTS = range(7)

# Who is planned where, and who has the device that is there: pods are given one each at most.
planned = st.dictionaries(st.sampled_from(PODS), st.sampled_from(STARTS), max_size=4).filter(
    lambda each: len(set(each.values())) == len(each)
)
given_to = st.dictionaries(
    st.sampled_from([*PODS, "stranger"]), st.sampled_from(STARTS), max_size=5
).filter(lambda each: len(set(each.values())) == len(each))


def node(plan: dict[str, int], given: dict[str, int]) -> NodeView:
    """Return a node full of small GPU instances, as its agent tells of it."""
    entries = {pod: assignment(f"a-{pod}", ONE, start, pod=pod) for pod, start in plan.items()}
    owners = {start: pod for pod, start in plan.items()}
    holders = {start: pod for pod, start in given.items()}
    return view(
        gpu_node(
            gpus=[gpu(instances=[_instance(start, owners, holders) for start in STARTS])],
            plan=entries.values(),
            mode=Mode.HARVESTER,
        )
    )


def _instance(start: int, owners: dict[int, str], holders: dict[int, str]) -> Instance:
    owner, holder = owners.get(start), holders.get(start)
    told = holder if holder != owner else None  # what is as planned is not told
    return instance(
        ONE,
        start,
        gi_id=start + 1,
        assignment=f"a-{owner}" if owner else "",
        holder=PodRef("default", f"name-{told}", told) if told else None,
        resource=SMALL,
        standing=owner is None and holder is None,
    )


def followed(found: NodeView) -> list[Assignment]:
    """Return the plan after all corrections."""
    changes = {each.entry.id: each.becomes for each in corrections(found)}
    entries = (changes.get(each.id, each) for each in found.node.spec.assignments)
    return [each for each in entries if each is not None]


@given(planned, given_to)
def test_whoever_has_a_device_and_an_entry_is_planned_where_it_is(
    plan: dict[str, int], given: dict[str, int]
) -> None:
    after = followed(node(plan, given))

    for each in after:
        assert each.pod is not None
        if each.pod.uid in given:
            assert each.start == given[each.pod.uid]


@given(planned, given_to)
def test_no_place_is_planned_twice_nor_one_that_another_has(
    plan: dict[str, int], given: dict[str, int]
) -> None:
    after = followed(node(plan, given))

    assert len({each.start for each in after}) == len(after)
    holders = {start: pod for pod, start in given.items()}
    for each in after:
        assert each.pod is not None
        assert holders.get(each.start, each.pod.uid) == each.pod.uid


@given(planned, given_to)
def test_only_who_was_displaced_by_a_stranger_may_lose_its_entry(
    plan: dict[str, int], given: dict[str, int]
) -> None:
    after = {each.pod.uid for each in followed(node(plan, given)) if each.pod}

    for pod in plan.keys() - after:
        assert pod not in given
        assert plan[pod] in given.values()


@given(planned, given_to)
def test_once_recorded_nothing_is_left_to_record(
    plan: dict[str, int], given: dict[str, int]
) -> None:
    after = {each.pod.uid: each.start for each in followed(node(plan, given)) if each.pod}

    assert corrections(node(after, given)) == ()
