"""Placement policies by name."""

from __future__ import annotations

from enum import StrEnum


class PolicyName(StrEnum):
    """What a placement costs.

    ``default`` counts the free slices that each profile could no longer use (FGU); among equals it
    leaves those GPUs alone that will be empty soonest.
    ``demand-weighted`` and ``fgd`` weigh what is lost by how often it is asked for, ``learned`` by
    trained weights. ``mfi`` and ``mfi-v2`` count blocked windows, the ``capability`` family the
    placements left. ``best-fit`` and ``worst-fit`` look at free slices alone, and ``first-fit``
    finds all placements equal and takes the first; to pods that are planned together all are equal,
    but for the number of empty GPUs that are used: such a plan keeps no order.
    """

    DEFAULT = "default"
    DEMAND_WEIGHTED = "demand-weighted"
    LEARNED = "learned"
    MFI = "mfi"
    MFI_PARTLY = "mfi-v2"
    FGD = "fgd"
    CAPABILITY = "capability"
    CAPABILITY_LOSS = "capability-loss"
    EXPECTED_CAPABILITY_LOSS = "expected-capability-loss"
    BEST_FIT = "best-fit"
    WORST_FIT = "worst-fit"
    FIRST_FIT = "first-fit"
