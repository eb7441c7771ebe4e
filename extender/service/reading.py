"""What the fleet's metrics are made of, at a moment."""

from __future__ import annotations

from importlib.metadata import version

from extender.metrics import FleetState
from extender.service.knowledge import Knowledge


def reading(knowledge: Knowledge) -> FleetState:
    """Return how things stand now: what may be read in a thread while the knowledge goes on."""
    return FleetState(
        views=dict(knowledge.views),
        leads=not knowledge.tenure.why_not(),
        ready=not knowledge.not_warm(),
        policy=knowledge.in_force.policy.effective.value,
        version=version("tangram-vgpu"),
        pending=len(knowledge.pending.waiting),
        refused=len(knowledge.refused),
        presumed=len(knowledge.ledger.presumed),
    )
