"""What the fleet's metrics are made of, at a moment."""

from __future__ import annotations

from importlib.metadata import version

from extender.metrics import FleetState
from extender.service.knowledge import Knowledge


def reading(knowledge: Knowledge) -> FleetState:
    """Return how things stand now: what may be read in a thread while the knowledge goes on."""
    unrealized, oldest = knowledge.realizing.unrealized()
    since = knowledge.planned_at
    return FleetState(
        views=dict(knowledge.views),
        leads=not knowledge.tenure.why_not(),
        ready=not knowledge.not_warm(),
        version=version("tangram-vgpu"),
        policy=knowledge.in_force.policy.effective.value,
        policy_version=knowledge.in_force.version,
        rules=knowledge.tenancy.rules,
        tenants=dict(knowledge.tenancy.tenants),
        headroom=knowledge.tenancy.headroom,
        pending=len(knowledge.pending.waiting),
        refused=len(knowledge.refused),
        presumed=len(knowledge.ledger.presumed),
        avoided=len(knowledge.ledger.avoided),
        unrealized=unrealized,
        oldest_unrealized=oldest,
        plan_age=None if since is None else knowledge.clock() - since,
        silences={feed.value: each for feed, each in knowledge.freshness.silences().items()},
        oldest_renewal=knowledge.freshness.oldest_renewal(),
    )
