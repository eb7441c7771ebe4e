"""Who is ending, and how long it is waited for: its own grace, a day at most, by our clock."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from extender.cluster import objects
from extender.decision_log.encoding import Encoder
from extender.decision_log.layout import Header, Restating
from extender.decision_log.stage import Stage
from extender.policy import InForce, PolicyName
from extender.service.ending import Ending
from extender.service.ports import PodFacts
from extender.settings import Settings
from tests.builders import raw_pod

DAY = 24 * 3600


def ends(grace: int | None, *, deleted: str = "2026-01-01T00:00:00Z") -> PodFacts:
    pod = raw_pod("1-10C", nodeName="node-1")
    pod["metadata"] |= {"deletionTimestamp": deleted, "deletionGracePeriodSeconds": grace}
    return objects.pod(msgspec.json.encode(pod), devices_per_pod=8)


@given(st.none() | st.integers(-(2**63), 2**63 - 1))
def test_whatever_grace_a_pod_has_it_is_waited_for_a_day_at_most(grace: int | None) -> None:
    assert 0 <= ends(grace).grace_seconds <= DAY
    assert ends(grace).grace_seconds in (grace, 0, DAY)


@given(st.text(max_size=20).filter(bool))
def test_what_time_its_deletion_is_said_to_be_does_not_count(deleted: str) -> None:
    now = 1000.0
    ending, pod = Ending(lambda: now), ends(60, deleted=deleted)
    ending.seen(pod)

    assert ending.awaited(pod, now=1059.0)
    assert not ending.awaited(pod, now=1060.0)


def test_its_time_counts_from_when_it_was_first_seen_to_end() -> None:
    now = 0.0
    ending, pod = Ending(lambda: now), ends(60)
    ending.seen(msgspec.structs.replace(pod, deleting=False, grace_seconds=0))
    assert not ending.awaited(pod, now=now)
    for now in (100.0, 130.0, 159.0):
        ending.seen(pod)
        assert ending.awaited(pod, now=now)

    assert not ending.awaited(pod, now=160.0)


def test_a_grace_that_is_cut_short_is_what_counts() -> None:
    ending = Ending(lambda: 0.0)
    ending.seen(ends(3600))
    ending.seen(ends(0))

    assert not ending.awaited(ends(0), now=1.0)


def test_of_who_is_gone_nothing_is_remembered() -> None:
    ending, pod = Ending(lambda: 0.0), ends(60)
    ending.seen(pod)
    assert list(ending.restated())
    ending.gone(pod.ref.uid)

    assert not ending.awaited(pod, now=1.0)
    assert not list(ending.restated())


def test_a_state_that_is_played_from_a_log_goes_on_as_it_was() -> None:
    before, pod = Ending(lambda: 7.0), ends(60)
    before.seen(pod)
    header = Header(
        program="tangram",
        run="run",
        file=1,
        began="2026-01-01T00:00:00Z",
        leads=True,
        policy=InForce.of(PolicyName.DEFAULT),
        settings=Settings(),
    )

    stage = Stage(header)
    line, _ = Encoder("policy").restating(before.restated())
    stage.make(msgspec.json.decode(line, type=Restating))

    assert stage.knowledge.ending.awaited(pod, now=66.0)
    assert not stage.knowledge.ending.awaited(pod, now=67.0)
