"""Of pods that are equal but for their age the youngest is evicted, as plans tell of their ages."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from extender.claims import claimant, in_the_way
from extender.cluster import KubernetesCluster, objects
from extender.request import Request
from extender.service import Service
from extender.service.evictable import evictable
from extender.service.ports import Feed, PodFacts
from extender.verbs.victims import cheapest_on
from nodeagent.api import rfc3339
from nodeagent.api.catalog import MODELS
from nodeagent.api.gpunode import Assignment
from nodeagent.apiserver.memory import InMemoryApi
from tests.builders import assignment, gpu_node, request, view

SMALL, MEDIA, PLACES = 19, 20, 7  # 1g.10gb, of which an H100 takes seven, and 1g.10gb+me
HIGH = 9


@st.composite
def ages(draw: st.DrawFn) -> list[str]:
    """Draw times, each later than the one before, with fractions of seconds or without."""
    at = datetime.fromtimestamp(draw(st.integers(10**9, 2 * 10**9)), UTC)
    found = []
    for _ in range(draw(st.integers(2, PLACES))):
        if draw(st.booleans()):
            found.append(rfc3339.seconds(at))
        else:
            at += timedelta(microseconds=draw(st.integers(0, 999_999)))
            found.append(rfc3339.microseconds(at))
            at = at.replace(microsecond=0)
        at += timedelta(seconds=draw(st.integers(1, 10**6)))
    return found


def asking(name: str, priority: int) -> Request:
    return msgspec.structs.replace(request("1-10C", pod=name), priority=priority)


def occupied(plan: Sequence[Assignment], priorities: Sequence[int]) -> Service:
    """Return a service that has read a node with these entries, and knows their pods."""
    made = Service(KubernetesCluster(InMemoryApi()))
    knowledge = made.knowledge
    for feed in Feed:
        knowledge.feed_synced(feed)
    knowledge.node("node-1", cordoned=False)
    knowledge.lease("node-1", "1")
    knowledge.gpu_node(objects.gpu_node(msgspec.json.encode(gpu_node("node-1", plan=plan))))
    for at, priority in enumerate(priorities):
        asked = asking(f"pod-{at}", priority)
        knowledge.pod(PodFacts(asked.pod, asked, "node-1", "Running"))
    return made


@given(ages(), st.randoms(use_true_random=False))
def test_the_youngest_of_equals_is_chosen_wherever_it_lies(
    times: list[str], chance: random.Random
) -> None:
    """All places are taken; who is none of these is of a priority as high."""
    places = list(range(PLACES))
    chance.shuffle(places)
    plan = [
        msgspec.structs.replace(
            assignment(f"a{at}", SMALL, place, pod=f"pod-{at}"), since=times[at % len(times)]
        )
        for at, place in enumerate(places)
    ]
    priorities = [0 if at < len(times) else HIGH for at in range(PLACES)]
    knowledge = occupied(plan, priorities).knowledge
    view, high = knowledge.views["node-1"], asking("high", HIGH)

    best = cheapest_on(view, knowledge.ledger, evictable(knowledge, view, high), lambda _: high)

    assert best is not None
    assert [each.uid for each in best.victims] == [f"pod-{len(times) - 1}"]


@given(ages())
def test_moments_are_read_in_their_order_however_they_are_written(times: list[str]) -> None:
    read = [rfc3339.moment(each) for each in times]

    assert read == sorted(set(read))
    assert rfc3339.moment("") == rfc3339.moment("yesterday") == 0.0


@given(ages(), st.randoms(use_true_random=False))
def test_of_a_limited_profile_the_youngest_goes_however_times_are_written(
    times: list[str], chance: random.Random
) -> None:
    """As many instances as a GPU may have of it are there, none where the next is to be."""
    count = min(len(times), PLACES - 1)
    geometry = MODELS["H100-80GB"].geometry
    limited = msgspec.structs.replace(
        geometry,
        profiles=tuple(
            msgspec.structs.replace(each, max_instances=count) if each.id == MEDIA else each
            for each in geometry.profiles
        ),
    )
    names = [f"pod-{at}" for at in range(count)]
    chance.shuffle(names)
    plan = [
        msgspec.structs.replace(assignment(f"a{at}", MEDIA, at, pod=names[at]), since=times[at])
        for at in range(count)
    ]
    made = gpu_node("node-1", plan=plan)
    gpus = tuple(msgspec.structs.replace(each, geometry=limited.hash) for each in made.status.gpus)
    status = msgspec.structs.replace(made.status, geometries={limited.hash: limited}, gpus=gpus)
    there = view(msgspec.structs.replace(made, status=status))
    claim = assignment("c", MEDIA, PLACES - 1, pod=None, owner=claimant(asking("high", HIGH).pod))

    assert in_the_way(there, [claim], None) == {names[count - 1]}
