"""How long a VM waits for its vGPU, by hand and with Tangram.

``python -m tests.e2e.harvester.timing`` prints it as JSON. What is measured:

By the clock, on a real control plane: one node with one A100, Harvester's scan every 30 s, an
administrator who loses no moment. By hand, the time begins with the layout, for without it there is
no VM; with Tangram it begins with the VM. *Without touches* Harvester is taken to be deaf to the
annotation by which the agent has it look at an object sooner than at the next scan.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from nodeagent.logs import log_to_stderr
from tests.e2e.harvester.by_hand import by_hand, hand_made_vm
from tests.e2e.harvester.cluster import cluster
from tests.fakes.pcidevices.names import Version
from tests.waiting import until

PROFILES = (19, 14, 19, 19)
"""What the VMs ask for, one after the other; together they fit."""


async def made_by_hand(directory: Path, version: Version) -> list[float]:
    """Return the seconds that one VM takes, from an uncut GPU on."""
    async with cluster(directory, version, nodes=1, gpus=1, agents=False) as running:
        (address,) = running.nodes["node-1"].host.gpus
        begun = time.monotonic()
        await by_hand(running, "node-1", address, {19: 1})
        await hand_made_vm(running, "vm", 19)
        return [time.monotonic() - begun]


async def made_by_tangram(directory: Path, version: Version, *, touches: bool) -> list[float]:
    """Return the seconds from each VM's creation until its launcher is bound."""
    found = []
    async with cluster(directory, version, nodes=1, gpus=1, heeds_touches=touches) as running:
        for n, profile in enumerate(PROFILES):
            begun = time.monotonic()
            await running.create(f"vm-{n}", profile)

            async def bound(name: str = f"vm-{n}") -> bool:
                pod = (await running.launchers()).get(name)
                return bool(pod and pod["spec"].get("nodeName"))

            await until(bound, within=180, every=0.02)
            found.append(time.monotonic() - begun)
    return found


async def measured(version: Version, directory: Path) -> dict[str, list[float]]:
    """Return all of it, in seconds."""
    return {
        "by hand": await made_by_hand(_new(directory, "hand"), version),
        "Tangram": await made_by_tangram(_new(directory, "touched"), version, touches=True),
        "Tangram without touches": await made_by_tangram(
            _new(directory, "untouched"), version, touches=False
        ),
    }


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--harvester", type=Version, default=Version.V1_7)
    options = parser.parse_args()
    log_to_stderr("warning")
    with tempfile.TemporaryDirectory(prefix="harvester-timing-") as directory:
        found = asyncio.run(measured(options.harvester, Path(directory)))
    for way, seconds in found.items():
        rounded = [round(each, 2) for each in seconds]
        median = round(statistics.median(seconds), 2)
        print(json.dumps({"way": way, "seconds": rounded, "median": median}))


def _new(directory: Path, name: str) -> Path:
    made = directory / name
    made.mkdir()
    return made


if __name__ == "__main__":
    main()
