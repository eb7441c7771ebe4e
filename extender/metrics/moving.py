"""What VMs are moved, and how the orders for it end."""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter


class MoveKind(StrEnum):
    """How a VM was moved."""

    LIVE = "live-migration"
    EVICTION = "eviction"
    RESTART = "restart"


class MoveOutcome(StrEnum):
    """What became of a move."""

    MOVED = "moved"
    GIVEN_UP = "given-up"


class OrderOutcome(StrEnum):
    """How an order of moves ended."""

    DONE = "done"
    STOPPED = "stopped"
    GIVEN_UP = "given-up"


class Moves:
    """Counts moves that were begun as they end, and orders of them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._moves = Counter(
            "tangram_moves",
            "Moves of VMs that were begun, by their kind and what became of them.",
            ("kind", "outcome"),
            registry=registry,
        )
        self._orders = Counter(
            "tangram_move_orders",
            "Orders of moves by how they ended: all were made, somebody or the policy stopped"
            " them, or a move could not be made as planned.",
            ("outcome",),
            registry=registry,
        )
        for kind in MoveKind:  # a rate of what never happened is 0, not absent
            for outcome in MoveOutcome:
                self._moves.labels(kind.value, outcome.value)
        for ended in OrderOutcome:
            self._orders.labels(ended.value)

    def moved(self, kind: str) -> None:
        """Note that a VM has come to where it was moved to."""
        self._moves.labels(MoveKind(kind).value, MoveOutcome.MOVED.value).inc()

    def given_up(self, kind: str) -> None:
        """Note that a VM was to move, and has not come to its place."""
        self._moves.labels(MoveKind(kind).value, MoveOutcome.GIVEN_UP.value).inc()

    def ended(self, outcome: str) -> None:
        """Note that an order has ended."""
        self._orders.labels(OrderOutcome(outcome).value).inc()
