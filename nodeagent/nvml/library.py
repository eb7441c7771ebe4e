"""Where the NVML library is, and how pynvml comes to use that one."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pynvml

from nodeagent.driver import LibraryNotFound

NAME = "libnvidia-ml.so.1"

LOAD = "dlopen"
"""How errors name the attempt to load it."""

_DIRECTORIES = (
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
    "lib64",
    "lib",
)
"""Where distributions, and so driver containers, put the library."""


class Location(msgspec.Struct, frozen=True):
    """Where to find the library: *library* itself, or the *root* of a driver container.

    Without either the loader's own search decides.
    """

    library: Path | None = None
    root: Path | None = None

    @property
    def candidates(self) -> Iterator[Path]:
        """The files it may be, best first; none where the loader is to search."""
        if self.library:
            yield self.library
        elif self.root:
            yield from (self.root / directory / NAME for directory in _DIRECTORIES)


def load(location: Location) -> None:
    """Load the library from *location* and make pynvml, all over this process, use it.

    pynvml asks the loader for the bare name and keeps what it got, and each function it found in
    it, for the life of the process: so it is handed the library, and told to look again.

    Raises:
        LibraryNotFound: there is none, or it cannot be loaded.
    """
    candidates = list(location.candidates)
    if not candidates:
        path = NAME
    elif found := next((each for each in candidates if each.exists()), None):
        path = str(found)
    else:
        where = f"in no library directory under {location.root}"
        if location.library:
            where = f"not at {location.library}"
        raise LibraryNotFound(LOAD, detail=f"it is {where}")
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise LibraryNotFound(LOAD, detail=str(error)) from error
    pynvml.nvmlLib = library
    pynvml._nvmlGetFunctionPointer_cache.clear()
