"""Policies tried on a recorded demand, each called as people know it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from extender.cli import policies
from extender.cli.playing import played
from extender.cli.printable import printable
from extender.cli.records import read
from extender.policy import InForce
from extender.replay.compare import report
from extender.replay.document import Report
from extender.replay.parsing import MalformedRecord, policy_of

RECORDED = "recorded"
"""What the policy of the record is called."""


def tried(paths: Sequence[Path], texts: Sequence[str]) -> Report:
    """Return what policies, by name or by their files, make of a record, or of a log's demand.

    Raises:
        typer.BadParameter: a file or a policy cannot be used; saying which, and why.
    """
    named = _named(texts)
    try:
        recorded = read(paths)
        own = policy_of(recorded, ", ".join(map(str, paths)))
    except MalformedRecord as error:
        raise typer.BadParameter(printable(str(error)), param_hint="LOG") from error
    every = [(RECORDED, own), *named]
    return report(recorded, [policy for _, policy in every], played(recorded, every))


def _named(texts: Sequence[str]) -> list[tuple[str, InForce]]:
    """Return the policies, each by a name of its own: a file's is what it is called."""
    found: dict[str, InForce] = {}
    for text in texts:
        policy, source = policies.in_force(text)
        name = text if source is None else source.path.name
        name = text if name in found or name == RECORDED else name
        found[f"./{name}" if name == RECORDED else name] = policy
    return list(found.items())


def writable(path: Path) -> None:
    """See to it, before all is played, that a page can be drawn and written; nothing is changed.

    Raises:
        typer.BadParameter: it cannot be written, or what draws it is not installed.
    """
    _page()
    known = path.exists()
    try:
        with path.open("ab"):
            pass
        if not known:
            path.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def write_page(path: Path, answer: Report) -> None:
    """Write a report as one HTML file.

    Raises:
        typer.BadParameter: it cannot be written, or what draws it is not installed.
    """
    page = _page()
    try:
        path.write_text(page(answer), "utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error


def _page() -> Callable[[Report], str]:
    try:
        from extender.reporting.replayed import page
    except ImportError as error:
        raise typer.BadParameter(
            f"{error.name} is not installed: pip install 'tangram-vgpu[report]'",
            param_hint="--html",
        ) from error
    return page


def _unwritable(path: Path, error: OSError) -> typer.BadParameter:
    return typer.BadParameter(f"{path}: cannot be written: {error.strerror}", param_hint="--html")
