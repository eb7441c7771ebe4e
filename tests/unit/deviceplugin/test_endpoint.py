"""An endpoint's server, whenever whoever starts or stops it is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import grpc
import pytest

from nodeagent.api.gpunode import Mode
from nodeagent.deviceplugin import Places, rpc
from nodeagent.deviceplugin.desk import Desk
from nodeagent.deviceplugin.endpoint import Endpoint
from nodeagent.deviceplugin.proto import deviceplugin_pb2 as v1beta1
from tests.unit.deviceplugin.node import SMALL
from tests.waiting import until


@pytest.fixture
async def endpoint(places: Places) -> AsyncIterator[Endpoint]:
    """Return one; nothing may go wrong where nobody sees it, nor anything of it be left."""
    wrong: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: wrong.append(str(about)))
    places.device_plugins.mkdir()
    desk = Desk(Mode.CONTAINER, clock=lambda: 0.0)
    endpoint = Endpoint(SMALL, places.device_plugins / "tangram.sock", desk, allocated=lambda: None)
    yield endpoint
    with socket.socket(socket.AF_UNIX) as probe:
        assert probe.connect_ex(str(endpoint.socket)) != 0
    del endpoint
    gc.collect()
    await asyncio.sleep(0)
    assert wrong == []


async def cut_off(step: Coroutine[Any, Any, None], *, after: int) -> None:
    """Begin to take a step, and leave off after so many turns of the event loop."""
    taking = asyncio.create_task(step)
    for _ in range(after):
        await asyncio.sleep(0)
    taking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await taking


@pytest.mark.parametrize("turns", range(6))
async def test_one_whose_start_is_cut_off_can_be_stopped(endpoint: Endpoint, turns: int) -> None:
    await cut_off(endpoint.start(), after=turns)
    await endpoint.stop()


@pytest.mark.parametrize("turns", range(16))
async def test_one_whose_stop_is_cut_off_can_still_be_stopped(
    endpoint: Endpoint, turns: int
) -> None:
    await endpoint.start()
    async with rpc.connected(endpoint.socket) as channel:
        stream = channel.unary_stream(
            f"/{rpc.DEVICE_PLUGIN}/ListAndWatch",
            request_serializer=v1beta1.Empty.SerializeToString,
            response_deserializer=v1beta1.ListAndWatchResponse.FromString,
        )(v1beta1.Empty())
        following = asyncio.create_task(anext(aiter(stream), None))
        await until(lambda: endpoint.followed)

        await cut_off(endpoint.stop(), after=turns)
        await endpoint.stop()

        with contextlib.suppress(grpc.aio.AioRpcError):
            await following
