"""What is known, told as the calls that lead to it: whoever makes them on a fresh state goes on.

A witness that comes late, or has lost something, can know again what decisions rest on. All of it
is tens of thousands of values; but each is frozen, and another takes its place when it changes. So
the moment is caught by copying references (manifests/DECISIONLOG.md has for how long), and what is
told of them may be told by a thread, later, while the state goes on.

What no answer rests on is left out: counts, who is to be woken, what to train a policy on.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import msgspec

from extender.ledger import Ledger
from extender.policy import PolicyName
from extender.service.knowledge import PROMISES, Knowledge
from extender.service.seam import Call, restoring, some
from extender.snapshot import NodeView


def restated(knowledge: Knowledge) -> Iterator[Call]:
    """Return the calls that lead from a fresh state, of the same settings, to what is known now.

    They are made of what is known now, whenever they are asked for. On the event loop, between two
    calls that come across the seam.
    """
    parts = knowledge
    namespaces = tuple(parts.tenancy.namespaces.items())
    nodes, rivals = parts.nodes.copy(), parts.rivals.copy()
    labels = dict(parts.labels)
    views = tuple(parts.views.values())
    lost = [(name, tuple(had), tuple(had.values())) for name, had in parts.lost.items()]
    pods, requests = tuple(parts.pods.values()), tuple(parts.requests.values())
    gone = parts.gone.copy()
    return chain(
        (restoring("Knowledge.adopt", parts.in_force),),
        (restoring("Knowledge.namespace", *each) for each in namespaces),
        (
            restoring(
                "Knowledge.node",
                node,
                cordoned=cordoned,
                rival=rivals.get(node),
                labels=labels.get(node),
            )
            for node, cordoned in nodes.items()
        ),
        parts.freshness.restated(),
        (restoring("Knowledge.restore_view", _bare(each)) for each in views),
        parts.assigned.restated(),
        (restoring("Knowledge.restore_lost", *each) for each in lost),
        (parts.holds.restated(), parts.realizing.restated(), parts.tenancy.restated()),
        (restoring("Knowledge.restore_pod", each) for each in pods),
        (restoring("Knowledge.restore_request", each) for each in requests),
        (
            restoring("Knowledge.restore_gone", *zip(*each, strict=True))
            for each in some(gone.items())
        ),
        (restoring("Knowledge.restore_buried", each) for each in some(tuple(parts.buried))),
        parts.ended.restated(),
        parts.ending.restated(),
        parts.unseen.restated(),
        (parts.avoidance.restated(),),
        parts.pending.restated(),
        parts.enlisted.restated(),
        (restoring(PROMISES, Ledger(), parts.ledger),),
        parts.tenure.restated(),
        (restoring("Knowledge.stop"),) if parts.stopping else (),
    )


def _bare(view: NodeView) -> NodeView:
    """Return a view without its policy, which is the same everywhere, or what was made of it."""
    return msgspec.structs.replace(view, policy=PolicyName.DEFAULT)
