"""The gRPC server of one resource, from which a kubelet gets its list and its answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import structlog

from nodeagent.deviceplugin import rpc
from nodeagent.deviceplugin.answers import Answer
from nodeagent.deviceplugin.desk import Desk, Refusal
from nodeagent.deviceplugin.proto import deviceplugin_pb2 as v1beta1
from nodeagent.kubelet import KubeletError

if TYPE_CHECKING:
    from grpc.aio import Server, ServicerContext

    _Context = ServicerContext[Any, Any]

log = structlog.get_logger()

HEALTHY = "Healthy"
PERMISSIONS = "mrw"
"""What a launcher may do with a VFIO device file: make, read and write it, as KubeVirt's own."""

PLUGIN_OPTIONS = v1beta1.DevicePluginOptions(get_preferred_allocation_available=True)


class Endpoint:
    """Serves *resource* from *desk* on *socket*; calls *allocated* when it has given slots out."""

    def __init__(
        self, resource: str, socket: Path, desk: Desk, *, allocated: Callable[[], None]
    ) -> None:
        self.resource = resource
        self.socket = socket
        self._desk = desk
        self._allocated = allocated
        self._streams: set[asyncio.Event] = set()
        self._server: Server | None = None

    @property
    def followed(self) -> bool:
        """Whether a kubelet has the list, and is told whenever it changes."""
        return bool(self._streams)

    async def start(self) -> None:
        """Serve.

        Raises:
            KubeletError: it cannot be served at this socket.
        """
        rpc.check_length(self.socket)
        self._server = server = grpc.aio.server(options=rpc.OPTIONS)
        server.add_generic_rpc_handlers((self._handlers(),))
        try:
            server.add_insecure_port(f"unix:{self.socket}")
            await _wholly(server.start())
        except RuntimeError as error:  # how grpc says that it cannot bind
            raise KubeletError(f"{self.socket} cannot be served: {error}") from error

    async def stop(self) -> None:
        """Serve no more, at once."""
        if self._server is not None:
            await _wholly(self._server.stop(grace=None))
            self._server = None

    def offered(self) -> None:
        """Tell the kubelet of the slots, should they have changed."""
        for event in self._streams:
            event.set()

    def _handlers(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            rpc.DEVICE_PLUGIN,
            {
                "GetDevicePluginOptions": grpc.unary_unary_rpc_method_handler(
                    self._options,
                    request_deserializer=v1beta1.Empty.FromString,
                    response_serializer=v1beta1.DevicePluginOptions.SerializeToString,
                ),
                "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                    self._list_and_watch,
                    request_deserializer=v1beta1.Empty.FromString,
                    response_serializer=v1beta1.ListAndWatchResponse.SerializeToString,
                ),
                "GetPreferredAllocation": grpc.unary_unary_rpc_method_handler(
                    self._prefer,
                    request_deserializer=v1beta1.PreferredAllocationRequest.FromString,
                    response_serializer=v1beta1.PreferredAllocationResponse.SerializeToString,
                ),
                "Allocate": grpc.unary_unary_rpc_method_handler(
                    self._allocate,
                    request_deserializer=v1beta1.AllocateRequest.FromString,
                    response_serializer=v1beta1.AllocateResponse.SerializeToString,
                ),
                "PreStartContainer": grpc.unary_unary_rpc_method_handler(
                    self._pre_start,
                    request_deserializer=v1beta1.PreStartContainerRequest.FromString,
                    response_serializer=v1beta1.PreStartContainerResponse.SerializeToString,
                ),
            },
        )

    async def _options(
        self, request: v1beta1.Empty, context: _Context
    ) -> v1beta1.DevicePluginOptions:
        return PLUGIN_OPTIONS

    async def _list_and_watch(
        self, request: v1beta1.Empty, context: _Context
    ) -> AsyncIterator[v1beta1.ListAndWatchResponse]:
        changed = asyncio.Event()
        self._streams.add(changed)
        told = None
        try:
            while True:
                changed.clear()
                slots = self._desk.slots(self.resource)
                if slots != told:
                    told = slots
                    yield v1beta1.ListAndWatchResponse(
                        devices=[v1beta1.Device(ID=slot, health=HEALTHY) for slot in slots]
                    )
                await changed.wait()
        finally:
            self._streams.discard(changed)

    async def _prefer(
        self, request: v1beta1.PreferredAllocationRequest, context: _Context
    ) -> v1beta1.PreferredAllocationResponse:
        answer = v1beta1.PreferredAllocationResponse()
        for each in request.container_requests:
            try:
                named = self._desk.preferred(
                    self.resource,
                    each.available_deviceIDs,
                    each.must_include_deviceIDs,
                    each.allocation_size,
                )
            except Refusal as reason:
                await self._refuse(context, reason)
            answer.container_responses.add(deviceIDs=named)
        return answer

    async def _allocate(
        self, request: v1beta1.AllocateRequest, context: _Context
    ) -> v1beta1.AllocateResponse:
        answer = v1beta1.AllocateResponse()
        for each in request.container_requests:
            try:
                given = self._desk.allocate(self.resource, each.devices_ids)
            except Refusal as reason:
                await self._refuse(context, reason)
            answer.container_responses.append(_response(given))
        log.info(
            "slots_given",
            resource=self.resource,
            slots=[list(each.devices_ids) for each in request.container_requests],
        )
        self._allocated()
        return answer

    async def _pre_start(
        self, request: v1beta1.PreStartContainerRequest, context: _Context
    ) -> v1beta1.PreStartContainerResponse:
        return v1beta1.PreStartContainerResponse()

    async def _refuse(self, context: _Context, reason: Refusal) -> NoReturn:
        log.warning("slots_refused", resource=self.resource, reason=str(reason))
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(reason))
        raise AssertionError("abort raises")


async def _wholly(step: Coroutine[Any, Any, None]) -> None:
    """Take a step of a server's life to its end even if cancelled: it does so in milliseconds.

    grpcio 1.85 cannot stop a server whose start was cut off. One whose stop was cut off never stops
    and has every later stop look cancelled, which would end whatever task waits for that.
    """
    taken = asyncio.ensure_future(step)
    try:
        await asyncio.shield(taken)
    except asyncio.CancelledError:
        await asyncio.wait([taken])
        raise


def _response(given: Answer) -> v1beta1.ContainerAllocateResponse:
    return v1beta1.ContainerAllocateResponse(
        envs=given.envs,
        devices=[
            v1beta1.DeviceSpec(container_path=node, host_path=node, permissions=PERMISSIONS)
            for node in given.nodes
        ],
        cdi_devices=[v1beta1.CDIDevice(name=name) for name in given.cdi_devices],
    )
