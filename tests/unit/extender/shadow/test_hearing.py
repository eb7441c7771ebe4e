"""What of all that crosses the seam is news to a shadow, and when a stretch is over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from extender.cluster import KubernetesCluster
from extender.policy import InForce, PolicyName
from extender.service import Service
from extender.service.ports import Feed, PodFacts
from extender.service.seam import Call, Seam
from extender.shadow import news
from extender.shadow.hearing import Hearing, Why, standing, told
from extender.shadow.news import News
from nodeagent.api.gpunode import PodRef
from nodeagent.api.rivals import RIVALS
from nodeagent.apiserver.memory import InMemoryApi
from tests.builders import gpu_node, request

BEGINS = news.Begins(at=0.0, policy=InForce.of(PolicyName.FIRST_FIT), live="live")


class Clock:
    now = 1.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(clock: Clock) -> Service:
    made = Service(KubernetesCluster(InMemoryApi()), clock=clock, seam=Seam(clock))
    for feed in Feed:
        made.knowledge.feed_synced(feed)
    made.knowledge.namespace("default", {"team": "red"})
    made.knowledge.node("node-1", cordoned=True, labels={"pool": "a"})
    return made


def waiting(hearing: Hearing) -> Iterator[News]:
    """Return the news that wait, as they are read from their lines."""
    while hearing.waiting:
        call = hearing.waiting.take()
        assert isinstance(call, Call)
        yield news.read(news.line(told(call)))


def heard(service: Service, clock: Clock, most_bytes: int = 1 << 20) -> Hearing:
    hearing = Hearing(clock, most_bytes)
    service.knowledge.seam.join(hearing)
    return hearing


def test_how_things_stand_is_told_first(service: Service) -> None:
    first, *rest = standing(service.knowledge, BEGINS)

    assert first is BEGINS
    assert news.Namespace(at=0.0, name="default", labels={"team": "red"}) in rest
    assert news.Node(at=0.0, name="node-1", closed=True, labels={"pool": "a"}) in rest
    assert isinstance(rest[-1], news.Ready)


def test_how_things_stand_is_how_they_stood_when_it_was_asked(service: Service) -> None:
    first = standing(service.knowledge, BEGINS)
    service.knowledge.node("node-2", cordoned=False)

    assert [each.name for each in first if isinstance(each, news.Node)] == ["node-1"]


def test_a_filter_is_told_with_the_nodes_once_and_with_its_reasons(
    service: Service, clock: Clock
) -> None:
    hearing, asked = heard(service, clock), request("1-10C", pod="vm")
    service.hooks.judge(asked, ["node-1"])
    service.hooks.judge(asked, ["node-1"])

    first, second = waiting(hearing)
    assert isinstance(first, news.Asked)
    assert isinstance(second, news.Asked)
    assert first.request == asked
    assert (tuple(first.names), tuple(second.names)) == (("node-1",), ())
    assert first.codes
    assert not first.passed


def test_of_pods_it_is_told_only_that_they_are_over(service: Service, clock: Clock) -> None:
    hearing = heard(service, clock)
    pod = PodRef("default", "vm", "uid")
    service.knowledge.pod(PodFacts(pod, request("1-10C", pod="vm"), phase="Running"))
    service.knowledge.pod(PodFacts(pod, request("1-10C", pod="vm"), phase="Succeeded"))
    clock.now = 5.0
    service.knowledge.pod_gone("uid")

    assert list(waiting(hearing)) == [
        news.Left(at=1.0, uid="uid"),
        news.Left(at=5.0, uid="uid"),
    ]


def test_a_node_that_is_gone_takes_nothing_new(service: Service, clock: Clock) -> None:
    hearing = heard(service, clock)
    service.knowledge.node_gone("node-1")

    assert list(waiting(hearing)) == [news.Node(at=1.0, name="node-1", closed=True)]


def test_a_node_that_a_rival_has_takes_nothing_new(service: Service, clock: Clock) -> None:
    hearing = heard(service, clock)
    service.knowledge.node("node-1", cordoned=False, rival=RIVALS[0])

    assert list(waiting(hearing)) == [news.Node(at=1.0, name="node-1", closed=True)]
    told_first = standing(service.knowledge, BEGINS)
    assert [each.closed for each in told_first if isinstance(each, news.Node)] == [True]


def test_which_gpu_nodes_are_gone_is_told_by_their_uids(service: Service, clock: Clock) -> None:
    hearing = heard(service, clock)
    service.knowledge.gpu_node_gone("node-1", "uid-1")
    service.knowledge.gpu_node_deleted("node-1", "uid-2")
    service.knowledge.gpu_nodes_are({"uid-3"}, "7")

    assert list(waiting(hearing)) == [
        news.Gone(at=1.0, name="node-1", uid="uid-1"),
        news.Gone(at=1.0, name="node-1", uid="uid-2", deleted=True),
        news.Listed(at=1.0, uids=["uid-3"], version="7"),
    ]


def test_a_namespace_that_was_deleted_is_told(service: Service, clock: Clock) -> None:
    hearing = heard(service, clock)
    service.knowledge.namespace_gone("default")

    assert list(waiting(hearing)) == [news.NamespaceGone(at=1.0, name="default")]


def test_once_another_node_has_joined_where_a_pod_may_go_is_told_again(
    service: Service, clock: Clock
) -> None:
    service.knowledge.gpu_node(gpu_node("node-1"))
    hearing = Hearing(clock, nodes=service.knowledge.views)
    service.knowledge.seam.join(hearing)
    pod = request("1-10C", pod="vm")
    service.hooks.judge(pod, ["node-1"])
    service.knowledge.gpu_node(gpu_node("node-1"))
    service.hooks.judge(pod, ["node-1"])
    service.knowledge.gpu_node(gpu_node("node-2"))
    service.hooks.judge(pod, ["node-1", "node-2"])
    service.hooks.judge(pod, ["node-1", "node-2"])

    told_of = [tuple(each.names) for each in waiting(hearing) if isinstance(each, news.Asked)]
    assert told_of == [("node-1",), (), ("node-1", "node-2"), ()]


def test_what_finds_no_room_ends_the_stretch_and_nothing_after_it_is_heard(
    service: Service, clock: Clock
) -> None:
    hearing = heard(service, clock, most_bytes=3_000)
    for number in range(10):
        service.knowledge.node(f"node-{number}", cordoned=False)

    assert hearing.over is Why.OVERFLOW
    assert hearing.waiting.refused == 1
    assert len(hearing.waiting) < 10


def test_another_policy_ends_the_stretch(service: Service, clock: Clock) -> None:
    hearing = heard(service, clock)
    service.knowledge.adopt(InForce.of(PolicyName.BEST_FIT))
    service.knowledge.node("node-1", cordoned=False)

    assert hearing.over is Why.POLICY
    assert not hearing.waiting


def test_another_term_ends_the_stretch(service: Service, clock: Clock) -> None:
    hearing = heard(service, clock)
    service.knowledge.end_term()

    assert hearing.over is Why.LEAD


def test_what_cannot_be_heard_ends_the_stretch_and_the_others_hear_on(
    service: Service, clock: Clock
) -> None:
    class Other:
        calls = 0

        def heard(self, _: Call) -> None:
            self.calls += 1

    def broken() -> float:
        raise RuntimeError("no clock")

    other, hearing = Other(), Hearing(broken)
    service.knowledge.seam.join(other)
    service.knowledge.seam.join(hearing)
    service.knowledge.node("node-1", cordoned=False)
    service.knowledge.node("node-1", cordoned=True)

    assert hearing.over is Why.DIED
    assert other.calls == 2


def test_who_leaves_hears_of_nothing_any_more(service: Service, clock: Clock) -> None:
    one, two = heard(service, clock), heard(service, clock)
    service.knowledge.seam.leave(one)
    service.knowledge.node("node-1", cordoned=False)
    service.knowledge.seam.leave(two)
    service.knowledge.node("node-1", cordoned=True)

    assert (len(one.waiting), len(two.waiting)) == (0, 1)
    assert service.knowledge.seam.quiet
