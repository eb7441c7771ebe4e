"""What is told of moves: in the log, in metrics, and in Events on pods, VMs and nodes."""

from __future__ import annotations

from collections.abc import Iterator

import structlog

from extender.moving import Departure, Leg, Order, Outcome, There
from extender.policy.moving import Why
from extender.service.events import NodeEvents, PodEvents
from extender.service.knowledge import Knowledge
from extender.service.ports import ClusterUnavailable
from nodeagent.api.gpunode import PodRef

log = structlog.get_logger()

ORDERED_REASON = "VgpuMovesOrdered"
STOPPING_REASON = "VgpuMovesStopping"
ORDER_ENDED_REASON = "VgpuMovesEnded"
HELD_REASON = "VgpuPlaceHeld"
WAITS_REASON = "VgpuMoveWaits"
MOVING_REASON = "VgpuMoving"
MOVED_REASON = "VgpuMoved"
SKIPPED_REASON = "VgpuMoveSkipped"
GIVEN_UP_REASON = "VgpuMoveGivenUp"

WAITS_SECONDS = 30.0
"""What a move waits for is told of once that has lasted so long: most of it is soon over."""

MOST_WAITS = 5
"""So many things, at most, are told of that one move waits for."""


class MoveTeller:
    """Tells of moves; that people cannot be told ends none.

    *events* are about the VM's pod. *node_events* are of what is about an order, or a VM without a
    pod, and about the node that the next VM is to leave, or the last has left. Not everybody may
    know of all VMs who sees Nodes: there none is named.
    """

    def __init__(
        self, knowledge: Knowledge, events: PodEvents | None, node_events: NodeEvents | None
    ) -> None:
        self._knowledge = knowledge
        self._events = events
        self._node_events = node_events
        self._turn: tuple[str, int] = ("", 0)
        self._held_told = False
        self._waits_told: set[str] = set()
        self._waits: tuple[str, float] = ("", 0.0)

    # Of an order.

    async def given(self, order: Order) -> None:
        """Tell that an order is given."""
        text = f"{_called(order)} is given: `tangram defrag status` tells how far it has come"
        await self._tell_of_node(order.legs[0].source.node, ORDERED_REASON, text)

    async def stopping(self, order: Order) -> None:
        """Tell that an order comes to its end before its time, and because of whom."""
        text = f"{_called(order)} is being stopped: {order.stopping}"
        await self._tell_of_node(_last(order).source.node, STOPPING_REASON, text)

    async def ends(self, order: Order, outcome: Outcome, why: str, there: There) -> None:
        """Tell how an *order* ends, which is as it was before that.

        Of a VM that is under way its pods are told: the one that was to leave, as long as it is
        there, and the one that has come, which may be what it ends for; else the pod of the VM
        whose turn it was.
        """
        made, work, leg = len(order.made), self._knowledge.work.moves, order.leg
        work.ended(outcome.value)
        log.info(
            "order_ended", order=order.id, by=order.by, outcome=outcome.value, reason=why, made=made
        )
        if order.departed is not None:
            work.given_up(order.departed.kind.value)
        if leg is not None:
            for pod in _pods(order, leg, there):
                await self._tell(pod, GIVEN_UP_REASON, f"vGPU: a move is given up: {why}")
        text = f"{_called(order)} is {outcome.value.replace('-', ' ')}"
        if why:
            text += f" after {made}: {_for_everybody(order, outcome, why)}"
        await self._tell_of_node(_last(order).source.node, ORDER_ENDED_REASON, text)

    # Of a move.

    async def stands(self, order: Order, there: There, waits: str) -> None:
        """Tell that a place is held for the VM whose turn it is, and what it *waits* for.

        To be called at every look at an order that goes on; each is told of once in a turn.
        """
        turn, now, leg = (order.id, order.at), self._knowledge.clock(), order.leg
        if turn != self._turn:
            self._turn, self._held_told = turn, False
            self._waits, self._waits_told = ("", now), set()
        if waits != self._waits[0]:
            self._waits = waits, now
        if leg is not None and order.departed is None and not self._held_told:
            self._held_told = there.held(leg.target.node, order.id_of(order.at))
            if self._held_told:
                await self._held(order, leg, there)
        lasts, told = now - self._waits[1] >= WAITS_SECONDS, self._waits_told
        if waits and lasts and waits not in told and len(told) < MOST_WAITS:
            told.add(waits)
            await self._waiting(order, there, waits)

    async def _held(self, order: Order, leg: Leg, there: There) -> None:
        text = f"vGPU: a place is held on {leg.target.node}, where the VM is to be moved"
        for pod in _pods(order, leg, there):
            log.info("place_held", **self._facts(order, leg, pod))
            await self._tell(pod, HELD_REASON, text)

    async def _waiting(self, order: Order, there: There, why: str) -> None:
        log.info("moves_wait", order=order.id, move=order.at, reason=why)
        leg = order.leg
        pods = () if leg is None else _pods(order, leg, there)
        runs = [pod for pod in pods if there.lives(pod.uid)]
        if runs:
            await self._tell(runs[-1], WAITS_REASON, f"vGPU: a move waits: {why}")
        else:
            text = f"{_called(order)} waits after {order.at}: {why}"
            await self._tell_of_node(_last(order).source.node, WAITS_REASON, text)

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
        text = f"{_called(order)}: the VM of move {order.at + 1} is no more, which is as good"
        await self._tell_of_node(leg.source.node, SKIPPED_REASON, text)

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

    async def _tell_of_node(self, node: str, reason: str, text: str) -> None:
        if self._node_events is None:
            return
        try:
            await self._node_events.warn(node, reason, text)
        except ClusterUnavailable as error:
            log.warning("event_not_written", node=node, reason=reason, error=str(error))


def _called(order: Order) -> str:
    """Return how an order is spoken of; one is told from the next by its id."""
    by = f" by {order.by}" if order.by else ""
    return f"vGPU: the order {order.id} of {len(order.legs)} moves{by}"


def _last(order: Order) -> Leg:
    """Return the move that is under way or next, else the last one."""
    return order.leg or order.legs[-1]


def _for_everybody(order: Order, outcome: Outcome, why: str) -> str:
    """Return why an order ends, as far as that names no pod, else where it is told."""
    if outcome is Outcome.STOPPED and order.stopping:
        return order.stopping
    return why if why in tuple(Why) else "`tangram defrag status` tells why"


def _pods(order: Order, leg: Leg, there: There) -> Iterator[PodRef]:
    """Yield the pods of the VM whose turn it is: that which was to leave, that which has come."""
    stands = there.at(leg.source)
    if order.departed is not None:
        yield order.departed.pod
    elif stands is not None and stands.owner == leg.owner and stands.pod is not None:
        yield stands.pod
    come = there.at(leg.target)
    if come is not None and come.owner == leg.owner and come.pod is not None:
        yield come.pod
