"""An endpoint's server, whenever whoever starts it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket

import pytest

from nodeagent.api.gpunode import Mode
from nodeagent.deviceplugin import Places
from nodeagent.deviceplugin.desk import Desk
from nodeagent.deviceplugin.endpoint import Endpoint
from tests.unit.deviceplugin.node import SMALL


@pytest.mark.parametrize("turns", range(6))
async def test_one_whose_start_is_cut_off_can_be_stopped_and_leaves_nothing(
    places: Places, turns: int
) -> None:
    places.device_plugins.mkdir()
    path = places.device_plugins / "tangram.sock"
    desk = Desk(Mode.CONTAINER, clock=lambda: 0.0)
    endpoint = Endpoint(SMALL, path, desk, allocated=lambda: None)
    wrong: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: wrong.append(str(about)))

    starting = asyncio.create_task(endpoint.start())
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting
    await endpoint.stop()

    with socket.socket(socket.AF_UNIX) as probe:
        assert probe.connect_ex(str(path)) != 0
    del endpoint, starting
    gc.collect()
    await asyncio.sleep(0)
    assert wrong == []
