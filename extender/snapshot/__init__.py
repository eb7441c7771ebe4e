"""What decisions look at: each node's GPUs with everything that is taken on them.

Immutable: a change makes a new view of that node and leaves the others as they are.
"""

from extender.snapshot.taken import Held, Releasing, Standing, Taken, taken_by
from extender.snapshot.view import NodeView

__all__ = ["Held", "NodeView", "Releasing", "Standing", "Taken", "taken_by"]
