"""A small cluster whose VMs are always on, and a policy by which orders of moves are made."""

from __future__ import annotations

import pytest

from tests.builders import gpu
from tests.fakes.machines import Machines
from tests.fakes.world import World
from tests.unit.extender.moving.orders import NODES


@pytest.fixture
async def world() -> World:
    made = World()
    for name in NODES:
        await made.add_node(name, gpus=[gpu(uuid=f"GPU-of-{name}")])
    return made


@pytest.fixture
def machines(world: World) -> Machines:
    return Machines(world)
