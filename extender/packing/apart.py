"""A VM whose vGPUs must be on distinct GPUs of a node."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from extender.packing.choose import Bin, Choice, Placed, choose


def choose_apart(bins: Sequence[Bin], wanted: Sequence[str]) -> Choice | None:
    """Place each vGPU on a GPU of its own, the largest first, each as well as can be."""
    left = list(range(len(bins)))
    placed: list[Placed] = []
    cost = tie = 0
    size = {
        name: max((p.size for bin in bins if (p := bin.profile(name)) is not None), default=0)
        for name in wanted
    }
    for name in sorted(wanted, key=lambda name: (-size[name], name)):
        choice = choose([bins[index] for index in left], (name,))
        if not isinstance(choice, Choice):
            return None
        only = choice.placed[0]
        placed.append(msgspec.structs.replace(only, bin=left[only.bin]))
        left.pop(only.bin)
        cost, tie = cost + choice.cost, tie + choice.tie
    return Choice(cost, tie, tuple(placed))
