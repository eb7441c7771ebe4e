"""Demand recorded elsewhere: pods that asked for shares of a GPU, mapped to kinds of instance.

The columns are those of the openb trace (Alibaba, cluster-trace-gpu-v2023): ``num_gpu``,
``gpu_milli``, ``creation_time``, ``deletion_time``; others are not looked at. Pods that ask for one
GPU or a part of one are taken, all others left out.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from extender.simulation.demand import Demand

_COLUMNS = ("num_gpu", "gpu_milli", "creation_time", "deletion_time")


class MalformedTrace(Exception):
    """The trace cannot be read; the text names the file, the line and the column."""


class Rule(StrEnum):
    """How a share of a GPU becomes a kind of instance."""

    CEIL = "A"
    NEAREST = "B"
    COMPUTE_AND_MEMORY = "C"


class Recorded(msgspec.Struct, frozen=True):
    """A pod that asked for ``share`` of one GPU; times are in seconds from the trace's start."""

    share: float
    at: float
    lifetime: float


def recorded(path: Path, *, shared_only: bool = False) -> list[Recorded]:
    """Return the pods of a trace in the order in which they came.

    With *shared_only*, without those that asked for a whole GPU. A pod that was never deleted
    stays for ever.

    Raises:
        MalformedTrace: if the file cannot be read or is not such a trace.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            found = list(_parsed(path, csv.DictReader(file)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MalformedTrace(f"{path}: cannot be read: {error}") from error
    found = [each for each in found if not shared_only or each.share < 1]
    if not found:
        raise MalformedTrace(f"{path}: no pod in it asks for one GPU or a part of one")
    return sorted(found, key=lambda each: each.at)


def _parsed(path: Path, rows: csv.DictReader[str]) -> Iterator[Recorded]:
    missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise MalformedTrace(f"{path}: line 1: no column {', '.join(missing)}")
    for row in rows:
        if _number(path, rows.line_num, row, "num_gpu") != 1:
            continue
        at = _number(path, rows.line_num, row, "creation_time")
        until = _number(path, rows.line_num, row, "deletion_time", otherwise=math.inf)
        share = _number(path, rows.line_num, row, "gpu_milli") / 1000
        if not 0 < share <= 1 or until < at:
            raise MalformedTrace(
                f"{path}: line {rows.line_num}: gpu_milli is not in 1..1000, or the pod was"
                " deleted before it was created"
            )
        yield Recorded(share, at, until - at)


def _number(
    path: Path,
    line: int,
    row: Mapping[str, str],
    column: str,
    *,
    otherwise: float | None = None,
) -> float:
    text = row[column]
    if not text and otherwise is not None:
        return otherwise
    try:
        return float(text)
    except (TypeError, ValueError) as error:
        raise MalformedTrace(f"{path}: line {line}: {column} {text!r} is no number") from error


_COMPUTE = {"1g": 1 / 7, "2g": 2 / 7, "3g": 3 / 7, "4g": 4 / 7, "whole": 1.0}
_COMPUTE_AND_MEMORY = {
    "1g": 1 / 56,
    "1g-double": 2 / 56,
    "2g": 4 / 56,
    "3g": 12 / 56,
    "4g": 16 / 56,
    "whole": 1.0,
}
"""Compute slices of 7 times memory slices of 8."""


def kind_for(share: float, mapping: Rule) -> str:
    """Return the kind of instance for a share of a GPU.

    A: the smallest with as much compute. B: the nearest by compute. C: the nearest by compute times
    memory. Between two equally near ones the bigger.
    """
    match mapping:
        case Rule.CEIL:
            return next(kind for kind, size in _COMPUTE.items() if share <= size)
        case Rule.NEAREST:
            return _nearest(share, _COMPUTE)
        case Rule.COMPUTE_AND_MEMORY:
            return _nearest(share, _COMPUTE_AND_MEMORY)


def _nearest(share: float, sizes: Mapping[str, float]) -> str:
    return min(sizes, key=lambda kind: (abs(share - sizes[kind]), -sizes[kind]))


def in_order(pods: Sequence[Recorded], kinds: Sequence[int]) -> Demand:
    """Return the demand as it was recorded, given the kind of each pod; times are in seconds."""
    return Demand([pod.at for pod in pods], list(kinds), [pod.lifetime for pod in pods])
