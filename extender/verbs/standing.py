"""Devices that stand on a node for whoever asks for them, and stay when a pod has gone.

Somebody else's device plugin hands them out (Harvester's, and GPUs cut by hand): the kubelet gives
them to a pod whatever else is made for it, so they come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from extender.packing.choose import Choice, Placed
from extender.request import Wanted
from extender.snapshot import NodeView, Standing, Taken
from extender.verbs.reasons import Fits

SPENDS_NOTHING = -(2**53)
"""What a device costs that stands there already: less than any that is to be made."""


def standing_for_anybody(
    view: NodeView, wanted: Wanted, promised: Iterable[Taken]
) -> tuple[Placed, ...]:
    """Return the devices that stand there for what is *wanted*, as far as there are any."""
    if not view.standing or not view.takes_new:
        return ()
    left, placed = list(view.standing_for(None, promised)), []
    for resource in wanted:
        found = next((each for each in left if each.resource == resource), None)
        if found is not None:
            left.remove(found)
            placed.append(placed_at(found))
    return tuple(placed)


def placed_at(standing: Standing) -> Placed:
    """Return the place of a device that stands there."""
    taken = standing.taken
    return Placed(standing.resource, standing.index, taken.gpu, taken.profile_id, taken.placement)


def besides(wanted: Wanted, standing: Iterable[Placed]) -> Wanted:
    """Return what is *wanted* and does not stand there yet."""
    left = Counter(wanted) - Counter(each.wanted for each in standing)
    return tuple(sorted(left.elements()))


def together(standing: tuple[Placed, ...], made: Choice | None = None) -> Fits:
    """Return the choice of devices that stand there, with those to be *made*."""
    if made is None:
        return Fits(Choice(SPENDS_NOTHING, 0, standing))
    return Fits(Choice(made.cost, made.tie, (*standing, *made.placed)))
