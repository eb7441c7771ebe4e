"""A kubelet's connection to a plugin that has registered."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from nodeagent.deviceplugin import rpc
from nodeagent.deviceplugin.proto import deviceplugin_pb2 as v1beta1
from tests.fakes.kubelet.manager import NotAdmitted

if TYPE_CHECKING:
    from grpc.aio import Channel

DIAL_SECONDS = 10.0


class Owner(Protocol):
    """Whoever hears of what comes from plugins."""

    def listed(self, resource: str, devices: Sequence[v1beta1.Device]) -> None:
        """Take a list of devices."""

    def step(self, method: str, when: str) -> None:
        """Hear that a method is about to be called, or has been answered."""

    async def answered(self, endpoint: Endpoint) -> None:
        """Hear that Allocate was answered; the kubelet takes note when this returns."""

    async def lost(self, endpoint: Endpoint) -> None:
        """Hear that the stream of lists has ended."""


class Endpoint:
    """A connection to a plugin's socket: what the manager calls a plugin."""

    def __init__(self, owner: Owner, resource: str, socket: Path) -> None:
        self.resource = resource
        self.socket = socket
        self._owner = owner
        self._channel: Channel = grpc.aio.insecure_channel(f"unix:{socket}", options=rpc.OPTIONS)
        self._options = v1beta1.DevicePluginOptions()
        self._task: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Ask for the options; raises grpc's error if nobody answers."""
        self._options = await self._call(
            "GetDevicePluginOptions", v1beta1.Empty(), v1beta1.DevicePluginOptions, DIAL_SECONDS
        )

    def follow(self) -> None:
        """Take every list from now on."""
        self._task = asyncio.create_task(self._follow(), name=f"follow-{self.resource}")

    async def close(self) -> None:
        """Let go of the plugin."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._channel.close()

    async def preferred(
        self, available: Sequence[str], must_include: Sequence[str], size: int
    ) -> Collection[str]:
        if not self._options.get_preferred_allocation_available:
            return ()
        request = v1beta1.PreferredAllocationRequest()
        request.container_requests.add(
            available_deviceIDs=available,
            must_include_deviceIDs=must_include,
            allocation_size=size,
        )
        answer = await self._asked(
            "GetPreferredAllocation", request, v1beta1.PreferredAllocationResponse
        )
        return answer.container_responses[0].deviceIDs if answer.container_responses else ()

    async def allocate(self, devices: Sequence[str]) -> v1beta1.ContainerAllocateResponse:
        request = v1beta1.AllocateRequest()
        request.container_requests.add(devices_ids=devices)
        answer = await self._asked("Allocate", request, v1beta1.AllocateResponse)
        await self._owner.answered(self)
        if not answer.container_responses:
            raise NotAdmitted(f"no containers return in allocation response of {self.resource}")
        response: v1beta1.ContainerAllocateResponse = answer.container_responses[0]
        return response

    async def _asked(self, method: str, request: Any, answer: Any) -> Any:
        self._owner.step(method, "before")
        try:
            answered = await self._call(method, request, answer, None)
            self._owner.step(method, "after")
            return answered
        except grpc.aio.AioRpcError as error:
            text = f"rpc error: code = {error.code().name} desc = {error.details()}"
            raise NotAdmitted(text) from error
        except asyncio.CancelledError as error:
            this = asyncio.current_task()
            if this is not None and this.cancelling():
                raise
            # As grpc-go has it, for the kubelet closes the connection as the stream of lists ends.
            closing = "rpc error: code = Canceled desc = grpc: the client connection is closing"
            raise NotAdmitted(closing) from error

    async def _call(self, method: str, request: Any, answer: Any, timeout: float | None) -> Any:
        call = self._channel.unary_unary(
            f"/{rpc.DEVICE_PLUGIN}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        return await call(request, timeout=timeout)

    async def _follow(self) -> None:
        stream = self._channel.unary_stream(
            f"/{rpc.DEVICE_PLUGIN}/ListAndWatch",
            request_serializer=v1beta1.Empty.SerializeToString,
            response_deserializer=v1beta1.ListAndWatchResponse.FromString,
        )(v1beta1.Empty())
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for answer in stream:
                self._owner.listed(self.resource, answer.devices)
        await self._owner.lost(self)
        await self._channel.close()
