"""Where the NVML library is, and how pynvml comes to use that one."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pynvml

from nodeagent.driver import LibraryNotFound, VersionMismatch

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

_MOST_LINKS = 40  # as the kernel allows in one path


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
            yield from (inside(self.root, f"{each}/{NAME}") for each in _DIRECTORIES)


class _File(msgspec.Struct, frozen=True):
    """What tells a file from another one that has taken its name."""

    device: int
    inode: int
    size: int
    modified_ns: int


# The loader keeps a library under the name it was loaded by, for the life of the process: it would
# answer with the old one after the file was replaced. So this belongs to the process, too.
_loaded: dict[str, _File] = {}


def load(location: Location) -> None:
    """Load the library from *location* and make pynvml, all over this process, use it.

    pynvml asks the loader for the bare name and keeps what it got, and each function it found in
    it, for the life of the process: so it is handed the library, and told to look again.

    A library cannot be exchanged for a newer one in a running process. One that has been replaced
    meanwhile, as when a driver container was updated, is noticed here, that is when NVML has to be
    initialised again; until then the old one serves.

    Raises:
        LibraryNotFound: there is none, or it cannot be loaded.
        VersionMismatch: this process has loaded another one that was there before.
    """
    path = _found(location)
    file = _file(path)
    if _loaded.get(path, file) != file:
        raise VersionMismatch(
            LOAD, meaning="the NVML library was replaced: restart the agent", detail=path
        )
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise LibraryNotFound(LOAD, detail=str(error)) from error
    if file:
        _loaded[path] = file
    pynvml.nvmlLib = library
    pynvml._nvmlGetFunctionPointer_cache.clear()


def inside(root: Path, path: str) -> Path:
    """Return where *path* leads for a process whose root directory is *root*.

    A driver container's links may be absolute: they are meant below its root, not the host's.
    """
    todo = list(reversed(Path(path).parts))
    at: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        here = root.joinpath(*at, part)
        if part == "/":
            at.clear()
        elif part == "..":
            del at[-1:]
        elif here.is_symlink() and (links := links + 1) <= _MOST_LINKS:
            todo.extend(reversed(here.readlink().parts))
        else:
            at.append(part)
    return root.joinpath(*at)


def _found(location: Location) -> str:
    """Return what to ask the loader for."""
    candidates = list(location.candidates)
    if not candidates:
        return NAME
    if found := next((each for each in candidates if each.exists()), None):
        return str(found)
    where = f"in no library directory under {location.root}"
    if location.library:
        where = f"not at {location.library}"
    raise LibraryNotFound(LOAD, detail=f"it is {where}")


def _file(path: str) -> _File | None:
    """Return which file is at *path*; none where the loader is to search for a bare name."""
    if path == NAME:
        return None
    try:
        found = Path(path).stat()
    except OSError as error:
        raise LibraryNotFound(LOAD, detail=str(error)) from error
    return _File(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
