"""Placement policies by name; the file in which SREs write theirs will be read here."""

from __future__ import annotations

from enum import StrEnum


class PolicyName(StrEnum):
    """What a placement costs.

    ``default`` counts the free slices that each profile could no longer use (FGU); ``first-fit``
    finds all placements equal and takes the first.
    """

    DEFAULT = "default"
    FIRST_FIT = "first-fit"
