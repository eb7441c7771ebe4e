"""Several candidates, slow and lossy ways to the API server, clocks that disagree: one leader."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Generator, Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.service.leadership import Candidacy, Claim, Record
from extender.settings import LeaseTiming

TIMING = LeaseTiming()
RATES = st.floats(0.85, 1.15)  # the gap between deadline and duration bears a fifth in all
Process = Generator[float, None, None]  # yields the seconds it waits


class Turn(msgspec.Struct, frozen=True):
    """One round of a candidate: what it waits, and what becomes of its requests, in true seconds.

    A request that takes longer than the candidate waits for it is written all the same.
    """

    pause: float
    there: float = 0.0
    back: float = 0.0
    lost: bool = False


class Clock(msgspec.Struct, frozen=True):
    rate: float = 1.0
    offset: float = 0.0

    def shows(self, true: float) -> float:
        return self.offset + true * self.rate

    def true(self, shown: float) -> float:
        return (shown - self.offset) / self.rate


class Life(msgspec.Struct, frozen=True):
    clock: Clock
    turns: list[Turn]
    releases: bool = False


class Story:
    """The Lease, the true time, and who led when."""

    def __init__(self) -> None:
        self.now = 0.0
        self.record: Record | None = None
        self.terms: list[tuple[str, float, float]] = []
        self._versions = itertools.count(1)
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, Process]] = []

    def start(self, process: Process, *, after: float = 0.0) -> None:
        heapq.heappush(self._waiting, (self.now + after, next(self._order), process))

    def run(self) -> None:
        while self._waiting:
            self.now, _, process = heapq.heappop(self._waiting)
            for wait in process:
                self.start(process, after=wait)
                break

    def write(self, claim: Claim) -> Record | None:
        version = "" if self.record is None else self.record.version
        if claim.version != version:
            return None
        self.record = Record(
            str(next(self._versions)), claim.holder, claim.duration, claim.transitions
        )
        return self.record

    def delete(self, at: float) -> Process:
        yield at
        self.record = None

    def led(self, who: str, since: float, until: float) -> None:
        """Note a term; what *who* was thought to have from here on before is void."""
        cut = (
            (name, began, min(ended, self.now) if name == who else ended)
            for name, began, ended in self.terms
        )
        self.terms = [(name, began, ended) for name, began, ended in cut if began < ended]
        if since < until:
            self.terms.append((who, max(since, self.now), until))

    def overlapping(self) -> list[tuple[str, str]]:
        return [
            (one, other)
            for (one, began, ended), (other, began2, ended2) in itertools.combinations(
                self.terms, 2
            )
            if one != other and began < ended2 and began2 < ended
        ]


def candidate(story: Story, clock: Clock, life: Life, me: Candidacy) -> Process:
    """Run for the lead as the loop does; in the end go, with or without a farewell."""

    def now() -> float:
        return clock.shows(story.now)

    for turn in life.turns:
        yield turn.pause
        if not me.leads(now=now()):
            yield turn.there
            seen = story.record
            yield turn.back
            if turn.lost:
                continue
            me = me.observe(seen, now=now())
        sent, claim = now(), me.claim(now=now())
        if claim is None:
            written = None
        elif turn.lost:  # nobody waits for it, yet it arrives
            story.start(late(story, claim, turn.there + turn.back))
            written = None
        else:
            yield turn.there
            written = story.write(claim)
            yield turn.back
        if written is None:
            me = me.observe(story.record, now=now())
        else:
            me = me.elected(written, sent=sent, now=now())
        story.led(me.identity, clock.true(me.leads_from), clock.true(me.leads_until))
    farewell = me.release(now=now()) if life.releases else None
    if farewell is not None:
        story.led(me.identity, math.inf, -math.inf)
        story.start(late(story, farewell, life.turns[-1].there))


def late(story: Story, claim: Claim, after: float) -> Process:
    yield after
    story.write(claim)


def told(lives: list[Life], deletions: Iterable[float] = (), timing: LeaseTiming = TIMING) -> Story:
    story = Story()
    for at in deletions:
        story.start(story.delete(at))
    for number, life in enumerate(lives):
        me = Candidacy(identity=f"candidate-{number}", timing=timing)
        story.start(candidate(story, life.clock, life, me))
    story.run()
    return story


at_once = st.just(0.0)
now_and_then = st.one_of(*[at_once] * 6, st.floats(0, 1), st.floats(0, 30))
prompt = st.builds(Turn, pause=st.sampled_from([0.5, 1.0, 2.0, 2.4]))
troubled = st.builds(
    Turn,
    pause=st.floats(0, 20),
    there=now_and_then,
    back=now_and_then,
    lost=st.booleans(),
)
turns = st.lists(st.one_of(*[prompt] * 5, troubled), min_size=20, max_size=50)
clocks = st.builds(Clock, rate=st.sampled_from([0.85, 1.15]) | RATES, offset=st.floats(-1e4, 1e4))
staying = st.builds(Life, clock=clocks, turns=turns, releases=st.booleans())
late_comers = st.builds(Life, clock=clocks, turns=turns.map(lambda all: [Turn(20.0), *all]))
short_lived = st.builds(
    Life, clock=clocks, turns=turns.map(lambda all: all[:12]), releases=st.booleans()
)


@settings(max_examples=200)
@given(
    st.tuples(staying, late_comers, short_lived).map(list), st.lists(st.floats(0, 90), max_size=3)
)
def test_no_two_may_write_at_the_same_time(lives: list[Life], deletions: list[float]) -> None:
    assert told(lives, deletions).overlapping() == []


PROMPT = [Turn(2.0)] * 30


def life(turns: list[Turn], *, rate: float = 1.0, releases: bool = False) -> Life:
    return Life(Clock(rate), turns, releases)


def test_somebody_leads_and_goes_on_leading() -> None:
    story = told([life(PROMPT), life(PROMPT)])

    began = [began for _, began, _ in story.terms]
    assert {name for name, _, _ in story.terms} == {"candidate-0"}
    # Where there was no Lease, its duration is waited out.
    assert began == [17.0, *(18.0 + 2.0 * n for n in range(len(began) - 1))]
    assert len(began) > 20


def test_a_crashed_leader_is_replaced_after_its_time_and_no_sooner() -> None:
    story = told([life(PROMPT[:10]), life(PROMPT)])

    last = max(until for name, _, until in story.terms if name == "candidate-0")
    next_ = min(began for name, began, _ in story.terms if name == "candidate-1")
    assert 0 < next_ - last <= 15 - 10 + 2 * 2


def test_a_leader_that_releases_is_replaced_at_the_next_look() -> None:
    story = told([life(PROMPT[:10], releases=True), life(PROMPT)])

    last = max(until for name, _, until in story.terms if name == "candidate-0")
    next_ = min(began for name, began, _ in story.terms if name == "candidate-1")
    assert 0 <= next_ - last <= 2


def test_one_that_waits_in_a_new_leases_name_releases_nothing() -> None:
    story = told([life(PROMPT[:3], releases=True), life(PROMPT)])

    (leader,) = {name for name, _, _ in story.terms}
    assert leader == "candidate-1"
    assert min(began for _, began, _ in story.terms) > 15


class Careless(LeaseTiming, frozen=True, kw_only=True):
    """Times that the real thing refuses."""

    renew_deadline_seconds: float = 40.0

    def __post_init__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("timing", "slow", "fast"),
    [
        pytest.param(Careless(), 1.0, 1.0, id="a deadline after the lease's end"),
        pytest.param(TIMING, 0.6, 1.4, id="clocks further apart than the gap bears"),
    ],
)
def test_the_judge_sees_two_leaders_where_there_are_two(
    timing: LeaseTiming, slow: float, fast: float
) -> None:
    crashing, watching = PROMPT[:15], [Turn(31.0), *PROMPT]

    def overlapping(timing: LeaseTiming, slow: float, fast: float) -> list[tuple[str, str]]:
        lives = [life(crashing, rate=slow), life(watching, rate=fast)]
        return told(lives, timing=timing).overlapping()

    assert overlapping(timing, slow, fast)
    assert not overlapping(TIMING, 1.0, 1.0)
