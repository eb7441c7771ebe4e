"""What is told of moves: in the log, in metrics, and in Events on pods, VMs and nodes."""

from __future__ import annotations

from collections.abc import Iterator

import structlog

from extender.moving import Departure, Leg, Order, Outcome, planned_at
from extender.service.events import NodeEvents, PodEvents
from extender.service.knowledge import Knowledge
from extender.service.ports import ClusterUnavailable
from nodeagent.api.gpunode import PodRef

log = structlog.get_logger()

MOVING_REASON = "VgpuMoving"
MOVED_REASON = "VgpuMoved"
GIVEN_UP_REASON = "VgpuMoveGivenUp"
ORDER_ENDED_REASON = "VgpuMovesEnded"


class MoveTeller:
    """Tells of moves; that people cannot be told holds nothing up.

    *events* are about the VM's pod; *node_events*, of an order that ends, about the node that the
    next VM was to leave, or the last has left.
    """

    def __init__(
        self, knowledge: Knowledge, events: PodEvents | None, node_events: NodeEvents | None
    ) -> None:
        self._knowledge = knowledge
        self._events = events
        self._node_events = node_events

    async def begun(self, order: Order, leg: Leg, departure: Departure) -> None:
        """Tell that a VM is to leave."""
        kind, pod = departure.kind.value, departure.pod
        log.info("move_begun", **self._facts(order, leg, pod), kind=kind)
        asked = f", as {order.by} wants" if order.by else ""
        text = f"vGPU: moved to make room{asked}, by {kind}: a place is held on {leg.target.node}"
        await self._tell(pod, MOVING_REASON, text)

    async def made(self, order: Order, leg: Leg, pod: PodRef, kind: str) -> None:
        """Tell that a VM has come to its place; *kind* is "" if it did so by itself."""
        if kind:
            self._knowledge.work.moves.moved(kind)
        log.info("move_made", **self._facts(order, leg, pod), kind=kind)
        await self._tell(pod, MOVED_REASON, f"vGPU: moved to {leg.target.node} to make room")

    async def skipped(self, order: Order, leg: Leg) -> None:
        """Tell that a VM was no more when it was to leave."""
        log.info("move_skipped", **self._facts(order, leg, leg.pod))

    async def ends(self, order: Order, outcome: Outcome, why: str) -> None:
        """Tell how an *order* ends, which is as it was before that.

        Of a VM that is under way its pods are told: the one that was to leave, as long as it is
        there, and the one that has come, which may be what it ends for.
        """
        made, work = len(order.made), self._knowledge.work.moves
        work.ended(outcome.value)
        log.info(
            "order_ended", order=order.id, by=order.by, outcome=outcome.value, reason=why, made=made
        )
        departed = order.departed
        if departed is not None:
            work.given_up(departed.kind.value)
            for pod in (departed.pod, *self._come(order)):
                await self._tell(pod, GIVEN_UP_REASON, f"vGPU: a move is given up: {why}")
        last = order.leg or order.legs[-1]
        by = f" by {order.by}" if order.by else ""
        text = f"vGPU: an order of {len(order.legs)} moves{by} is {outcome.value.replace('-', ' ')}"
        if why:  # it may name pods, and of these not everybody may know who sees Nodes
            text += f" after {made}: `tangram defrag status` tells why"
        await self._tell_of_node(last.source.node, text)

    def _come(self, order: Order) -> Iterator[PodRef]:
        """Yield the pod that has come to where the VM under way was to go, if one has."""
        leg = order.leg
        entry = None if leg is None else planned_at(self._knowledge.views, leg.target)
        if leg is not None and entry is not None and entry.owner == leg.owner and entry.pod:
            yield entry.pod

    def _facts(self, order: Order, leg: Leg, pod: PodRef) -> dict[str, object]:
        return {
            "order": order.id,
            "move": order.at,
            "pod": pod.name,
            "namespace": pod.namespace,
            "uid": pod.uid,
            "source": leg.source.node,
            "target": leg.target.node,
            "gpu": leg.target.gpu,
            "start": leg.target.start,
            "policy_version": self._knowledge.in_force.version,
        }

    async def _tell(self, pod: PodRef, reason: str, text: str) -> None:
        if self._events is None:
            return
        try:
            await self._events.warn(pod, reason, text)
        except ClusterUnavailable as error:
            log.warning("event_not_written", pod=pod.name, reason=reason, error=str(error))

    async def _tell_of_node(self, node: str, text: str) -> None:
        if self._node_events is None:
            return
        try:
            await self._node_events.warn(node, ORDER_ENDED_REASON, text)
        except ClusterUnavailable as error:
            log.warning("event_not_written", node=node, reason=ORDER_ENDED_REASON, error=str(error))
