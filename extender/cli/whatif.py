"""``tangram simulate --from``: what if, on the fleet and the demand that are there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import typer
from rich.console import Console

from extender.cli import policies
from extender.cli.desk import Unanswered, Where, reached
from extender.cli.printable import printable
from extender.decision_log import LogUnreadable, is_part, runs, survey
from extender.policy import Policy
from extender.server.surveyed import BASELINE
from extender.simulation.baseline import Baseline, NoBaseline, Source, parsed
from extender.simulation.changes import Added, Unchangeable, added
from extender.simulation.contenders import Contender, UnknownContender, contender, of_policy
from extender.simulation.mixes import UnknownMix
from extender.simulation.whatif import Answer, Asked, what_if

CLUSTER = "cluster"


class FromDesk:
    """A cluster, asked through its extender's desk."""

    def __init__(self, where: Where) -> None:
        self._where = where

    def baseline(self) -> Baseline:
        """Return the fleet as it stands."""

        async def asked() -> bytes:
            async with reached(self._where) as ask:
                return await ask(BASELINE, {})

        try:
            return parsed(asyncio.run(asked()), "the desk's answer")
        except TimeoutError as error:
            raise NoBaseline("the desk gave no answer in time") from error
        except Unanswered as error:
            raise NoBaseline(str(error)) from error


class FromLog:
    """A decision log: the fleet as it stood when that ended."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def baseline(self) -> Baseline:
        """Return the fleet as it stood."""
        try:
            found = survey(runs([self._path]))
        except LogUnreadable as error:
            raise NoBaseline(f"{self._path}: {printable(str(error))}") from error
        # A log is not trusted more than a file: what it tells is looked at as closely.
        return parsed(msgspec.json.encode(found), str(self._path))


class FromFile:
    """A file that ``--save`` has written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def baseline(self) -> Baseline:
        """Return the fleet as it stood."""
        try:
            content = self._path.read_bytes()
        except OSError as error:
            raise NoBaseline(
                f"{self._path}: cannot be read: {error.strerror}; give {CLUSTER}, a decision log,"
                " or a file that --save has written"
            ) from error
        return parsed(content, str(self._path))


def source(text: str, where: Where) -> Source:
    """Return what ``--from`` names."""
    if text == CLUSTER:
        return FromDesk(where)
    path = Path(text)
    return FromLog(path) if os.path.isdir(path) or is_part(path) else FromFile(path)


def answered(
    origin: Source,
    *,
    policy: str,
    adding: Sequence[str],
    removing: Sequence[str],
    mix: str,
    seeds: range,
    save: Path | None,
) -> Answer:
    """Return what was found out, or name the option that does not let it be.

    A *policy* of "" is the cluster's own, by its name.

    Raises:
        typer.BadParameter: an option makes no sense for this fleet.
        typer.Exit: the fleet is not to be had.
    """
    own = _own(policy)
    to_add = tuple(_added(each) for each in adding)
    try:
        with Console(stderr=True).status("Looking at the fleet …"):
            baseline = origin.baseline()
    except NoBaseline as error:
        typer.echo(f"tangram simulate --from: {error}", err=True)
        raise typer.Exit(1) from error
    if save is not None:
        _save(baseline, save)
    asked = Asked(to_add, tuple(removing), mix, tuple(seeds))

    def ranking(of: Baseline) -> Contender:
        total = sum(of.requests.lately.values())
        lately = sorted(of.requests.lately.items())
        shares = tuple((name, count / total) for name, count in lately) if total else ()
        if own is None:
            return contender(policy or of.policy, shares)
        return of_policy(msgspec.structs.replace(own, demand=own.demand or shares))

    try:
        with Console(stderr=True).status("Working it out …"):
            return what_if(baseline, asked, ranking, policy or baseline.policy)
    except Unchangeable as error:
        raise typer.BadParameter(str(error), param_hint="--remove-node") from error
    except UnknownMix as error:
        raise typer.BadParameter(str(error), param_hint="--mix") from error
    except UnknownContender as error:
        raise typer.BadParameter(str(error), param_hint="--policy") from error


def _own(policy: str) -> Policy | None:
    """Return the policy of a file; None for a name."""
    path = Path(policy)
    return policies.policy(policy) if path.suffix or (policy and path.is_file()) else None


def _added(text: str) -> Added:
    try:
        return added(text)
    except Unchangeable as error:
        raise typer.BadParameter(str(error), param_hint="--add-node") from error


def _save(baseline: Baseline, path: Path) -> None:
    try:
        path.write_bytes(msgspec.json.encode(baseline))
    except OSError as error:
        raise typer.BadParameter(
            f"{path}: cannot be written: {error.strerror}", param_hint="--save"
        ) from error
