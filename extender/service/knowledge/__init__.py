"""What the extender knows: a view of each node, the pods that concern it, and its promises.

Changes come in one at a time on the event loop; each replaces a view as a whole, so a decision
between two awaits sees one consistent state. ``known`` has all of it, ``nodes``, ``pods`` and
``promised`` what becomes of it by what is told of each, ``knowledge`` the rest and the whole.
"""

from extender.service.knowledge.knowledge import GOING_AWAY, Knowledge
from extender.service.knowledge.known import PROMISES

__all__ = ["GOING_AWAY", "PROMISES", "Knowledge"]
