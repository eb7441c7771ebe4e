"""A shadow kept going: by its policy's file, by who leads, and by how its process does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from extender.cluster import KubernetesCluster
from extender.metrics import ShadowFigures
from extender.policy import InForce, PolicyName
from extender.service import Service
from extender.service.ports import ClusterUnavailable, Feed
from extender.service.right_of_way import RightOfWay
from extender.service.seam import Seam
from extender.service.tenure import Tenure
from extender.shadow import Evidence, Shadow, State
from extender.shadow.hearing import Hearing
from extender.shadow.news import News
from extender.shadow.running import BACKOFF_SECONDS, MOST_LAG_SECONDS
from nodeagent.apiserver.memory import InMemoryApi
from tests.replayed import HEAD
from tests.waiting import until

FIRST, BEST = (f"{HEAD}value: {name}\n" for name in ("first-fit", "best-fit"))


class Told:
    """A process that is none: it is told nothing, and says what a test has it say."""

    evidence: Evidence | None = None
    failed = False
    behind = 0
    lag_seconds = 0.0

    def __init__(self, standing: Iterator[News], hearing: Hearing) -> None:
        self.begins = next(standing)
        self.hearing = hearing
        self.ended = False

    def end(self) -> None:
        self.ended = True


class Events:
    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.warned: list[tuple[str, str]] = []

    async def warn(self, reason: str, message: str) -> None:
        if self.refuses:
            raise ClusterUnavailable("down")
        self.warned.append((reason, message))


class Case:
    """A service, its shadow, and the processes that were begun."""

    def __init__(self, path: Path) -> None:
        self.path, self.now = path, 100.0
        self.seam = Seam(lambda: self.now)
        self.tenure = Tenure(self.seam.clock, seam=self.seam)
        self.service = Service(
            KubernetesCluster(InMemoryApi()),
            clock=self.seam.elsewhere,
            seam=self.seam,
            tenure=self.tenure,
        )
        for feed in Feed:
            self.service.knowledge.feed_synced(feed)
        self.begun: list[Told] = []
        self.events = Events()
        self.shadow = Shadow(
            self.service.knowledge,
            path.read_bytes,
            source=str(path),
            utc_now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            events=self.events,
            start=self._start,
        )

    def _start(self, standing: Iterator[News], hearing: Hearing, way: RightOfWay) -> Told:
        assert way is self.service.knowledge.way
        self.begun.append(Told(standing, hearing))
        return self.begun[-1]

    async def look(self, text: str | None = None) -> State:
        if text is not None:
            self.path.write_text(text)
        await self.shadow.look_at_file()
        await self.shadow.look()
        return self.shadow.standing().state


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path / "shadow.yaml")


async def test_without_a_file_there_is_none_and_nobody_listens(case: Case) -> None:
    assert await case.look() is State.NONE
    assert case.seam.quiet
    assert case.shadow.figures() == ShadowFigures(ended=case.shadow.figures().ended)


async def test_a_file_that_comes_begins_one_and_one_that_goes_ends_it(case: Case) -> None:
    assert await case.look(FIRST) is State.RUNNING
    assert not case.seam.quiet
    assert case.shadow.standing().began == "2026-01-01T00:00:00Z"

    case.path.unlink()
    assert await case.look() is State.RUNNING, "it may be being exchanged"
    assert await case.look() is State.NONE
    assert case.begun[0].ended
    assert case.seam.quiet


async def test_another_policy_for_it_begins_anew(case: Case) -> None:
    await case.look(FIRST)
    before = case.shadow.standing().policy
    assert await case.look(BEST) is State.RUNNING

    assert [each.ended for each in case.begun] == [True, False]
    assert case.shadow.standing().policy != before
    assert case.shadow.standing().ended == "shadow-policy"
    assert case.shadow.figures().ended["shadow-policy"] == 1


async def test_a_file_with_a_fault_is_told_once_and_the_one_before_goes_on(case: Case) -> None:
    await case.look(FIRST)
    assert await case.look(HEAD + "value: nonsense\n") is State.RUNNING
    await case.look()

    said = case.shadow.standing()
    assert "nonsense" in said.fault
    assert case.shadow.figures().refused_policy
    assert [reason for reason, _ in case.events.warned] == ["ShadowPolicyRefused"]
    assert len(case.begun) == 1

    await case.look(FIRST)
    assert case.shadow.standing().fault == ""


async def test_an_event_that_cannot_be_written_ends_nothing(case: Case) -> None:
    case.events.refuses = True
    with capture_logs() as lines:
        await case.look("no: policy")

    assert "event_not_written" in {line["event"] for line in lines}


async def test_a_file_that_cannot_be_read_ends_nothing(case: Case) -> None:
    await case.look(FIRST)
    case.path.unlink()
    case.path.mkdir()

    assert await case.look() is State.RUNNING
    assert "cannot be read" in case.shadow.standing().fault


async def test_a_file_that_is_away_for_a_moment_ends_nothing(case: Case) -> None:
    for _ in range(3):
        await case.look(FIRST)
        case.path.unlink()
        assert await case.look() is State.RUNNING

    assert len(case.begun) == 1


async def test_a_file_that_can_be_read_again_has_no_fault(case: Case, tmp_path: Path) -> None:
    await case.look(FIRST)
    away = case.path.rename(tmp_path / "away.yaml")
    case.path.mkdir()
    await case.look()
    case.path.rmdir()
    away.rename(case.path)

    assert await case.look() is State.RUNNING
    assert case.shadow.standing().fault == ""
    assert not case.shadow.figures().refused_policy


async def test_a_fault_of_a_files_content_is_still_told_once_it_can_be_read_again(
    case: Case, tmp_path: Path
) -> None:
    await case.look(HEAD + "value: nonsense\n")
    away = case.path.rename(tmp_path / "away.yaml")
    case.path.mkdir()
    await case.look()
    assert "cannot be read" in case.shadow.standing().fault
    case.path.rmdir()
    away.rename(case.path)
    await case.look()

    assert "nonsense" in case.shadow.standing().fault


async def test_how_it_stands_may_be_asked_while_a_stretch_ends(case: Case) -> None:
    class Ends:
        """A process with which, when it is asked, the stretch ends."""

        failed = False
        behind = 0
        lag_seconds = 0.0

        def end(self) -> None:
            pass

        @property
        def evidence(self) -> Evidence | None:
            case.shadow._stop_hearing()
            case.shadow._beside = None
            return Evidence(policy="p", live_policy="l", seconds=1.0)

    await case.look(FIRST)
    case.shadow._beside = Ends()

    found = case.shadow.standing()
    assert found.state is State.RUNNING
    assert found.evidence is not None


async def test_another_live_policy_begins_anew(case: Case) -> None:
    await case.look(FIRST)
    case.service.knowledge.adopt(InForce.of(PolicyName.BEST_FIT))
    await case.look()

    assert case.shadow.standing().ended == "policy"
    assert len(case.begun) == 2


async def test_only_who_leads_has_one(case: Case) -> None:
    await case.look(FIRST)
    case.tenure.end()
    assert await case.look() is State.WAITING
    assert case.begun[0].ended
    assert case.seam.quiet

    case.tenure.hold(until=float("inf"))
    assert await case.look() is State.RUNNING


async def test_one_that_dies_begins_again_later_and_later(case: Case) -> None:
    await case.look(FIRST)
    case.begun[0].failed = True
    assert await case.look() is State.WAITING
    assert case.begun[0].ended

    case.now += BACKOFF_SECONDS
    assert await case.look() is State.RUNNING
    case.begun[1].failed = True
    await case.look()
    case.now += BACKOFF_SECONDS
    assert await case.look() is State.WAITING, "twice as long"
    case.now += BACKOFF_SECONDS
    assert await case.look() is State.RUNNING
    assert case.shadow.figures().ended["died"] == 2


async def test_one_that_hangs_is_told_to_be_behind_and_ends_in_time(case: Case) -> None:
    await case.look(FIRST)
    case.begun[0].behind, case.begun[0].lag_seconds = 7, MOST_LAG_SECONDS
    assert await case.look() is State.RUNNING
    assert (case.shadow.standing().behind, case.shadow.figures().lag_seconds) == (7, 300.0)

    case.begun[0].lag_seconds += 1.0
    assert await case.look() is State.WAITING
    assert case.shadow.standing().ended == "late"
    assert case.begun[0].ended


async def test_what_was_lost_is_counted_and_a_new_stretch_begins(case: Case) -> None:
    await case.look(FIRST)
    case.begun[0].hearing.waiting._most = 0
    case.service.knowledge.node("node-1", cordoned=False)
    assert await case.look() is State.WAITING

    told = case.shadow.standing()
    assert (told.ended, told.lost) == ("overflow", 1)
    case.now += BACKOFF_SECONDS
    assert await case.look() is State.RUNNING


async def test_who_stops_it_leaves_no_process(case: Case) -> None:
    case.path.write_text(FIRST)
    running = asyncio.create_task(case.shadow.run())
    await until(lambda: case.begun)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert case.begun[0].ended
    assert case.seam.quiet


async def test_one_that_cannot_even_be_begun_leaves_the_rest_alone(tmp_path: Path) -> None:
    case = Case(tmp_path / "shadow.yaml")
    case.path.write_text(FIRST)

    def fails(standing: Iterator[News], hearing: Hearing, way: RightOfWay) -> Told:
        raise RuntimeError("can't start new thread")

    case.shadow._start = fails
    with capture_logs() as lines:
        running = asyncio.create_task(case.shadow.run())
        await until(lambda: "shadow_not_looked_after" in {line["event"] for line in lines})
        assert not running.done()
        running.cancel()
        await asyncio.wait([running])

    assert case.seam.quiet
