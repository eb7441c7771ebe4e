"""A shadow kept going: its policy's file looked at, its process begun and ended.

::

    no policy ──file──▶ waiting ──leads, and ready──▶ running: a stretch
                           ▲                             │ the queue overflows, the process ends,
                           └──── after a while ◀─────────┘ either policy is another, the lead ends
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Protocol

import structlog

from extender.metrics import ShadowFigures
from extender.policy import InForce
from extender.policy.file import MalformedPolicy, parsed
from extender.service.events import OwnEvents
from extender.service.knowledge import Knowledge
from extender.service.ports import ClusterUnavailable
from extender.service.right_of_way import RightOfWay
from extender.shadow import news
from extender.shadow.beside import Beside
from extender.shadow.document import Evidence, Standing, State
from extender.shadow.hearing import Hearing, Why, standing
from extender.shadow.news import News
from nodeagent.api import rfc3339

log = structlog.get_logger()

LOOK_SECONDS = 1.0
"""Between looks at how the process does."""

LOOKS_A_FILE = 2
"""Every so many of these the file is looked at."""

PATIENCE_LOOKS = 2
"""Looks in a row at a file that is not there before there is none: a mount is changed by a rename
or two, and a stretch of days is not to end by that."""

BACKOFF_SECONDS, MOST_BACKOFF_SECONDS = 5.0, 300.0
"""After how long a process that ended, or could not follow, begins again: twice as long each time
in a row, and as at first once it has run for as long as the most of it."""

MOST_LAG_SECONDS = 300.0
"""For how long a process may be behind; one that hangs is not waited for any longer."""

LONGEST_FAULT = 1_000
"""Of what is wrong with a file, in characters, as it is told."""


class Process(Protocol):
    """What runs beside (:class:`extender.shadow.beside.Beside`)."""

    @property
    def evidence(self) -> Evidence | None:
        """What it reported last, None before it has."""

    @property
    def failed(self) -> bool:
        """Whether it has ended by itself."""

    @property
    def behind(self) -> int:
        """How much news there is of which the evidence does not tell yet."""

    @property
    def lag_seconds(self) -> float:
        """For how long that has been so."""

    def end(self) -> None:
        """End it, which takes a moment."""


Start = Callable[[Iterator[News], Hearing, RightOfWay], Process]
"""Begins one, that is told how things stand and then what is heard, when nobody has the way."""


class Shadow:
    """Runs beside the policy in force that *read* returns, whenever this process leads.

    *source* is what to call the file; none there (``FileNotFoundError``), look after look, means no
    shadow. *events* tell of a file with a fault: then the shadow goes on by the policy before it.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        read: Callable[[], bytes],
        *,
        source: str,
        utc_now: Callable[[], datetime],
        events: OwnEvents | None = None,
        start: Start = Beside,
    ) -> None:
        self._knowledge = knowledge
        self._read = read
        self._source = source
        self._utc_now = utc_now
        self._events = events
        self._start = start
        self._seen: bytes | None = None
        self._policy: InForce | None = None
        self._fault = ""
        self._unread = ""
        self._missed = 0
        self._beside: Process | None = None
        self._hearing: Hearing | None = None
        self._by = ""
        self._began = ""
        self._began_at = 0.0
        self._stretches = 0
        self._ended: dict[Why, int] = dict.fromkeys(Why, 0)
        self._last_end = ""
        self._lost = 0
        self._in_a_row = 0
        self._not_before = float("-inf")

    async def run(self) -> None:
        """Look after it until cancelled; then it is ended."""
        looks = 0
        try:
            while True:
                try:
                    if looks % LOOKS_A_FILE == 0:
                        await self.look_at_file()
                    await self.look()
                except Exception:  # whatever is wrong with a shadow, the hooks go on
                    log.exception("shadow_not_looked_after")
                looks += 1
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._stop_hearing()
            if self._beside is not None:
                # Shielded: whoever stops us waits, so that no process is left behind.
                await asyncio.shield(asyncio.to_thread(self._beside.end))

    async def look_at_file(self) -> None:
        """Go by what the policy's file says, if it has changed and makes sense."""
        try:
            text = await asyncio.to_thread(self._read)
        except FileNotFoundError:
            self._missed += 1
            if self._missed >= PATIENCE_LOOKS:
                self._seen, self._policy, self._fault, self._unread = None, None, "", ""
            return
        except OSError as error:
            self._unread = f"{self._source}: cannot be read: {error.strerror}"
            return
        self._missed, self._unread = 0, ""
        if text == self._seen:
            return
        self._seen = text
        try:
            file = await asyncio.to_thread(parsed, text, self._source)
        except MalformedPolicy as error:
            await self._refuse(str(error))
            return
        self._policy, self._fault = file.in_force, ""
        log.info("shadow_policy_read", policy_version=file.version)

    async def _refuse(self, why: str) -> None:
        self._fault = why[:LONGEST_FAULT]
        log.error("shadow_policy_refused", errors=why.splitlines())
        if self._events is None:
            return
        try:
            await self._events.warn(
                "ShadowPolicyRefused", f"The shadow's policy is not used. {why}"
            )
        except ClusterUnavailable as error:
            log.warning("event_not_written", reason="ShadowPolicyRefused", error=str(error))

    async def look(self) -> None:
        """Begin a stretch if there is to be one, or end one that is over."""
        if self._beside is None:
            self._begin()
        elif (why := self._over()) is not None:
            await self._end(why)
            self._begin()

    def _over(self) -> Why | None:
        """Return why the stretch is over, None if it is not."""
        assert self._beside is not None
        assert self._hearing is not None
        if self._policy is None or self._policy.version != self._by:
            return Why.SHADOW_POLICY
        if self._hearing.over is not None:
            return self._hearing.over
        if self._beside.failed:
            return Why.DIED
        if self._beside.lag_seconds > MOST_LAG_SECONDS:
            return Why.LATE
        return Why.LEAD if self._knowledge.tenure.why_not() else None

    def _begin(self) -> None:
        knowledge, policy = self._knowledge, self._policy
        clock = knowledge.seam.elsewhere  # a reading of ours is none of a decision's
        if policy is None or clock() < self._not_before or knowledge.not_ready():
            return
        self._by = policy.version
        begins = news.Begins(at=clock(), policy=policy, live=knowledge.in_force.version)
        self._hearing = Hearing(clock, nodes=knowledge.views)
        # In one turn of the loop: what is told first ends where what is heard begins.
        told = standing(knowledge, begins)
        knowledge.seam.join(self._hearing)
        try:
            self._beside = self._start(told, self._hearing, self._knowledge.way)
        except Exception:
            self._stop_hearing()
            self._not_before = clock() + MOST_BACKOFF_SECONDS
            raise
        self._began, self._began_at = rfc3339.seconds(self._utc_now()), clock()
        self._stretches += 1
        log.info("shadow_begun", policy_version=policy.version, live=knowledge.in_force.version)

    async def _end(self, why: Why) -> None:
        assert self._beside is not None
        self._stop_hearing()
        beside, self._beside = self._beside, None
        self._ended[why] += 1
        self._last_end = why.value
        clock = self._knowledge.seam.elsewhere
        if why in (Why.DIED, Why.OVERFLOW, Why.LATE):
            if clock() - self._began_at >= MOST_BACKOFF_SECONDS:
                self._in_a_row = 0
            wait = min(MOST_BACKOFF_SECONDS, BACKOFF_SECONDS * 2.0 ** min(self._in_a_row, 10))
            self._not_before = clock() + wait
            self._in_a_row += 1
            log.warning("shadow_broken_off", why=why.value, again_in_seconds=wait)
        else:
            log.info("shadow_broken_off", why=why.value)
        await asyncio.to_thread(beside.end)

    def _stop_hearing(self) -> None:
        if self._hearing is not None:
            self._knowledge.seam.leave(self._hearing)
            self._lost += self._hearing.waiting.refused
            self._hearing = None

    # What there is to tell.

    def standing(self) -> Standing:
        """Return how it stands; any thread may ask, while the loop ends one and begins another."""
        beside, policy = self._beside, self._policy
        if beside is not None:
            state = State.RUNNING
        else:
            state = State.NONE if policy is None else State.WAITING
        return Standing(
            state=state,
            policy="" if policy is None else policy.version,
            live_policy=self._knowledge.in_force.version,
            fault=self._unread or self._fault,
            began=self._began if beside is not None else "",
            stretches=self._stretches,
            ended=self._last_end,
            lost=self._lost,
            behind=0 if beside is None else beside.behind,
            lag_seconds=0.0 if beside is None else round(beside.lag_seconds, 1),
            evidence=None if beside is None else beside.evidence,
        )

    def figures(self) -> ShadowFigures:
        """Return the same for Prometheus."""
        told = self.standing()
        figures = ShadowFigures(
            running=told.state is State.RUNNING,
            refused_policy=bool(told.fault),
            ended={why.value: count for why, count in self._ended.items()},
            lost=told.lost,
            behind=told.behind,
            lag_seconds=told.lag_seconds,
        )
        return figures if told.evidence is None else told.evidence.figures(figures)
