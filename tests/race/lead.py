"""How the lead is taken from whoever has it, in the middle of a bind, and when that one is back."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from enum import StrEnum

import msgspec

from nodeagent.api import gpunode
from nodeagent.api.gpunode import GpuNode
from nodeagent.apiserver.history import Write
from nodeagent.apiserver.protocol import GPU_NODES, PODS, Kind
from tests.chaos.cluster import Cluster
from tests.chaos.loop import Process
from tests.chaos.scheduler import Extender

CALL_SECONDS = 0.008  # in which a bind called now chooses, assumes, and sends its patch
LONGEST_AWAY_SECONDS = 25.0


class How(StrEnum):
    """What becomes of the leader."""

    PAUSED = "paused"
    KILLED = "killed"
    SENT_AWAY = "sent away"
    CUT_OFF = "cut off"


class Moment(StrEnum):
    """Where the first bind is when it happens; the answer of the last step has not arrived yet."""

    CALLED = "bind called"
    PLANNED = "plan written"
    REALIZED = "instance reported"
    BOUND = "Binding written"


class Return(StrEnum):
    """When the old leader is there again."""

    SOON = "while its Lease lasts"
    LATE = "after that"
    AMID = "as its successor writes"


class Change(msgspec.Struct, frozen=True):
    """A change of the lead."""

    how: How
    moment: Moment
    back: Return


def drawn(chance: random.Random) -> Change:
    """Return a change of any kind; half of them are pauses, which is where two may lead."""
    how = How.PAUSED if chance.random() < 0.5 else chance.choice(list(How))
    return Change(how, chance.choice(list(Moment)), chance.choice(list(Return)))


class Lead:
    """Carries out one *change* in a bind of the pods in *uids*, and says to *struck* whom it was.

    ``old`` is that process; ``over`` tells that it is there again.
    """

    def __init__(
        self,
        cluster: Cluster,
        change: Change,
        uids: Collection[str],
        chance: random.Random,
        struck: Callable[[str], None],
    ) -> None:
        self.old: Process | None = None
        self.over = False
        self._cluster = cluster
        self._change = change
        self._uids = uids
        self._chance = chance
        self._struck = struck
        self._due = False

    def called(self, extender: Extender) -> None:
        """Hear that a bind is about to be called."""
        if self._change.moment is Moment.CALLED and not self._due:
            self._due = True
            soon = CALL_SECONDS * self._chance.random()
            loop = self._cluster.loop
            loop.call_later(soon, self._strike, extender.process, context=loop.world.copy())

    def saw(self, kind: Kind, write: Write, writer: str) -> None:
        """Hear of a write, and by which extender it is, at the moment it is made."""
        if self.old is None:
            leader = self._leader()
            if leader is not None and self._is_the_moment(kind, write):
                self._strike(leader)
        elif writer not in ("", repr(self.old)) and self._change.back is Return.AMID:
            self._back()

    def _is_the_moment(self, kind: Kind, write: Write) -> bool:
        if write.after is None:
            return False
        if kind == PODS and self._change.moment is Moment.BOUND:
            return write.after.uid in self._uids and bool(write.after.fields["spec.nodeName"])
        if kind != GPU_NODES:
            return False
        node = gpunode.decode(write.after.raw)
        ours = self._ours(node)
        match self._change.moment:
            case Moment.PLANNED:
                return bool(ours)
            case Moment.REALIZED:
                return any(each.id in ours for each in node.status.realized)
            case _:
                return False

    def _ours(self, node: GpuNode) -> set[str]:
        entries = node.spec.assignments
        return {each.id for each in entries if each.pod and each.pod.uid in self._uids}

    def _leader(self) -> Process | None:
        holder = self._cluster.judge.leads.holder
        there = self._cluster.extenders.values()
        return next((e.process for e in there if repr(e.process) == holder), None)

    def _strike(self, old: Process) -> None:
        self.old = old
        cluster, loop = self._cluster, self._cluster.loop
        match self._change.how:
            case How.PAUSED:
                loop.freeze(old)
            case How.KILLED:
                cluster.kill_extender(old.name)
            case How.SENT_AWAY:
                cluster.dismiss_extender(old.name)
            case How.CUT_OFF:
                cluster.network.cut.add(old.name)
        away = {
            Return.SOON: self._chance.uniform(0.2, 4.0),
            Return.LATE: self._chance.uniform(6.0, 14.0),
            Return.AMID: LONGEST_AWAY_SECONDS,
        }
        loop.call_later(away[self._change.back], self._back, context=loop.world.copy())
        self._struck(repr(old))

    def _back(self) -> None:
        if self.over or self.old is None:
            return
        self.over = True
        match self._change.how:
            case How.PAUSED:
                self._cluster.loop.thaw(self.old)
            case How.KILLED | How.SENT_AWAY:
                self._cluster.start_extender(self.old.name)
            case How.CUT_OFF:
                self._cluster.network.rejoin(self.old.name)
