"""One round: room for one, so many who want it, and what came of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Iterator

import msgspec

from extender.verbs.verdicts import PLANNING
from nodeagent.api import resources
from nodeagent.api.occupancy import occupancy
from nodeagent.apiserver.history import Write
from nodeagent.apiserver.protocol import PODS, Kind
from tests.builders import H100
from tests.chaos import loop as loops
from tests.chaos.cluster import EXTENDER, NODE_NAMES, Cluster
from tests.chaos.loop import SeededLoop
from tests.chaos.rest import unsettled
from tests.chaos.wire import SENDER
from tests.race import lead
from tests.race.contest import NO_ANSWER, Contest, Tally
from tests.race.lead import Change, Lead

SLOTS = {
    "7-80C": ("7-80C",),
    "3-40C": ("7-80C", "4-40C"),
    "1-10C": ("7-80C", "4-40C", "2-20C"),
}
"""What the racers want, and what is placed before them so that there is room for one of them."""

DAWDLES = (0.0, 0.02, 0.3, 2.0)
"""The longest time from filter to bind in a round, in seconds: volumes and permits take theirs."""

BURSTS = (0, EXTENDER.plan_burst_pods)
"""Whether pods that come together wait to be planned together, which spares them most of a race."""

SETTLED_WITHIN_SECONDS = 180.0
LOOKED_AT_EVERY_SECONDS = 1.0


class Outcome(msgspec.Struct, frozen=True):
    """How a round ended: what was *broken*, who won, and how much there was of everything."""

    seed: int
    pods: int
    change: Change | None
    broken: tuple[str, ...]
    tally: Tally
    by_successor: bool = False
    seconds: float = 0.0


def race(seed: int, pods: int, *, change: bool) -> Outcome:
    """Let so many *pods* race, across a *change* of the lead or not; the same again if repeated."""
    name = f"race {seed} {pods} {change}"
    random.seed(name)  # the code's own jitter
    chance = random.Random(name)
    turn = lead.drawn(chance) if change else None
    return loops.run(lambda loop: Round(loop, chance, seed, pods, turn).run(), chance)


class Round:
    """The cluster of one round, and whom it is about."""

    def __init__(
        self,
        loop: SeededLoop,
        chance: random.Random,
        seed: int,
        pods: int,
        change: Change | None,
    ) -> None:
        self._seed = seed
        self._pods = pods
        self._change = change
        self._wanted = chance.choice(list(SLOTS))
        settings = msgspec.structs.replace(EXTENDER, plan_burst_pods=chance.choice(BURSTS))
        gpus = dict.fromkeys(NODE_NAMES, 1)
        self._cluster = Cluster(loop, chance, settings=settings, gpus=gpus)
        self._contest = self._cluster.scheduler = Contest(
            loop,
            lambda: self._cluster.judge,
            chance,
            lambda: tuple(self._cluster.extenders.values()),
            NODE_NAMES,
            timeout=EXTENDER.http_timeout_seconds,
            dawdle=chance.choice(DAWDLES),
        )
        self._racers: set[str] = set()
        self._winners: list[tuple[str, str]] = []
        self._lead: Lead | None = None
        if change is not None:
            self._lead = Lead(self._cluster, change, self._racers, chance, self._struck)
        self._cluster.api.witnessed_by(self._saw)

    async def run(self) -> Outcome:
        """Fill the cluster, let them race, and once more for the place the winner leaves."""
        await self._cluster.start()
        broken = await self._filled()
        if not broken:
            await self._come()
            broken = await self._settled(winners=1)
        seconds = self._cluster.loop.time()
        by_successor = bool(
            self._winners and self._lead and self._winners[0][1] != repr(self._lead.old)
        )
        if not broken:
            self._contest.both = False
            await self._cluster.api.delete(
                PODS, self._name(self._winners[0][0]), namespace="default", grace_seconds=0
            )
            broken = await self._settled(winners=2)
        return Outcome(
            self._seed,
            self._pods,
            self._change,
            (*broken, *self._strange()),
            self._contest.tally,
            by_successor,
            seconds,
        )

    # What happens.

    async def _filled(self) -> list[str]:
        """Place what is there before; return what is wrong with the room that is left."""
        for index, wanted in enumerate(SLOTS[self._wanted]):
            await self._cluster.create_pod(f"there-{index}", [wanted], 0)
            ends = self._cluster.loop.time() + SETTLED_WITHIN_SECONDS
            while not self._at_rest(placed=index + 1):
                if self._cluster.loop.time() > ends:
                    return ["before the race: the cluster was not filled"]
                await asyncio.sleep(LOOKED_AT_EVERY_SECONDS)
        self._contest.tally = Tally()
        room = self._room()
        return [] if room == 1 else [f"before the race: there is room for {room}"]

    def _at_rest(self, *, placed: int) -> bool:
        judge = self._cluster.judge
        bound = sum(bool(pod.node) for pod in judge.pods.values())
        return bound == placed and not self._contest.busy and not any(unsettled(judge))

    async def _come(self) -> None:
        if self._lead is not None:
            self._contest.binding = self._lead.called
        for index in range(self._pods):
            await self._cluster.create_pod(f"racer-{index}", [self._wanted], 0)

    def _struck(self, old: str) -> None:
        self._cluster.loop.spawn_outside(self._contest.ask_both(old))

    def _saw(self, kind: Kind, write: Write) -> None:
        self._cluster.judge.wrote(kind, write)
        writer = SENDER.get()
        if kind == PODS and write.after is not None:
            uid = write.after.uid
            if write.before is None and self._name(uid).startswith("racer-"):
                self._racers.add(uid)
            bound = write.after.fields["spec.nodeName"]
            before = write.before.fields["spec.nodeName"] if write.before else ""
            if uid in self._racers and bound and not before:
                self._winners.append((uid, writer))
        self._contest.saw(kind, write)
        if self._lead is not None:
            by_extender = writer if writer.partition("_")[0] in self._cluster.extenders else ""
            self._lead.saw(kind, write, by_extender)

    # How it must end.

    async def _settled(self, *, winners: int) -> list[str]:
        """Wait until all is as it must be; return what is not when the time is up."""
        judge, loop = self._cluster.judge, self._cluster.loop
        ends = loop.time() + SETTLED_WITHIN_SECONDS
        left: list[str] = []
        while loop.time() < ends:
            await asyncio.sleep(LOOKED_AT_EVERY_SECONDS)
            if judge.violations or loop.failures or len(self._winners) > winners:
                break
            left = list(self._missing(winners))
            if not left:
                return []
        twice = len(self._winners) > winners
        return [
            *judge.violations,
            *loop.failures,
            *([f"{len(self._winners)} pods were bound where {winners} should be"] if twice else []),
            *(f"in the end: {each}" for each in left),
        ]

    def _missing(self, winners: int) -> Iterator[str]:
        """Yield what is not as it must be in the end."""
        judge = self._cluster.judge
        if self._lead is not None and not self._lead.over:
            yield "the old leader is not back"
        if self._contest.busy:
            yield "a bind is under way"
        if len(self._winners) != winners:
            yield f"{len(self._winners)} of {self._pods} were bound, and not {winners}"
            return
        since = judge.pods[self._winners[-1][0]].bound_at
        losers = [pod for pod in judge.pods.values() if pod.uid in self._racers and not pod.node]
        if len(losers) != self._pods - winners:
            yield f"{len(losers)} pods are pending"
        for pod in losers:
            last = self._contest.last.get(pod.uid)
            if last is None or last.at < since:
                yield f"{pod.name} was not refused since"
            elif last.reasons != dict.fromkeys(NODE_NAMES, no_room(self._wanted)):
                yield f"{pod.name} was refused because of {last.reasons}"
        yield from unsettled(judge)

    def _strange(self) -> Iterator[str]:
        """Yield what was answered in words that vary: kube-scheduler retries without end on them.

        Those of a failed bind are for people; it is retried by time, whatever it says.
        """
        tally, stable = self._contest.tally, {no_room(self._wanted), PLANNING.reason}
        for text in tally.refusals.keys() - stable:
            yield f"refused because of {text}"
        for text in tally.errors:
            if text != NO_ANSWER and not text.startswith("vGPU: "):
                yield f"failed because of {text}"

    def _name(self, uid: str) -> str:
        pod = self._cluster.judge.pods.get(uid)
        return pod.name if pod else ""

    def _room(self) -> int:
        """Count the legal free placements of what the racers want."""
        profile = next(t.profile_id for t in H100.vgpu_types if t.name.endswith(self._wanted))
        return sum(
            len(list(H100.geometry.legal(taken, H100.geometry.by_id[profile])))
            for node in self._cluster.judge.plans.values()
            for gpu in node.status.gpus
            for taken in [occupancy(H100.geometry, gpu, node.spec.assignments)]
        )


def no_room(wanted: str) -> str:
    """Return what a pod hears that finds no room for a vGPU type."""
    (named,) = [t.name for t in H100.vgpu_types if t.name.endswith(wanted)]
    return f"vGPU: no free placement for {resources.of_vgpu_type(named)[0]}"


def total(outcomes: Collection[Outcome]) -> Tally:
    """Add up what all rounds had."""
    total = Tally()
    for each in outcomes:
        tally = each.tally
        total.filters += tally.filters
        total.passed += tally.passed
        total.binds += tally.binds
        total.at_both += tally.at_both
        total.refusals += tally.refusals
        total.errors += tally.errors
    return total
