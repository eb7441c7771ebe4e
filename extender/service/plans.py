"""Writing plans: one writer a node at a time, compare-and-swap against everybody else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection

import structlog

from extender.service.knowledge import Knowledge
from extender.service.ports import Cluster, ClusterUnavailable, PlanConflict
from extender.snapshot import NodeView
from nodeagent.api.gpunode import Assignment

log = structlog.get_logger()


class Plans:
    """The plans in the API server, as this process writes them."""

    def __init__(self, knowledge: Knowledge, cluster: Cluster) -> None:
        self._knowledge = knowledge
        self._cluster = cluster
        self._turns: dict[str, asyncio.Lock] = {}

    @contextlib.asynccontextmanager
    async def turn(self, node: str) -> AsyncIterator[None]:
        """Wait for our turn to write a node's plan; writers of one process need not collide."""
        async with self._turns.setdefault(node, asyncio.Lock()):
            yield

    async def write(
        self,
        view: NodeView,
        *,
        add: Collection[Assignment] = (),
        remove: Collection[str] = (),
        hold: Collection[str] = (),
    ) -> None:
        """Change the plan *view* shows, and take the reply in at once.

        Entries to *hold* stay for their owner without their pod. Reservations whose time is over
        leave by the way. Whatever goes wrong, the plan is read before anything else is decided.

        Raises:
            PlanConflict: somebody else has changed the plan; decide anew.
            ClusterUnavailable: the plan could not be changed, or not be read afterwards.
        """
        gone = {*remove, *view.lapsed}
        try:
            node = await self._cluster.write_plan(view.node, add=add, remove=gone, hold=hold)
        except ClusterUnavailable:
            after = await self._read(view.name)
            if after is not None and _shows(after, add=add, gone=gone, hold=hold):
                return
            raise
        except PlanConflict as conflict:
            after = await self._read(view.name)
            if after is not None and _plan(after) == _plan(view):
                # No conflict at all: the same patch would be refused again and again.
                raise ClusterUnavailable(f"the plan is refused: {conflict}") from conflict
            raise
        self._knowledge.gpu_node(node)

    async def _read(self, name: str) -> NodeView | None:
        await self.refresh(name)
        return self._knowledge.views.get(name)

    async def refresh(self, name: str) -> None:
        """Read a GpuNode as it is now."""
        node = await self._cluster.read_gpu_node(name)
        if node is None:
            self._knowledge.gpu_node_gone(name)
        else:
            self._knowledge.gpu_node(node)

    async def withdraw(self, name: str, ids: Collection[str], *, hold: bool = False) -> None:
        """Take entries back, however often the plan changes meanwhile.

        With *hold* their places are kept for their owner.
        """
        async with self.turn(name):
            while (view := self._knowledge.views.get(name)) is not None:
                present = [
                    each.id
                    for each in view.node.spec.assignments
                    if each.id in ids and not (hold and each.pod is None)
                ]
                if not present:
                    return
                with contextlib.suppress(PlanConflict):
                    if hold:
                        await self.write(view, hold=present)
                    else:
                        await self.write(view, remove=present)
                    log.info("assignments_withdrawn", node=name, ids=present, held=hold)

    async def withdraw_pod(self, name: str, uid: str, *, hold: bool = False) -> None:
        """Take back all that a node's plan has for a pod; with *hold*, keep it for its owner."""
        view = self._knowledge.views.get(name)
        if view is not None:
            await self.withdraw(name, [a.id for a in view.assignments_of(uid)], hold=hold)


def _plan(view: NodeView) -> tuple[str, int]:
    return view.node.metadata.uid, view.node.metadata.generation


def _shows(
    view: NodeView,
    *,
    add: Collection[Assignment],
    gone: Collection[str],
    hold: Collection[str],
) -> bool:
    """Tell whether a plan is as a change was to make it."""
    entries = {each.id: each for each in view.node.spec.assignments}
    return (
        all(each.id in entries for each in add)
        and not any(id in entries for id in gone)
        and all(id in entries and entries[id].pod is None for id in hold)
    )
