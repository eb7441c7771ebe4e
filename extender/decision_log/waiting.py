"""What waits to be written, bounded by the memory it keeps: what finds no room is counted.

Weights are of CPython's objects, about; what the service keeps in memory anyway weighs as well,
for it may have gone there while it waits here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping

import msgspec

from extender.ledger import Ledger
from extender.service.hooks import Judged
from extender.service.seam import Call
from extender.verbs.prioritize import Ranked
from extender.wire import MetaVictims
from nodeagent.api.gpunode import GpuNode

MOST_BYTES = 64 * 1024 * 1024
"""What may wait."""

CALL_BYTES = 1_000
VALUE_BYTES = 1_000
"""Of an argument whose size does not vary much, such as a request or what is kept of a pod."""

NAME_BYTES = 150
"""Of a name, UID, label or score, with its place in what holds it."""

PROMISE_BYTES = 50
"""Of a promise's place in a ledger; the promise itself is the same from one ledger to the next."""

OBJECT_BYTES = 500
"""Of a GPU, instance or assignment in a GpuNode: a struct of some texts of its own."""


class State(msgspec.Struct, frozen=True, gc=False):
    """The calls that lead to the state as it was; none, where that could not be told."""

    calls: Iterator[Call] | None


class Waiting:
    """A queue from the event loop to one thread, of *most* bytes.

    Each count is changed by one side alone, so that neither needs a lock.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.heard = 0
        """Calls that came, with room or without."""
        self.refused = 0
        """Calls that found no room."""
        self.untold = 0
        """How many of these came last, after all that waits."""
        self._most = most
        self._queue: deque[tuple[Call, int] | State | int] = deque()
        self._handed = 0
        self._taken = 0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def bytes(self) -> int:
        """How much memory is kept, about."""
        return max(0, self._handed - self._taken)

    # On the event loop.

    def put(self, call: Call) -> bool:
        """Let a call wait, if there is room; tell whether there was."""
        self.heard += 1
        weight = weighed(call)
        if self._handed - self._taken + weight > self._most:
            self.untold += 1
            self.refused += 1
            return False
        if self.untold:
            self._queue.append(self.untold)
            self.untold = 0
        self._handed += weight
        self._queue.append((call, weight))
        return True

    def put_state(self, state: State) -> None:
        """Let a state wait behind the call that has led to it.

        It is references to what the service keeps: they weigh little, and are soon taken.
        """
        self._queue.append(state)

    # In the thread.

    def take(self) -> Call | State | int:
        """Return what has waited longest: a call, a state, or how many found no room then."""
        item = self._queue.popleft()
        if isinstance(item, int | State):
            return item
        call, weight = item
        self._taken += weight
        return call


def weighed(call: Call) -> int:
    """Return how much memory a call keeps, about, in bytes."""
    return CALL_BYTES + sum(map(_bytes, (*call.args, *call.named.values(), call.outcome)))


def _bytes(value: object) -> int:
    match value:
        case None | str() | bool() | int() | float():
            return NAME_BYTES
        case GpuNode(spec=plan, status=status):
            objects = len(plan.assignments) + len(status.realized) + len(status.failed)
            objects += sum(1 + len(gpu.instances) for gpu in status.gpus)
            objects += sum(map(len, status.vgpu_types.values())) + len(status.geometries)
            return CALL_BYTES + OBJECT_BYTES * objects
        case Judged(passed=passed, refused=refused):
            return NAME_BYTES * (len(passed) + len(refused))
        case Ranked(scores=scores):
            return VALUE_BYTES + NAME_BYTES * len(scores)
        case Ledger():
            kinds = (value.assumed, value.presumed, value.planned, value.avoided)
            return PROMISE_BYTES * sum(map(len, kinds))
        case MetaVictims(pods=pods):
            return NAME_BYTES * (1 + len(pods or ()))
        case Mapping():
            return sum(NAME_BYTES + _bytes(each) for each in value.values())
        case Collection():
            return NAME_BYTES * len(value)
        case _:
            return VALUE_BYTES
