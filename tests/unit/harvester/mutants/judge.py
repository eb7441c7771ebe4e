"""Watches a scenario, and says which promise was broken first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from tests.fakes.kubelet import temporary_places
from tests.fakes.kubevirt.nodes import KUBELET, LAUNCHER_ITSELF
from tests.fakes.nvml.library import built_for_tests
from tests.fakes.pcidevices.log import AGENT, REFUSED, Entry, traps
from tests.fakes.pcidevices.names import Version
from tests.fakes.pcidevices.site import Cluster, machine
from tests.unit.harvester.mutants.scenarios import Scenario
from tests.unit.harvester.mutants.watched import Watched

PATIENCE_SECONDS = 8.0
"""A scenario takes less than 2 s (measured, on a machine with other work to do)."""

ENDLESS_PATIENCE_SECONDS = 120.0
"""For scenarios that are to come to their end, however slow the machine."""

REFUSERS = (AGENT, KUBELET, LAUNCHER_ITSELF)
"""Whose refusals count: of an agent's writes, and of launchers, which have no device then."""


class Verdict(str):
    """Which promise was broken, "" if none; ``detail`` is for people."""

    detail = ""


def verdict(kind: str, detail: str = "") -> Verdict:
    """Return the verdict of that *kind*."""
    said = Verdict(kind)
    said.detail = detail
    return said


def broken(deeds: Sequence[Entry]) -> Verdict:
    """Return what *deeds* have broken."""
    for trap in traps(deeds):
        return verdict("trap", trap)
    for each in deeds:
        if each.action == REFUSED and each.actor in REFUSERS:
            return verdict("refused", f"{each.subject}: {each.detail}")
    return verdict("")


async def judged(
    directory: Path,
    library: Path,
    version: Version,
    scenario: Scenario,
    *,
    patience: float = PATIENCE_SECONDS,
) -> Verdict:
    """Play *scenario* on a new station in *directory*, and return the first promise it breaks."""
    built = built_for_tests(library)
    with temporary_places() as places:
        gpus = machine(directory, built, "A100-40GB", node="node-1")
        station = Watched(Cluster(version), gpus, places, directory)
        async with station.kubelet.serving():
            await station.begin()
            try:
                return await _watched(station, scenario, patience)
            finally:
                await station.close()


async def _watched(station: Watched, scenario: Scenario, patience: float) -> Verdict:
    playing = asyncio.ensure_future(scenario(station))
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    try:
        while not playing.done() and not broken(station.deeds) and loop.time() < until:
            await asyncio.wait([playing], timeout=0.05)
        if found := broken(station.deeds):
            return found
        if not playing.done():
            return verdict("starved")
        match playing.exception():
            case None:
                return verdict("")
            case AssertionError() as error:
                return verdict("misplaced", str(error).partition("\n")[0])
            case TimeoutError():
                return verdict("starved")
            case error:
                raise error
    finally:
        playing.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await playing
