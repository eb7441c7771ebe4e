"""The process beside: it is told, it reports, it may die or hang, and nothing of it is left."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from extender.policy import InForce, PolicyName
from extender.service.seam import Call
from extender.shadow import news
from extender.shadow.beside import Beside
from extender.shadow.hearing import Hearing
from extender.shadow.news import News
from tests.replayed import recorded
from tests.shadowed import Live
from tests.waiting import until

HANGS = (sys.executable, "-c", "import signal; signal.pause()")
BABBLES = (sys.executable, "-c", "import sys; print('no evidence'); sys.stdin.read()")
MISSING = ("/nonexistent/tangram-shadow",)


def standing() -> Iterator[News]:
    of = recorded()
    yield news.Begins(at=0.0, policy=InForce.of(PolicyName.FIRST_FIT), live="live")
    for node in of.nodes:
        yield from Live(of).came(node, 0.0)
    yield news.Ready(at=0.0)


@pytest.fixture
def hearing() -> Hearing:
    return Hearing(lambda: 1.0)


def gone(pid: int | None) -> bool:
    """Tell whether a process is no more, not even as a zombie of ours."""
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def threads() -> set[str]:
    return {each.name for each in threading.enumerate() if each.name.startswith("shadow")}


async def test_it_is_told_how_things_stand_and_reports(hearing: Hearing) -> None:
    beside = Beside(standing(), hearing)
    try:
        await until(lambda: beside.evidence is not None, within=30.0)
    finally:
        beside.end()

    assert beside.evidence is not None
    assert beside.evidence.live_policy == "live"
    assert beside.evidence.live.whole == 0, "no time has passed"
    assert gone(beside.pid)
    assert not threads()


async def test_what_is_heard_is_told_before_it_ends(hearing: Hearing) -> None:
    beside = Beside(standing(), hearing)
    left = Call("Knowledge.pod_gone", ("one",), {}, (9.0,), None)
    hearing.heard(left)
    await until(lambda: beside.evidence is not None and beside.evidence.seconds == 9.0, within=30.0)
    beside.end()

    assert not beside.failed


async def test_one_that_is_killed_has_failed_and_leaves_no_zombie(hearing: Hearing) -> None:
    beside = Beside(standing(), hearing)
    await until(lambda: beside.evidence is not None, within=30.0)
    assert beside.pid is not None
    os.kill(beside.pid, signal.SIGKILL)
    await until(lambda: beside.failed)
    beside.end()

    assert gone(beside.pid)
    assert not threads()


async def test_one_that_hangs_is_killed_in_the_end(hearing: Hearing) -> None:
    beside = Beside(standing(), hearing, command=HANGS)
    await until(lambda: beside.pid is not None)
    beside.end()

    assert gone(beside.pid)
    assert not threads()
    assert not beside.failed


async def test_one_that_does_not_read_holds_nobody_up(hearing: Hearing) -> None:
    endless = (news.Left(at=0.0, uid="x" * 200) for _ in range(1_000_000))
    beside = Beside(endless, hearing, command=HANGS)
    await until(lambda: beside.pid is not None)
    beside.end()

    assert gone(beside.pid)


async def test_one_that_cannot_begin_has_failed(hearing: Hearing) -> None:
    beside = Beside(standing(), hearing, command=MISSING)
    await until(lambda: beside.failed)
    beside.end()

    assert beside.pid is None


async def test_what_is_no_evidence_is_not_taken_for_it(hearing: Hearing) -> None:
    beside = Beside(standing(), hearing, command=BABBLES)
    await until(lambda: beside.pid is not None)
    beside.end()

    assert beside.evidence is None


async def test_one_that_cannot_make_sense_of_its_news_has_failed(hearing: Hearing) -> None:
    def nonsense() -> Iterator[News]:
        yield from standing()
        yield news.Ready(at=1.0)
        yield news.Left(at=float("nan"), uid="one")

    beside = Beside(nonsense(), hearing)
    await until(lambda: beside.failed, within=30.0)
    beside.end()

    assert gone(beside.pid)
