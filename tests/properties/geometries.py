"""GPUs as the catalog knows them, and as no vendor has made them yet."""

from __future__ import annotations

from hypothesis import strategies as st

from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Geometry, Profile

KNOWN = ("H100-80GB", "A30-24GB", "RTX-PRO-6000-Blackwell-96GB")
MOST_SLICES = 12
MOST_STARTS = 3
"""Of one made-up profile: those who judge by brute force try them all."""


@st.composite
def made_up(draw: st.DrawFn) -> Geometry:
    """Any number of slices, and profiles of any size, starts and limits."""
    slices = draw(st.integers(2, MOST_SLICES))
    profiles = []
    for id in range(draw(st.integers(1, 5))):
        size = draw(st.integers(1, slices))
        at = st.integers(0, slices - size)
        starts = draw(st.lists(at, min_size=1, max_size=MOST_STARTS, unique=True))
        most = draw(st.integers(1, MOST_STARTS))
        profiles.append(Profile(id, f"{size}x.{id}", size, size, tuple(starts), most))
    return Geometry(slices, slices, tuple(profiles))


def geometries() -> st.SearchStrategy[Geometry]:
    """Return the known ones, and ones that are made up."""
    return st.one_of(*(st.just(MODELS[name].geometry) for name in KNOWN), made_up())
