"""What one GPU can still take in all: every bundle of placements, the best of its kind."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import msgspec

from extender.packing.tables import Tables
from nodeagent.api.geometry import Occupancy, Placement

Part = tuple[int, Placement]
"""A profile id and where it goes."""

Item = tuple[int, ...]
"""Profile ids that go to one GPU together; empty if that GPU does not serve them."""

Counts = tuple[int, ...]
"""How many of each item."""


class Bundle(msgspec.Struct, frozen=True):
    """Items on one GPU: what they add to its value, and where each item's parts go.

    ``steps`` are (item index, its parts), in an order in which they may be created.
    """

    gain: int
    steps: tuple[tuple[int, tuple[Part, ...]], ...]


@functools.lru_cache(maxsize=1 << 16)
def bundles(
    tables: Tables, occupancy: Occupancy, items: tuple[Item, ...]
) -> Mapping[Counts, Bundle]:
    """Return, for each multiset of *items* that fits beside *occupancy*, the bundle worth most.

    Costs are taken for differences of a value: the order of the steps does not matter, so items are
    added in the order of their index. The empty bundle is left out.
    """
    best: dict[Counts, Bundle] = {}
    empty = (0,) * len(items)
    open_ends = [(empty, 0, {occupancy: Bundle(0, ())})]
    while open_ends:
        counts, first, layouts = open_ends.pop()
        for index in range(first, len(items)):
            more = _added(tables, layouts, index, items[index])
            if more:
                grown = (*counts[:index], counts[index] + 1, *counts[index + 1 :])
                best[grown] = max(more.values(), key=lambda bundle: bundle.gain)
                open_ends.append((grown, index, more))
    return best


def _added(
    tables: Tables, layouts: Mapping[Occupancy, Bundle], index: int, item: Item
) -> dict[Occupancy, Bundle]:
    """Return the occupancies that one more of the item leads to, and the best way to each."""
    if not item:
        return {}
    reached: dict[Occupancy, tuple[Bundle, tuple[Part, ...]]] = {
        occupancy: (bundle, ()) for occupancy, bundle in layouts.items()
    }
    for profile_id in item:
        profile = tables.geometry.by_id[profile_id]
        further: dict[Occupancy, tuple[Bundle, tuple[Part, ...]]] = {}
        for occupancy, (bundle, parts) in reached.items():
            for option in tables.options(occupancy, profile):
                gain = bundle.gain - option.cost
                known = further.get(option.after)
                if known is None or gain > known[0].gain:
                    grown = (*parts, (profile_id, option.placement))
                    further[option.after] = (Bundle(gain, bundle.steps), grown)
        reached = further
    return {
        occupancy: Bundle(bundle.gain, (*bundle.steps, (index, parts)))
        for occupancy, (bundle, parts) in reached.items()
    }
