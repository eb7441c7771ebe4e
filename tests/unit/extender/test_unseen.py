"""What is remembered of pods that the watch does not show: gone by now, or never shown at all."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from extender.request import Gang
from extender.service import Service
from extender.service.enlisted import Enlisted
from extender.service.ports import PodFacts
from extender.service.unseen import Unseen
from nodeagent.api import keys
from tests.builders import assignment, gpu_node, raw_pod, request
from tests.fakes.world import filter_args
from tests.unit.extender.test_gangs import said

GANG = {keys.GANG: "g", keys.GANG_SIZE: "2"}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(service: Service) -> Clock:
    made = service.knowledge.clock = Clock()
    return made


def remembered(service: Service) -> dict[str, int]:
    """Return of how many pods each memory has something."""
    knowledge = service.knowledge
    found = {
        "requests": len(knowledge.requests),
        "refused": len(knowledge.refused),
        "waiting": len(knowledge.pending.waiting),
        "gangs": len(knowledge.enlisted.members),
        "unseen": len(knowledge.unseen),
        "presumed": len(knowledge.ledger.presumed),
    }
    return {what: count for what, count in found.items() if count}


@pytest.mark.parametrize(("wanted", "passed"), [("1-10C", ("node-1",)), ("9-99C", ())])
def test_a_late_filter_of_a_pod_that_is_gone_is_answered_and_leaves_nothing(
    service: Service, wanted: str, passed: tuple[str, ...]
) -> None:
    service.knowledge.pod_gone("pod-1")

    answer = service.hooks.filter(filter_args(raw_pod(wanted), "node-1"))
    service.hooks.prioritize(filter_args(raw_pod(wanted), "node-1"))

    assert answer.node_names == passed
    assert not remembered(service)


def test_a_pod_that_is_labelled_again_is_remembered_again(service: Service) -> None:
    service.knowledge.pod_gone("pod-1")
    service.knowledge.pod(PodFacts(request("1-10C").pod, request("1-10C")))

    service.hooks.filter(filter_args(raw_pod("1-10C"), "node-1"))

    assert "pod-1" in service.knowledge.requests


@pytest.mark.parametrize("gang", [{}, GANG], ids=["alone", "in a gang"])
def test_whom_neither_the_watch_nor_filter_speaks_of_is_forgotten(
    service: Service, clock: Clock, gang: dict[str, str]
) -> None:
    pod: dict[str, Any] = said(raw_pod("7-80C", "7-80C", "7-80C"), **gang)  # of two GPUs
    seconds = service.knowledge.settings.unseen_pod_seconds
    service.hooks.filter(filter_args(pod, "node-1"))
    clock.now += seconds - 1.0
    service.hooks.filter(filter_args(pod, "node-1"))
    clock.now += 2.0
    service.knowledge.tick()
    assert remembered(service), "it was asked about again meanwhile"

    clock.now += seconds
    service.knowledge.tick()

    assert not remembered(service)


def test_whom_the_watch_shows_is_remembered_however_long_nobody_asks(
    service: Service, clock: Clock
) -> None:
    service.hooks.filter(filter_args(raw_pod("7-80C", "7-80C", "7-80C"), "node-1"))
    service.knowledge.pod(PodFacts(request("7-80C").pod, request("7-80C")))

    clock.now += 2 * service.knowledge.settings.unseen_pod_seconds
    service.knowledge.tick()

    assert remembered(service) == {"requests": 1, "refused": 1, "waiting": 1}


def test_who_has_a_place_stays_in_its_gang_until_that_is_given_back(
    service: Service, clock: Clock
) -> None:
    knowledge, uid = service.knowledge, "pod-1"
    service.hooks.filter(filter_args(said(raw_pod("1-10C"), **GANG), "node-1"))
    placed = gpu_node("node-1", gpus=2, plan=[assignment("x", 19, 0, pod=uid)])
    metadata = msgspec.structs.replace(placed.metadata, generation=9, resource_version="99")
    knowledge.gpu_node(msgspec.structs.replace(placed, metadata=metadata))
    assert uid in knowledge.assigned

    for _ in range(2):
        clock.now += 2 * knowledge.settings.unseen_pod_seconds
        knowledge.lease("node-1", str(clock.now))
        knowledge.tick()

    assert knowledge.enlisted.members.keys() == {("default", "g")}


def test_of_too_many_the_oldest_are_over_at_once() -> None:
    unseen = Unseen(limit=2)
    for at, uid in enumerate("abca"):
        unseen.asked(uid, now=float(at))

    assert list(unseen.over(since=-1.0)) == ["b"]
    assert list(unseen.over(since=2.0)) == ["c"]
    assert len(unseen) == 1


def test_a_pod_is_in_one_gang_at_a_time() -> None:
    enlisted = Enlisted()
    asked = request("1-10C")
    for name in ("g", "h", ""):
        gang = Gang("default", name, 2) if name else None
        enlisted.enlist(msgspec.structs.replace(asked, gang=gang))
        assert list(enlisted.members) == ([("default", name)] if name else [])
