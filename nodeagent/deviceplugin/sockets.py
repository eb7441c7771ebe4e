"""Our sockets in the kubelet's directory: their names, and those an earlier agent has left."""

from __future__ import annotations

import contextlib
import re
import socket
from pathlib import Path
from typing import Final

import msgspec

from nodeagent.kubelet import KubeletError

PREFIX: Final = "tangram-"
SUFFIX: Final = ".sock"
LONGEST_HINT: Final = 24
"""In characters: enough to recognise a resource, few enough for any directory."""

_UNSAFE = re.compile(r"[^A-Za-z0-9]+")


class Identity(msgspec.Struct, frozen=True):
    """Tells a file from another of the same name; who owns or labels it makes no difference."""

    device: int
    inode: int
    modified_ns: int


def name(resource: str, token: str) -> str:
    """Return a socket's name: a hint at the resource for people, told apart by *token*.

    >>> name("nvidia.com/mig-1g.10gb", "0badcafe")
    'tangram-mig-1g-10gb-0badcafe.sock'
    """
    hint = _UNSAFE.sub("-", resource.rpartition("/")[2])[:LONGEST_HINT].strip("-")
    return f"{PREFIX}{hint}-{token}{SUFFIX}"


def identity(path: Path) -> Identity | None:
    """Return which file is at *path* now, None if there is none.

    Raises:
        KubeletError: that cannot be told.
    """
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise KubeletError(f"{path} cannot be looked at: {error}") from error
    return Identity(found.st_dev, found.st_ino, found.st_mtime_ns)


def clean(directory: Path) -> None:
    """Remove our sockets at which nobody listens: a killed process leaves its own.

    Raises:
        KubeletError: the directory cannot be read.
    """
    try:
        found = [*directory.glob(f"{PREFIX}*{SUFFIX}")]
    except OSError as error:
        raise KubeletError(f"{directory} cannot be read: {error}; is it mounted?") from error
    for path in found:
        if path.is_socket() and not _listened_to(path):
            with contextlib.suppress(OSError):  # then it stays, in nobody's way
                path.unlink()


def _listened_to(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # its backlog is full, or it is not for us to say
    return True
