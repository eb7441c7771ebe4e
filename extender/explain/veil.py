"""What a reader may not know: whose VMs those of other namespaces are."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from extender.explain.explanation import Explanation, Move, Moves


def others(explanation: Explanation) -> frozenset[str]:
    """Return the namespaces, besides the pod's own, of which an explanation tells."""
    if not isinstance(explanation.room, Moves):
        return frozenset()
    return frozenset(each.namespace for each in explanation.room.moves) - {explanation.namespace}


def veiled(explanation: Explanation, may_know: Callable[[str], bool]) -> Explanation:
    """Return what is told to whoever may know of the VMs of some namespaces only.

    They are told that a VM would have to move, and where it is: that slices are in use there is no
    secret, by whom is.
    """
    if not isinstance(explanation.room, Moves):
        return explanation
    moves = tuple(
        each if may_know(each.namespace) else _nameless(each) for each in explanation.room.moves
    )
    room = msgspec.structs.replace(explanation.room, moves=moves)
    return msgspec.structs.replace(explanation, room=room)


def _nameless(move: Move) -> Move:
    return msgspec.structs.replace(move, namespace="", kind="", name="", priority=0)
