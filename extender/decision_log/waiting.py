"""What waits to be written, bounded by the memory it keeps: what finds no room is counted.

Weights are of CPython's objects, about; what the service keeps in memory anyway weighs as well,
for it may have gone there while it waits here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from types import NoneType
from typing import Any

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
    values = (*call.args, *call.named.values(), call.outcome)
    return CALL_BYTES + sum([_WEIGHERS[type(each)](each) for each in values])


def _of_node(node: GpuNode) -> int:
    plan, status = node.spec, node.status
    objects = len(plan.assignments) + len(status.realized) + len(status.failed)
    objects += sum([1 + len(gpu.instances) for gpu in status.gpus])
    objects += sum(map(len, status.vgpu_types.values())) + len(status.geometries)
    return CALL_BYTES + OBJECT_BYTES * objects


def _of_ledger(ledger: Ledger) -> int:
    kinds = (ledger.assumed, ledger.presumed, ledger.planned, ledger.avoided)
    return PROMISE_BYTES * sum(map(len, kinds))


def _of_mapping(values: Mapping[object, object]) -> int:
    return sum([NAME_BYTES + _WEIGHERS[type(each)](each) for each in values.values()])


_Weigher = Callable[[Any], int]

_KINDS: tuple[tuple[type | tuple[type, ...], _Weigher], ...] = (
    ((NoneType, str, bool, int, float), lambda _: NAME_BYTES),
    (GpuNode, _of_node),
    (Judged, lambda judged: NAME_BYTES * (len(judged.passed) + len(judged.refused))),
    (Ranked, lambda ranked: VALUE_BYTES + NAME_BYTES * len(ranked.scores)),
    (Ledger, _of_ledger),
    (MetaVictims, lambda victims: NAME_BYTES * (1 + len(victims.pods or ()))),
    (Mapping, _of_mapping),
    (Collection, lambda values: NAME_BYTES * len(values)),
    (object, lambda _: VALUE_BYTES),
)


class _Weighers(dict[type, _Weigher]):
    """What weighs values of a type, found once: calls are heard between two answers."""

    def __missing__(self, kind: type) -> _Weigher:
        return self.setdefault(kind, next(by for kinds, by in _KINDS if issubclass(kind, kinds)))


_WEIGHERS = _Weighers()
