"""The part of the drivers' exam that changes nothing, so that any machine with a GPU can sit it."""

from __future__ import annotations

from pathlib import Path

import msgspec
from typer.testing import CliRunner

from nodeagent.__main__ import app
from nodeagent.api.catalog import MODELS, Model
from nodeagent.api.geometry import Geometry
from nodeagent.api.gpunode import Inventory, Mode
from nodeagent.driver import Host, LiveGpu
from nodeagent.nvml import Location, NvmlDriver
from nodeagent.nvml.quarantine import NOT_MIG_CAPABLE


async def look(location: Location, mode: Mode, *, root: Path = Path("/")) -> Host:
    async with NvmlDriver(location, mode, root=root) as driver:
        return await driver.discover()


def check_host(host: Host) -> None:
    """Every GPU is told of, each whole: with MIG its geometry, without it that it has none."""
    assert host.gpus, "NVML is there, and lists no GPU"
    assert host.driver
    assert host.boot_id
    assert len({gpu.uuid for gpu in host.gpus}) == len(host.gpus)
    assert len({gpu.pci_address for gpu in host.gpus}) == len(host.gpus)
    for gpu in host.gpus:
        assert gpu.uuid.startswith("GPU-")
        assert list(gpu.geometry.malformations()) == []
        if gpu.geometry.profiles:
            _check_instances(gpu)
        else:
            assert gpu.unhealthy == NOT_MIG_CAPABLE
            assert not gpu.mig_enabled


def _check_instances(gpu: LiveGpu) -> None:
    taken = 0
    for each in gpu.instances:
        assert each.placement in gpu.geometry.by_id[each.profile_id].placements
        assert not each.placement.mask & taken
        taken |= each.placement.mask


def check_against_catalog(host: Host) -> list[str]:
    """Compare what is told of known models with the catalog, and return which those are.

    A driver may know more profiles than the catalog, or fewer; what both know must be the same.
    """
    known = []
    for gpu in host.gpus:
        model = _model(gpu.model)
        if model and gpu.geometry.profiles:
            known.append(model.name)
            both = gpu.geometry.by_id.keys() & model.geometry.by_id.keys()
            assert both, f"{gpu.model} has none of the catalog's profiles"
            assert _shapes(gpu.geometry, both) == _shapes(model.geometry, both)
    return known


def _model(product: str) -> Model | None:
    return next((model for model in MODELS.values() if product in model.nvml_names), None)


def _shapes(geometry: Geometry, ids: set[int]) -> dict[int, tuple[object, ...]]:
    return {
        each.id: (each.compute_slices, each.size, each.starts, each.max_instances)
        for each in geometry.profiles
        if each.id in ids
    }


def inventory(location: Location, *options: str) -> Inventory:
    """Return what the command prints, as a reader of the GpuNode decodes it."""
    told = _run(location, "--output", "json", *options)
    return msgspec.json.decode(told, type=Inventory)


def table(location: Location, *options: str) -> str:
    """Return what the command prints for people."""
    return _run(location, *options)


def _run(location: Location, *options: str) -> str:
    where = [("--library", location.library), ("--root", location.root)]
    given = [part for option, path in where if path for part in (option, str(path))]
    result = CliRunner().invoke(app, ["inventory", *given, *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def check_inventory(told: Inventory, host: Host) -> None:
    """The command tells of the same GPUs as the driver."""
    assert [gpu.uuid for gpu in told.gpus] == [gpu.uuid for gpu in host.gpus]
    assert told.boot_id == host.boot_id
    for gpu, live in zip(told.gpus, host.gpus, strict=True):
        assert told.geometries[gpu.geometry] == live.geometry
        assert [each.gi_id for each in gpu.instances] == [each.gi_id for each in live.instances]
