"""The process beside: it is told, it reports, it may die or hang, and nothing of it is left."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from extender.policy import InForce, PolicyName
from extender.service.seam import Call
from extender.shadow import confined, news
from extender.shadow.beside import Beside
from extender.shadow.confined import MOST_BYTES, NICE
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
        await until(lambda: beside.evidence is not None, within=90.0)
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
    await until(lambda: beside.evidence is not None and beside.evidence.seconds == 9.0, within=90.0)
    beside.end()

    assert not beside.failed


async def test_one_that_is_killed_has_failed_and_leaves_no_zombie(hearing: Hearing) -> None:
    beside = Beside(standing(), hearing)
    await until(lambda: beside.evidence is not None, within=90.0)
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


async def test_one_that_hangs_is_behind_for_longer_and_longer() -> None:
    now = 1.0
    hearing = Hearing(lambda: now)
    beside = Beside(standing(), hearing, command=HANGS)
    await until(lambda: beside.pid is not None)
    now = 100.0

    assert beside.behind > 0
    assert beside.lag_seconds == 99.0
    beside.end()


async def test_one_that_has_told_all_of_what_it_was_told_is_not_behind() -> None:
    now = 1.0
    hearing = Hearing(lambda: now)
    beside = Beside(standing(), hearing)
    await until(lambda: beside.behind == 0, within=90.0)
    now = 3_600.0

    assert beside.lag_seconds == 0.0
    beside.end()


async def test_one_that_wants_too_much_memory_fails_alone(hearing: Hearing) -> None:
    greedy = (sys.executable, "-c", "import sys; sys.stdin.readline(); bytearray(1 << 30)")
    beside = Beside(standing(), hearing, command=greedy, most_bytes=256 << 20)
    await until(lambda: beside.failed, within=90.0)

    assert gone(beside.pid)


async def test_it_goes_last_and_is_ended_first_and_knows_nothing_that_is_secret(
    hearing: Hearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confined, "NICE", NICE)
    monkeypatch.setenv("A_PASSWORD", "hunter2")
    beside = Beside(standing(), hearing, command=HANGS)
    await until(lambda: beside.pid is not None)
    of = Path(f"/proc/{beside.pid}")
    await until(lambda: (of / "oom_score_adj").read_text() == "1000\n")
    await until(lambda: b"signal.pause" in (of / "cmdline").read_bytes())

    assert os.getpriority(os.PRIO_PROCESS, beside.pid or 0) == NICE
    assert str(MOST_BYTES) in (of / "limits").read_text()
    assert b"hunter2" not in (of / "environ").read_bytes()
    beside.end()


async def test_whatever_keeps_it_from_being_told_nothing_is_left(
    hearing: Hearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(thread: threading.Thread) -> None:
        if thread.name == "shadow-reports":
            raise RuntimeError("can't start new thread")
        start(thread)

    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", none)
    beside = Beside(standing(), hearing, command=HANGS)
    await until(lambda: beside.failed)
    beside.end()

    assert gone(beside.pid)
    assert not threads()


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
    await until(lambda: beside.failed, within=90.0)
    beside.end()

    assert gone(beside.pid)
