"""Device plugins over the kubelet's real protocol, one for each resource of a node.

They prefer no device and tell of no NUMA node; which device a pod gets is the kubelet's choice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from nodeagent.deviceplugin import rpc
from nodeagent.deviceplugin.places import Places
from nodeagent.deviceplugin.proto import deviceplugin_pb2 as v1beta1
from tests.fakes.pcidevices.names import Version, variable

if TYPE_CHECKING:
    from grpc.aio import Server, ServicerContext

    _Context = ServicerContext[Any, Any]

REGISTER_SECONDS = 10.0


class ServedPlugins:
    """The plugins of a node whose kubelet is in *places*; *exists* tells of a device's files."""

    def __init__(
        self, places: Places, version: Version, exists: Callable[[str], bool] = lambda device: True
    ) -> None:
        self._places = places
        self._version = version
        self._exists = exists
        self._plugins: dict[str, _Plugin] = {}

    async def publish(self, resource: str, devices: Mapping[str, bool]) -> None:
        """Advertise *devices*, and whether each is healthy; a plugin of none is stopped."""
        plugin = self._plugins.get(resource)
        if plugin is None and devices:
            name = f"kubevirt-{resource.replace('/', '-')}.sock"
            socket = self._places.device_plugins / name
            plugin = _Plugin(resource, socket, variable(self._version, resource), self._exists)
            self._plugins[resource] = plugin
            plugin.devices = dict(devices)
            await plugin.start(self._places.kubelet)
        elif plugin is not None and devices:
            plugin.tell(devices)
        elif plugin is not None:
            del self._plugins[resource]
            await plugin.stop()

    async def close(self) -> None:
        """End all plugins, as the controller's end does."""
        for resource in list(self._plugins):
            await self._plugins.pop(resource).stop()


class _Plugin:
    def __init__(
        self, resource: str, socket: Path, variable: str, exists: Callable[[str], bool]
    ) -> None:
        self.devices: dict[str, bool] = {}
        self._resource = resource
        self._socket = socket
        self._variable = variable
        self._exists = exists
        self._streams: set[asyncio.Event] = set()
        self._server: Server | None = None

    async def start(self, kubelet: Path) -> None:
        self._socket.unlink(missing_ok=True)
        self._server = server = grpc.aio.server(options=rpc.OPTIONS)
        server.add_generic_rpc_handlers((self._handlers(),))
        server.add_insecure_port(f"unix:{self._socket}")
        await server.start()
        request = v1beta1.RegisterRequest(
            version=rpc.VERSION, endpoint=self._socket.name, resource_name=self._resource
        )
        await rpc.register(kubelet, request, timeout=REGISTER_SECONDS)

    def tell(self, devices: Mapping[str, bool]) -> None:
        self.devices = dict(devices)
        for event in self._streams:
            event.set()

    async def stop(self) -> None:
        """Serve no more; the kubelet notices by the end of the stream."""
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None
        self._socket.unlink(missing_ok=True)

    def _handlers(self) -> grpc.GenericRpcHandler:
        def unary(behaviour: Any, request: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                behaviour,
                request_deserializer=request.FromString,
                response_serializer=lambda answer: answer.SerializeToString(),
            )

        return grpc.method_handlers_generic_handler(
            rpc.DEVICE_PLUGIN,
            {
                "GetDevicePluginOptions": unary(self._options, v1beta1.Empty),
                "Allocate": unary(self._allocate, v1beta1.AllocateRequest),
                "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                    self._list_and_watch,
                    request_deserializer=v1beta1.Empty.FromString,
                    response_serializer=v1beta1.ListAndWatchResponse.SerializeToString,
                ),
            },
        )

    async def _options(
        self, request: v1beta1.Empty, context: _Context
    ) -> v1beta1.DevicePluginOptions:
        return v1beta1.DevicePluginOptions()

    async def _list_and_watch(
        self, request: v1beta1.Empty, context: _Context
    ) -> AsyncIterator[v1beta1.ListAndWatchResponse]:
        changed = asyncio.Event()
        changed.set()
        self._streams.add(changed)
        try:
            while True:
                await changed.wait()
                listed = [
                    v1beta1.Device(ID=device, health="Healthy" if healthy else "Unhealthy")
                    for device, healthy in self.devices.items()
                ]
                changed.clear()
                yield v1beta1.ListAndWatchResponse(devices=listed)
        finally:
            self._streams.discard(changed)

    async def _allocate(
        self, request: v1beta1.AllocateRequest, context: _Context
    ) -> v1beta1.AllocateResponse:
        answer = v1beta1.AllocateResponse()
        for each in request.container_requests:
            # A device whose file is gone is left out without an error, as there.
            given = [device for device in each.devices_ids if self._exists(device)]
            response = answer.container_responses.add()
            response.envs[self._variable] = ",".join(given)
            for _ in given:
                response.devices.add(
                    container_path="/dev/vfio", host_path="/dev/vfio", permissions="mrw"
                )
        return answer
