"""Watches a scenario, and says which promise was broken first."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from tests.fakes.kubelet import temporary_places
from tests.fakes.kubevirt.nodes import KUBELET, LAUNCHER_ITSELF
from tests.fakes.nvml.library import built_for_tests
from tests.fakes.pcidevices.log import AGENT, REFUSED, traps
from tests.fakes.pcidevices.names import Version
from tests.fakes.pcidevices.site import Cluster, machine
from tests.unit.harvester.mutants.scenarios import Scenario
from tests.unit.harvester.station import Station

PATIENCE_SECONDS = 8.0
"""A scenario takes less than 2 s (measured, on a machine with other work to do)."""

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


class Watched(Station):
    """A station whose deeds are watched, from where they were last forgiven."""

    _from = 0

    def forgive(self) -> None:
        """Let what was done so far, by hand, be well."""
        self._from = len(self.cluster.log.entries)

    def broken(self) -> Verdict:
        """Return what the deeds have broken."""
        entries = self.cluster.log.entries[self._from :]
        for trap in traps(entries):
            return verdict("trap", trap)
        for each in entries:
            if each.action == REFUSED and each.actor in REFUSERS:
                return verdict("refused", f"{each.subject}: {each.detail}")
        return verdict("")


async def judged(directory: Path, library: Path, version: Version, scenario: Scenario) -> Verdict:
    """Play *scenario* on a new station in *directory*, and return the first promise it breaks."""
    built = built_for_tests(library)
    with temporary_places() as places:
        gpus = machine(directory, built, "A100-40GB", node="node-1")
        station = Watched(Cluster(version), gpus, places, directory)
        async with station.kubelet.serving():
            await station.begin()
            try:
                return await _watched(station, scenario)
            finally:
                await station.close()


async def _watched(station: Watched, scenario: Scenario) -> Verdict:
    playing = asyncio.ensure_future(scenario(station))
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE_SECONDS
    try:
        while not playing.done() and not station.broken() and loop.time() < until:
            await asyncio.wait([playing], timeout=0.05)
        if broken := station.broken():
            return broken
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
