"""What a process puts on disk, told as Python's own audit hooks tell it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Protocol

from tests.crash.points import DISK


class Crossed(Protocol):
    """Whoever hears of crossings."""

    def cross(self, kind: str, name: str, when: str) -> None:
        """Take note of one; it may be the end of this process."""


def count_what_is_put_on_disk(crossings: Crossed, *within: str) -> None:
    """Tell of each file *within* these directories: a new one begun, put in place, made durable."""
    placed = [""]

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).startswith(within):
            path = str(arguments[0])
            if path.endswith(".new") and arguments[2] & (os.O_WRONLY | os.O_RDWR):
                crossings.cross(DISK, f"write {Path(path).stem}", "before")
            elif placed[0] and path == str(Path(placed[0]).parent):
                name, placed[0] = Path(placed[0]).name, ""
                crossings.cross(DISK, f"sync {name}", "before")
        elif event == "os.rename" and str(arguments[1]).startswith(within):
            placed[0] = str(arguments[1])
            crossings.cross(DISK, f"rename {Path(placed[0]).name}", "before")
        elif event == "os.remove" and str(arguments[0]).startswith(within):
            crossings.cross(DISK, f"remove {Path(str(arguments[0])).name}", "before")

    sys.addaudithook(hear)
