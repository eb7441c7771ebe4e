"""One case, from the first agent's life to the verdict."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path

import msgspec

from nodeagent.api.gpunode import Mode
from tests.crash import judge
from tests.crash.home import Home, Life
from tests.crash.life import LIVED
from tests.crash.points import AFTER, ANY, BEFORE, NVML, PLUGIN, Crossings, Point
from tests.crash.site import PATIENCE_SECONDS, Site
from tests.crash.stem import Lives
from tests.crash.story import Story
from tests.fakes.sysfs.tree import CREATE, REMOVE


class Case(msgspec.Struct, frozen=True):
    """The agent dies at *first*, the next one, in its two passes, at *second*; None: not so."""

    mode: Mode
    first: Point | None = None
    second: Point | None = None

    def __str__(self) -> str:
        return ",".join(map(str, (self.mode, *filter(None, (self.first, self.second)))))

    @classmethod
    def parse(cls, text: str) -> Case:
        """Read what ``str`` has written.

        Raises:
            ValueError: it is no case.
        """
        mode, *points = text.split(",")
        return cls(Mode(mode), *map(Point.parse, points))


class Verdict(msgspec.Struct, frozen=True):
    """How a case went: how many of its kills came about, what is wrong, what was crossed.

    ``refusals`` is how many pods the kubelet has rejected.
    """

    killed: int = 0
    wrong: tuple[str, ...] = ()
    seconds: float = 0.0
    refusals: int = 0
    crossed: tuple[Point, ...] = ()

    def left_in(self, root: Path) -> Verdict:
        """Return it with the directory in which all is still as it was."""
        return msgspec.structs.replace(self, wrong=(*self.wrong, f"see {root}"))


class Play:
    """The play of a *case* at the site of *home*."""

    def __init__(self, home: Home, case: Case, lives: Lives) -> None:
        self._home = home
        self._case = case
        self._lives = lives
        self._site = Site(home)
        self._story = Story(self._site)

    async def run(self) -> Verdict:
        """Play it, and say how it went."""
        begun = time.monotonic()
        async with self._site.open():
            story = asyncio.create_task(self._story.tell(), name="story")
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    killed, wrong = await self._acts(story)
            except TimeoutError:
                killed, wrong = 0, ["it has not ended in time", *await self._judged()]
            finally:
                self._lives.kill()
                story.cancel()
                await asyncio.wait([story])
        return Verdict(
            killed,
            tuple(dict.fromkeys(wrong)),
            time.monotonic() - begun,
            len(self._story.refusals),
            self._crossed(),
        )

    async def _acts(self, story: asyncio.Task[None]) -> tuple[int, list[str]]:
        killed = 0
        wrong: list[str] = []
        if self._case.first is not None and await self._first_life(story, self._case.first):
            killed = 1
            if self._case.second is not None and await self._recovery(self._case.second):
                killed = 2
            if killed == 2 or self._case.second is None:
                await self._recovery(None)
            wrong = [f"after two passes: {each}" for each in await self._judged()]
        if not story.done():
            await self._begin(Life())
            self._site.going.set()
            await story
            await self._end()
        return killed, wrong + [f"at the end: {each}" for each in await self._judged(end=True)]

    async def _first_life(self, story: asyncio.Task[None], doom: Point) -> bool:
        """Let an agent live through the story until it dies, and the story come to rest."""
        await self._begin(Life(doom))
        self._site.going.set()
        dying = asyncio.create_task(self._lives.ended(), name="dying")
        await asyncio.wait([dying, story], return_when=asyncio.FIRST_COMPLETED)
        died = dying.done()
        self._site.going.clear()
        self._lives.kill()
        await dying
        self._site.machine.clear_faults()
        resting = asyncio.create_task(self._site.resting.wait(), name="resting")
        await asyncio.wait([resting, story], return_when=asyncio.FIRST_COMPLETED)
        resting.cancel()
        return died

    async def _recovery(self, doom: Point | None) -> bool:
        """Let an agent live for two passes, and say whether it died before."""
        await self._begin(Life(doom, passes=2))
        status = await self._lives.ended()
        self._site.machine.clear_faults()
        if status not in (LIVED, -signal.SIGKILL):
            raise RuntimeError(f"the agent has ended by itself: {status}")
        return status != LIVED

    async def _begin(self, life: Life) -> None:
        doom = life.doom
        crossings = Crossings(self._home.crossings, doom)

        def step(name: str, when: str) -> None:
            if crossings.doomed(PLUGIN, name, when):
                self._lives.kill()

        if doom is None or doom.kind != ANY:
            self._site.kubelet.at_step = step
        if doom is not None and doom.kind == NVML:
            self._site.machine.kill(doom.name, done=doom.when == AFTER, after=doom.number - 1)
        await self._lives.begin(life)

    async def _end(self) -> None:
        self._lives.kill()
        await self._lives.ended()

    async def _judged(self, *, end: bool = False) -> list[str]:
        judged = judge.at_the_end if end else judge.after_two_passes
        return await judged(self._story)

    def _crossed(self) -> tuple[Point, ...]:
        """Return every crossing there was, those of NVML too."""
        lines = self._home.crossings.read_text().splitlines()
        calls: Counter[str] = Counter()
        points = [Point.parse(line) for line in lines]
        for call in self._site.machine.calls():
            if call.symbol not in (CREATE, REMOVE):  # sysfs has these
                calls[call.symbol] += 1
                number = calls[call.symbol]
                points += [Point(NVML, call.symbol, number, when) for when in (BEFORE, AFTER)]
        return tuple(points)
