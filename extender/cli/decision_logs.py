"""``--decision-log``: what decisions rest on and what they are, kept for ``tangram replay``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from extender.decision_log import DecisionLog, Limits, Names
from extender.policy import InForce
from extender.settings import Settings

OPTION = "--decision-log"
HELP = (
    "Keep what decisions rest on, and what they are, in this folder, for `tangram replay`; one"
    " process a folder."
)
FILE_MIB = Limits().file_bytes // 1024**2
FILES = Limits().files
LEAST_KEY_BYTES, MOST_KEY_BYTES = 16, 64

Folder = Annotated[Path | None, typer.Option(help=HELP, show_default="none")]
FileMib = Annotated[
    int, typer.Option(min=1, help="Size at which a file of the decision log is full, in MiB.")
]
Files = Annotated[
    int,
    typer.Option(
        min=2, help="Of the decision log: as many bytes are kept as so many full files have."
    ),
]
HashNames = Annotated[
    bool,
    typer.Option(
        "--decision-log-hash-names",
        help="Hide the names of namespaces and pods, and UIDs, in the decision log behind a"
        " keyed hash.",
    ),
]
HashKey = Annotated[
    Path | None,
    typer.Option(
        help="File with the key, 16 to 64 bytes, so that names are hidden alike in all logs.",
        show_default="a key of this process alone",
    ),
]


class Kept(msgspec.Struct, frozen=True):
    """How a decision log is kept, if it is: its *folder* is None where it is not."""

    folder: Path | None = None
    limits: Limits = Limits()
    names: Names | None = None


def kept(folder: Path | None, *, file_mib: int, files: int, hashed: bool, key: Path | None) -> Kept:
    """Return what the options come to.

    Raises:
        typer.BadParameter: the key cannot be used, or the options make no sense without others.
    """
    if folder is None and (hashed or key):
        raise typer.BadParameter(f"there are no names to hide without {OPTION}")
    names = Names(_key(key) if key else None) if hashed or key else None
    return Kept(folder, Limits(file_mib * 1024**2, files), names)


def _key(path: Path) -> bytes:
    option = f"{OPTION}-hash-key"
    try:
        with path.open("rb") as file:
            found = file.read(MOST_KEY_BYTES + 1)
    except OSError as error:
        text = f"{path}: cannot be read: {error.strerror}"
        raise typer.BadParameter(text, param_hint=option) from error
    if not LEAST_KEY_BYTES <= len(found) <= MOST_KEY_BYTES:
        raise typer.BadParameter(
            f"{path}: a key has {LEAST_KEY_BYTES} to {MOST_KEY_BYTES} bytes", param_hint=option
        )
    return found


@contextlib.contextmanager
def opened(
    how: Kept, *, policy: InForce, settings: Settings, leads: bool = True
) -> Iterator[DecisionLog | None]:
    """Keep a log until the block ends, None if none is kept.

    Raises:
        typer.BadParameter: nothing can be written there.
    """
    if how.folder is None:
        yield None
        return
    with contextlib.ExitStack() as stack:
        log = DecisionLog(
            how.folder,
            policy=policy,
            settings=settings,
            leads=leads,
            limits=how.limits,
            names=how.names,
        )
        try:
            stack.enter_context(log)
        except OSError as error:
            text = f"{how.folder}: cannot be written: {error.strerror}"
            raise typer.BadParameter(text, param_hint=OPTION) from error
        yield log
