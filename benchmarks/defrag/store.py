"""Results as they are kept: a file for each mix and load, with every seed's figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks.defrag.experiment import LOADS, MIXES, Cell, Size
from benchmarks.made import Made, here


class Kept(msgspec.Struct, frozen=True):
    """A cell, and how it was made."""

    made: Made
    cell: Cell


def load(folder: Path, mix: str, load: float, size: Size) -> Cell | None:
    """Return what is kept of a mix and load; None if nothing is, or if it is of another size."""
    path = _path(folder, mix, load)
    if not path.exists():
        return None
    kept = msgspec.json.decode(path.read_bytes(), type=Kept)
    return kept.cell if kept.cell.size == size else None


def save(folder: Path, cell: Cell) -> None:
    """Keep a cell, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = _path(folder, cell.mix, cell.load)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(msgspec.json.encode(Kept(here(), cell)) + b"\n")
    unfinished.replace(path)


def load_all(folder: Path) -> Iterator[Kept]:
    """Yield all that is kept, in the order of the tables."""
    for at in LOADS:
        for mix in MIXES:
            path = _path(folder, mix, at)
            if path.exists():
                yield msgspec.json.decode(path.read_bytes(), type=Kept)


def _path(folder: Path, mix: str, load: float) -> Path:
    return folder / f"{mix}-{load:g}.json"
