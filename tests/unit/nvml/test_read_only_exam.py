"""The exam that a real GPU sits (tests/gpu), sat by the fake library: so it can be sat at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode
from nodeagent.nvml import Location
from tests.gpu import read_only
from tests.unit.nvml.node import Node

NodeOf = Callable[..., Node]


@pytest.mark.parametrize("mig", [True, False, None])
@pytest.mark.parametrize("model", MODELS)
def test_the_fake_library_passes_and_nothing_is_changed(
    node_of: NodeOf, model: str, mig: bool | None
) -> None:
    node = node_of(model, gpus=2, mig=mig)
    if mig:
        whole = MODELS[model].geometry.by_id[0]
        gi_id = node.machine.create_gpu_instance(0, 0, Placement(0, whole.size))
        node.machine.create_compute_instance(0, gi_id, 0)
    where, options = Location(node.library), ("--host-root", str(node.root))

    host = asyncio.run(read_only.look(where, Mode.CONTAINER, root=node.root))

    read_only.check_host(host)
    assert read_only.check_against_catalog(host) == ([] if mig is None else [model] * 2)
    read_only.check_inventory(read_only.inventory(where, *options), host)
    assert ("it has no MIG" in read_only.table(where, *options)) == (mig is None)
    changing = ("Set", "Create", "Destroy", "Register")
    symbols = {call.symbol for call in node.machine.calls()}
    assert not [name for name in symbols if any(verb in name for verb in changing)]


async def test_a_geometry_that_is_not_the_catalogs_is_found_out(node_of: NodeOf) -> None:
    node = node_of("H100-80GB")
    host = await node.driver.discover()
    (gpu,) = host.gpus
    wrong = msgspec.structs.replace(gpu, geometry=MODELS["A30-24GB"].geometry)

    with pytest.raises(AssertionError):
        read_only.check_against_catalog(msgspec.structs.replace(host, gpus=(wrong,)))
