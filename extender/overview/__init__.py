"""What people see of the fleet: every node, every GPU, and what sits on which of its slices.

Values and computation only: documents for ``/api/v1/fleet`` and the page, drawn from what decisions
look at, each as much as its reader may know. Nothing here decides anything.
"""

from extender.overview.documents import Node, Pending
from extender.overview.draw import drawn
from extender.overview.journal import Changed, Journal
from extender.overview.pending import MOST_PENDING, waiting
from extender.overview.sight import EVERYTHING, Sight

__all__ = [
    "EVERYTHING",
    "MOST_PENDING",
    "Changed",
    "Journal",
    "Node",
    "Pending",
    "Sight",
    "drawn",
    "waiting",
]
