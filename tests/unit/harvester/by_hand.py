"""What an administrator does to a station's GPU without Tangram."""

from __future__ import annotations

from typing import Any

import msgspec

from nodeagent.apiserver.protocol import PatchType
from tests.fakes.pcidevices.names import MIG_CONFIGURATIONS, SRIOV_GPUS, VGPUS
from tests.unit.harvester.station import KINDS, SMALL, Station

GPU = "node-1-000010000"
FIRST, SECOND = "node-1-000010004", "node-1-000010005"


async def cut_by_hand(station: Station, *devices: str) -> None:
    """Do what an administrator does without Tangram: two small GPU instances, some devices."""
    await station.change(SRIOV_GPUS, GPU, enabled=True)
    await station.site.pass_(30)
    spec = [{"name": "MIG 1g.5gb", "id": SMALL, "requested": 2}]
    await station.change(MIG_CONFIGURATIONS, GPU, enabled=True, profileSpec=spec)
    await station.site.pass_(60)
    for name in devices:
        await station.change(VGPUS, name, enabled=True, vGPUTypeName=KINDS[SMALL])
        await station.site.pass_(30)


async def have_another_layout_made(station: Station) -> None:
    """Delete the GPU's MigConfiguration, and have Harvester look at the GPU."""
    api = station.cluster.api
    await api.delete(MIG_CONFIGURATIONS, GPU)
    patch = {"metadata": {"annotations": {"example.com/looked-at": "anew"}}}
    await api.patch(SRIOV_GPUS, GPU, patch, patch_type=PatchType.MERGE)


async def cut_again(station: Station) -> None:
    """Cut a GPU whose MigConfiguration is disabled, and wait until Harvester has done so."""
    spec = [{"name": "MIG 1g.5gb", "id": SMALL, "requested": 2}]
    await station.change(MIG_CONFIGURATIONS, GPU, enabled=True, profileSpec=spec)
    await station.until(lambda: len(station.starts()) == 2)


async def said_of_the_layout(station: Station) -> str:
    """Return what Harvester says of the GPU's MigConfiguration."""
    value = msgspec.json.decode(await station.cluster.api.get(MIG_CONFIGURATIONS, GPU))
    return str(value["status"]["status"])


async def layout(station: Station) -> dict[str, Any]:
    """Return what the GPU's MigConfiguration asks for."""
    value = msgspec.json.decode(await station.cluster.api.get(MIG_CONFIGURATIONS, GPU))
    return dict(value["spec"])
