"""Learned weights decide only where a simulation of what is asked for here says that they should.

For each geometry of the cluster's GPUs by itself: the weights and ``default`` are played against
each other on demands like the observed mix, in a process of their own. Until the weights have won,
``default`` decides; and again as soon as pods ask for something else than what they won on.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec
import structlog

from extender.policy import Shares
from extender.policy.observed import distance
from extender.policy.values import Weights
from extender.service.demand import written
from extender.service.knowledge import Knowledge
from extender.simulation.question import Guarded, Question
from extender.snapshot import NodeView
from nodeagent.api.geometry import Geometry

log = structlog.get_logger()

LOOK_SECONDS = 30.0
"""Between looks at whether the mix is still what was judged; each counts the GPUs there are."""

DRIFT = 0.1
"""Of requests, so many that would have to be others, and what was judged was another mix."""

AGAIN_SECONDS = 600.0
"""A geometry is judged at most once in so many seconds, however its mix changes."""

ANSWER_WITHIN_SECONDS = 600.0
"""100 GPUs take half a minute of a processor (measured), but anything else goes first."""

LOAD = 0.85
"""As policies are compared in the literature. Far below it nobody is refused, by any of them."""

MOST_GPUS = 100
"""In the simulation: with more, it takes longer, and differences become smaller."""


class NotJudged(Exception):
    """No answer came; the text says why."""


Judge = Callable[[Question], Awaitable[Guarded]]
"""Answers a question somewhere else than on the event loop.

Raises:
    NotJudged: saying why there is no answer.
"""


async def in_process(question: Question) -> Guarded:
    """Have a question answered by a process of its own.

    Raises:
        NotJudged: it took too long, or ended without an answer.
    """
    command = (sys.executable, "-m", "extender.simulation.judging")
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
    except OSError as error:
        raise NotJudged(f"no process for it: {error.strerror}") from error
    try:
        async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
            answer, errors = await process.communicate(msgspec.json.encode(question))
    except TimeoutError as error:
        raise NotJudged(f"no answer within {ANSWER_WITHIN_SECONDS:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise NotJudged(f"exit status {process.returncode}: {last}")
    try:
        return msgspec.json.decode(answer, type=Guarded)
    except msgspec.DecodeError as error:
        raise NotJudged(f"not an answer: {error}") from error


class Verdict(msgspec.Struct, frozen=True):
    """What was found of weights on a geometry: on which mix, when, and whether they are better.

    ``known`` is False where no answer came.
    """

    weights: Weights
    mix: Shares
    at: float
    better: bool
    known: bool = True

    def holds(self, weights: Weights, mix: Shares) -> bool:
        """Tell whether it is about these weights, and a mix as good as this one."""
        return self.known and self.weights == weights and distance(self.mix, mix) < DRIFT

    def may_be_asked_again(self, weights: Weights, *, now: float) -> bool:
        """Tell whether it is old enough, or about other weights."""
        return self.weights != weights or now - self.at >= AGAIN_SECONDS


class Guarding:
    """Has the weights of the policy in force judged, and lets them decide where they are better."""

    def __init__(self, knowledge: Knowledge, judge: Judge = in_process) -> None:
        self._knowledge = knowledge
        self._judge = judge
        self._verdicts: dict[str, Verdict] = {}

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Go by what is known of the weights, and find out what is not; as the leader alone."""
        weights = self._knowledge.in_force.candidate
        if weights is None or self._knowledge.not_ready():
            return
        there = geometries(self._knowledge.views.values())
        self._follow(there)
        for geometry, gpus in there:
            if self._knowledge.in_force.candidate != weights:
                return  # changed meanwhile: the next look is about the others
            verdict, mix = self._verdicts.get(geometry.hash), self._mix(geometry)
            now = self._knowledge.clock()
            if verdict is None or (
                not verdict.holds(weights, mix) and verdict.may_be_asked_again(weights, now=now)
            ):
                await self._find_out(weights, geometry, gpus, mix)
                self._follow(there)

    async def _find_out(self, weights: Weights, geometry: Geometry, gpus: int, mix: Shares) -> None:
        in_force, clock = self._knowledge.in_force, self._knowledge.clock
        question = Question(
            candidate=msgspec.structs.replace(in_force.policy, proven=None),
            geometry=geometry,
            gpus=min(gpus, MOST_GPUS),
            mix=mix,
            load=LOAD,
        )
        began = clock()
        about = {
            "geometry": geometry.hash,
            "gpus": question.gpus,
            "mix": written(dict(mix)),
            "policy_version": in_force.written,
        }
        try:
            found = await self._judge(question)
        except NotJudged as error:
            log.warning("learned_not_judged", error=str(error), **about)
            verdict = Verdict(weights, mix, clock(), better=False, known=False)
        else:
            log.info(
                "learned_judged",
                better=found.better,
                gain=round(found.gain.mean, 4),
                gain_ci95=round(found.gain.ci95 or 0.0, 4),
                seconds=round(clock() - began, 1),
                **about,
            )
            verdict = Verdict(weights, mix, clock(), better=found.better)
        self._verdicts[geometry.hash] = verdict

    def _follow(self, there: Sequence[tuple[Geometry, int]]) -> None:
        """Let the weights in force decide where they are known to be better, and only there."""
        in_force = self._knowledge.in_force
        proven = in_force.proven_on(
            [each.hash for each, _ in there if self._better(in_force.candidate, each)]
        )
        if proven != in_force:
            self._knowledge.adopt(proven)

    def _better(self, weights: Weights | None, geometry: Geometry) -> bool:
        verdict = self._verdicts.get(geometry.hash)
        if weights is None or verdict is None:
            return False
        return verdict.better and verdict.holds(weights, self._mix(geometry))

    def _mix(self, geometry: Geometry) -> Shares:
        """Return what is asked of a geometry: as observed, and before that as the policy expects.

        All of its profiles alike, but for those of which a GPU holds few, where neither says any.
        """
        expected = dict(self._knowledge.in_force.policy.demand)
        observed = self._knowledge.demand.mix
        names = [p.name for p in geometry.profiles if p.name in expected.keys() | observed.counts]
        plain = [p.name for p in geometry.profiles if not p.limited]
        return observed.shares(names or plain, expected)


def geometries(views: Iterable[NodeView]) -> list[tuple[Geometry, int]]:
    """Return the geometries of the GPUs in use here, with the number of these GPUs."""
    found: dict[str, tuple[Geometry, int]] = {}
    for view in views:
        known = view.node.status.geometries
        for gpu in view.usable:
            geometry, gpus = found.get(gpu.geometry, (known[gpu.geometry], 0))
            found[gpu.geometry] = (geometry, gpus + 1)
    return [found[key] for key in sorted(found)]
