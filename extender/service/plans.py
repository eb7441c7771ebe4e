"""Writing plans: one writer a node at a time, compare-and-swap against everybody else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence

import msgspec
import structlog

from extender.claims import is_claim
from extender.service.knowledge import Knowledge
from extender.service.patience import Patience
from extender.service.ports import (
    PLAN_TIMEOUT_SECONDS,
    TRANSIT_SECONDS,
    Cluster,
    ClusterUnavailable,
    PlanConflict,
)
from extender.service.precedence import why_not_yet
from extender.snapshot import NodeView
from nodeagent.api.gpunode import Assignment

log = structlog.get_logger()

MADE_WITHIN_SECONDS = PLAN_TIMEOUT_SECONDS + TRANSIT_SECONDS
"""After so long a write that was sent is made or never will be."""


class Plans:
    """The plans in the API server, as this process writes them."""

    def __init__(self, knowledge: Knowledge, cluster: Cluster) -> None:
        self._knowledge = knowledge
        self._cluster = cluster
        self._turns: dict[str, asyncio.Lock] = {}
        self._leaving: dict[str, list[_Leaving]] = {}
        self._unsettled: dict[str, float] = {}

    @contextlib.asynccontextmanager
    async def turn(self, node: str) -> AsyncIterator[None]:
        """Wait for our turn to write a node's plan; writers of one process need not collide."""
        async with self._turns.setdefault(node, asyncio.Lock()):
            yield

    async def settled(self, node: str) -> None:
        """Wait until no write that was given up or cut off can change a plan any more, and read it.

        Who only reads an entry and relies on it must: the write may be the one that removes it. One
        who writes fails its test, or makes it fail that one's.

        Raises:
            ClusterUnavailable: the plan could not be read.
        """
        while (until := self._unsettled.get(node)) is not None:
            await asyncio.sleep(max(0.0, until - self._knowledge.clock()))
            await self.refresh(node)
            if self._unsettled.get(node) == until:
                del self._unsettled[node]

    async def write(
        self,
        view: NodeView,
        *,
        add: Collection[Assignment] = (),
        remove: Collection[str] = (),
        hold: Collection[str] = (),
        patience: Patience | None = None,
        told: bool = False,
    ) -> None:
        """Change the plan *view* shows, and take the reply in at once.

        Entries to *hold* stay for their owner without their pod. Reservations whose time is over
        leave by the way, and claims whose is, if others come. Whatever goes wrong, the plan is read
        before anything else is decided. If it still is what it was, the change is tried again with
        *patience*: it tests the generation, so that it cannot be made twice. What becomes of one
        that is given up is open for a while: see :meth:`settled`.

        Nothing is added while other pods go first (``precedence``), unless an agent, or a plan that
        is gone, has *told* of it: then it is so.

        Raises:
            PlanConflict: somebody else has changed the plan; decide anew.
            ClusterUnavailable: the plan could not be changed, or not be read afterwards.
        """
        if not told and (why := why_not_yet(self._knowledge, view, tuple(add))):
            raise ClusterUnavailable(why, undone=True)
        over = view.lapsed if add else held_too_long(view)
        change = _Change(tuple(add), frozenset({*remove, *over}), frozenset(hold))
        patience = patience or Patience(self._knowledge)
        failures, unsure = 0, False
        while True:
            before = self._unsettled.get(view.name)
            # Noted before anything is sent: who waits for the answer may be cut off.
            self._unsettled[view.name] = self._knowledge.clock() + MADE_WITHIN_SECONDS
            try:
                node = await self._cluster.write_plan(
                    view.node, add=change.add, remove=change.gone, hold=change.hold
                )
            except ClusterUnavailable as error:
                unsure |= not error.undone
                if error.undone:
                    self._was_not_sent(view, before)
                if unsure and await self._made(change, view, patience):
                    return
                failures += 1
                await patience.pause(error, failures)
            except PlanConflict as conflict:
                self._knowledge.work.conflict()
                self._was_not_sent(view, before)
                if await self._made(change, view, patience):
                    if unsure:
                        return
                    raise PlanConflict("somebody else has made that change") from conflict
                if conflict.refused:
                    # No conflict at all: the same patch would be refused again and again.
                    text = f"the plan is refused: {conflict}"
                    raise ClusterUnavailable(text, passing=False) from conflict
                failures += 1
                await patience.pause(conflict, failures)
            else:
                self._moved(view)
                self._knowledge.gpu_node(node)
                return

    async def _made(self, change: _Change, view: NodeView, patience: Patience) -> bool:
        """Read whether the plan is as the *change* was to make it; if not, it is as *view* has it.

        Raises:
            PlanConflict: it is neither.
            ClusterUnavailable: it could not be read.
        """
        after = await patience.again(lambda: self._read(view.name))
        if after is not None and _plan(after) == _plan(view):
            return False
        self._moved(view)
        if after is not None and change.made_in(after):
            return True
        raise PlanConflict("somebody else has changed the plan")

    def _was_not_sent(self, view: NodeView, before: float | None) -> None:
        """Note that a write has certainly not been made: what was open *before* it still is."""
        if before is None:
            self._unsettled.pop(view.name, None)
        else:
            self._unsettled[view.name] = before

    def _moved(self, view: NodeView) -> None:
        """Note that the plan is not what *view* shows any more: what tests for that fails."""
        self._unsettled.pop(view.name, None)

    async def _read(self, name: str) -> NodeView | None:
        await self.refresh(name)
        return self._knowledge.views.get(name)

    async def refresh(self, name: str) -> None:
        """Read a GpuNode as it is now.

        That there is none is said of the one known when it was asked: another may have been made
        before the answer came.
        """
        before = self._knowledge.views.get(name)
        node = await self._cluster.read_gpu_node(name)
        if node is not None:
            self._knowledge.gpu_node(node)
        elif before is not None:
            self._knowledge.gpu_node_gone(name, before.node.metadata.uid)

    async def withdraw(
        self,
        name: str,
        ids: Collection[str],
        *,
        hold: bool = False,
        patience: Patience | None = None,
    ) -> None:
        """Take entries back, however often the plan changes meanwhile.

        With *hold* their places are kept for their owner. Whoever has its turn does it for all that
        wait for theirs.
        """
        patience, conflicts = patience or Patience(self._knowledge), 0
        leaving, own = self._leaving.setdefault(name, []), _Leaving(frozenset(ids), hold)
        leaving.append(own)
        try:
            async with self.turn(name):
                while (view := self._knowledge.views.get(name)) is not None:
                    if not _present(view, (own,)):
                        return
                    kept = _present(view, [each for each in leaving if each.hold])
                    removed = _present(view, [each for each in leaving if not each.hold]) - kept
                    try:
                        await self.write(view, hold=kept, remove=removed, patience=patience)
                    except PlanConflict as conflict:
                        conflicts += 1
                        await patience.pause(conflict, conflicts)
                    else:
                        for gone, held in ((kept, True), (removed, False)):
                            if gone:
                                told = sorted(gone)
                                log.info("assignments_withdrawn", node=name, ids=told, held=held)
        finally:
            leaving.remove(own)
            if not leaving:
                self._leaving.pop(name, None)

    async def unclaim(self, name: str, uid: str) -> None:
        """Take back a pod's claims on a node, however often the plan changes meanwhile."""

        def its_claim(entry: Assignment) -> bool:
            return is_claim(entry) and entry.owner is not None and entry.owner.name == uid

        await self.release(name, its_claim)

    async def release(self, name: str, which: Callable[[Assignment], bool]) -> None:
        """Take back some of a node's reservations, however often the plan changes meanwhile."""

        def those(view: NodeView) -> Collection[str]:
            return [each.id for each in view.reservations if which(each)]

        await self._clear(name, those, Patience(self._knowledge))

    async def let_go(self, name: str, patience: Patience) -> None:
        """Take the reservations whose time is over out of a node's plan."""
        await self._clear(name, held_too_long, patience)

    async def _clear(
        self, name: str, unwanted: Callable[[NodeView], Collection[str]], patience: Patience
    ) -> None:
        conflicts = 0
        async with self.turn(name):
            while (view := self._knowledge.views.get(name)) is not None:
                if not (ids := unwanted(view)):
                    return
                try:
                    await self.write(view, remove=ids, patience=patience)
                except PlanConflict as conflict:
                    conflicts += 1
                    await patience.pause(conflict, conflicts)

    def ids_of(self, uid: str, node: str = "") -> Sequence[str]:
        """Return the ids of all that the plans have for a pod, on *node* and any other."""
        views = self._knowledge.views
        names = dict.fromkeys((node, *self._knowledge.assigned.nodes_of(uid)))
        there = [views[name] for name in names if name in views]
        return [each.id for view in there for each in view.assignments_of(uid)]


