"""Results as they are kept, ``joint.json``: each part with where and when it was measured."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import msgspec

from benchmarks import made
from benchmarks.joint.burst import Row

NAME = "joint.json"


class Made(made.Made, frozen=True, kw_only=True):
    """Where and when a part was measured, by which solver, and from which seeds."""

    commit: str = ""
    ortools: str
    seeds: str


class Results(msgspec.Struct, omit_defaults=True):
    """All parts: bursts (``burst.summary``), plans of large fleets, and of what ``serve`` knows.

    ``made`` is by part; a part from before that was noted is not in it.
    """

    sizes: list[Row] = []
    mixed: list[Row] = []
    bursts: list[Row] = []
    served: list[Row] = []
    made: dict[str, Made] = {}


PARTS = ("bursts", "sizes", "mixed", "served")


def here(seeds: str) -> Made:
    """Return what is to be noted of a part that has just been measured."""
    noted = msgspec.structs.asdict(made.here())
    return Made(**noted, ortools=version("ortools"), seeds=seeds)


def load(folder: Path) -> Results:
    """Return what is stored in a folder; nothing, if nothing is."""
    path = folder / NAME
    return msgspec.json.decode(path.read_bytes(), type=Results) if path.exists() else Results()


def save(folder: Path, results: Results) -> None:
    """Store results."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_bytes(msgspec.json.encode(results) + b"\n")