def held_too_long(view: NodeView) -> frozenset[str]:
    """Return the reservations on a node whose time is over; of claims the preemption takes care."""
    if not view.lapsed:
        return view.lapsed
    return view.lapsed - {each.id for each in view.reservations if is_claim(each)}


def _plan(view: NodeView) -> tuple[str, int]:
    return view.node.metadata.uid, view.node.metadata.generation


class _Leaving(msgspec.Struct, frozen=True, eq=False):
    """Entries to be taken back from a plan; with ``hold``, their places are kept."""

    ids: frozenset[str]
    hold: bool


def _present(view: NodeView, leaving: Iterable[_Leaving]) -> frozenset[str]:
    """Return which of the entries are still in the plan.

    One without a pod was taken back meanwhile, and is held for its owner.
    """
    wanted = frozenset().union(*(each.ids for each in leaving))
    planned = view.node.spec.assignments
    return frozenset(each.id for each in planned if each.id in wanted and each.pod is not None)


class _Change(msgspec.Struct, frozen=True):
    """What a write does to a plan; ``gone`` and ``hold`` are ids."""

    add: tuple[Assignment, ...]
    gone: frozenset[str]
    hold: frozenset[str]

    def made_in(self, view: NodeView) -> bool:
        """Tell whether a plan shows it made."""
        entries = {each.id: each for each in view.node.spec.assignments}
        return (
            all(each.id in entries for each in self.add)
            and self.gone.isdisjoint(entries)
            and all(id in entries and entries[id].pod is None for id in self.hold)
        )
