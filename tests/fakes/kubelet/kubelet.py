"""The fake kubelet's process side: its sockets, its connections to plugins, its files and pods."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import grpc

from nodeagent.api.gpunode import PodRef
from nodeagent.deviceplugin import rpc
from nodeagent.deviceplugin.places import Places
from nodeagent.deviceplugin.proto import deviceplugin_pb2 as v1beta1
from nodeagent.deviceplugin.proto import podresources_pb2 as v1
from tests.fakes.kubelet import checkpoint
from tests.fakes.kubelet.endpoint import Endpoint
from tests.fakes.kubelet.manager import Allocation, Manager, NotAdmitted
from tests.fakes.kubelet.pods import Pod

if TYPE_CHECKING:
    from grpc.aio import Server, ServicerContext

    _Context = ServicerContext[Any, Any]

_EXTENDED = re.compile(
    r"(?!requests\.)(?!.*kubernetes\.io/)[a-z0-9.-]{1,244}/[A-Za-z0-9]"
    r"([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
)


class FakeKubelet:
    """The kubelet of *places*; chance is seeded.

    One that may not remove the sockets of others does not *wipe* its directory when it starts.
    ``gate`` may be set to hold up an admission after the plugin has answered Allocate and before
    the kubelet takes note of it; a busy kubelet notices an endpoint's end ``notices_seconds`` late.
    ``at_step`` is told of each exchange with a plugin, its name and "before" or "after". Devices
    that it ``shuns`` for a pod it gives it last.
    """

    def __init__(self, places: Places, *, seed: int = 0, wipes: bool = True) -> None:
        self.places = places
        self.pods: dict[str, Pod] = {}
        self.ended: set[str] = set()
        self.registrations: list[str] = []
        self.gate: asyncio.Event | None = None
        self.waiting_at_gate = False
        self.notices_seconds = 0.0
        self.at_step: Callable[[str, str], None] = lambda step, when: None
        self.shuns: Callable[[Pod], Collection[str]] = lambda pod: ()
        self._wipes = wipes
        self._chance = Random(seed)
        self._admitting = asyncio.Lock()
        self._servers: list[Server] = []
        self._endpoints: list[Endpoint] = []
        self._manager = self._new_manager()

    # -- its life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Forget all but the checkpoint, remove every socket of plugins, and listen."""
        directory = self.places.device_plugins
        directory.mkdir(parents=True, exist_ok=True)
        self.places.pod_resources.parent.mkdir(parents=True, exist_ok=True)
        for path in directory.iterdir():
            if self._wipes and path.is_socket():
                path.unlink()
        self._manager = self._new_manager()
        with contextlib.suppress(checkpoint.Corrupt):  # then it begins with nothing
            entries, registered = checkpoint.read(self.places.checkpoint)
            self._manager.recall(entries, registered)
        self._servers = [
            await _serving(self.places.kubelet, self._registration()),
            await _serving(self.places.pod_resources, self._pod_resources()),
        ]

    async def stop(self) -> None:
        """End, leaving the checkpoint."""
        for server in self._servers:
            await server.stop(grace=None)
        self._servers = []
        for endpoint in self._endpoints:
            await endpoint.close()
        self._endpoints = []
        self.places.kubelet.unlink(missing_ok=True)
        self.places.pod_resources.unlink(missing_ok=True)

    async def restart(self) -> None:
        """Stop, and start."""
        await self.stop()
        await self.start()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeKubelet]:
        """Start, and stop in the end."""
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    # -- its pods ----------------------------------------------------------------------------------

    @property
    def allocatable(self) -> Mapping[str, int]:
        """How many devices of each resource the Node shows."""
        return {resource: len(ids) for resource, ids in self._manager.healthy.items()}

    @property
    def connected(self) -> frozenset[str]:
        """The resources that a plugin serves now."""
        plugins = self._manager.plugins.items()
        return frozenset(resource for resource, plugin in plugins if plugin is not None)

    @property
    def endpoints(self) -> Sequence[tuple[str, Path]]:
        """The resource and the socket of each endpoint whose list it follows, ended ones included.

        A resource has several so long as the end of an earlier one has not been noticed.
        """
        return [(each.resource, each.socket) for each in self._endpoints]

    def active_pods(self) -> Collection[PodRef]:
        """Return the pods that have not ended, as an API server would have them."""
        return [pod.ref for uid, pod in self.pods.items() if uid not in self.ended]

    async def admit(
        self, pod: Pod, *, rejected: bool = False
    ) -> Mapping[str, Sequence[v1beta1.ContainerAllocateResponse]]:
        """Admit *pod*, and return what each of its containers is given.

        Where it is *rejected*, it is so after its devices have been allocated: by a check that
        comes later, such as of its memory.

        Raises:
            NotAdmitted: it has failed.
        """
        async with self._admitting:
            self.pods[pod.ref.uid] = pod
            try:
                given = await self._manager.admit(pod)
                if rejected:
                    raise NotAdmitted("OutOfmemory")
            except NotAdmitted:
                self.end(pod)
                raise
            return given

    def end(self, pod: Pod) -> None:
        """Have *pod* end; what it had is taken back when that is looked at."""
        self.ended.add(pod.ref.uid)

    def devices(self, pod: Pod) -> Mapping[str, frozenset[str]]:
        """Return what the containers of *pod* have of each resource, together."""
        found: dict[str, frozenset[str]] = {}
        for container, _ in pod.ordered:
            for resource, ids in self._manager.devices(pod, container).items():
                found[resource] = found.get(resource, frozenset()) | ids
        return found

    def entries_of(self, pod: Pod) -> Sequence[Allocation]:
        """Return what the containers of *pod* have, and what plugins have answered for them."""
        return [each for each in self._manager.allocations if each.uid == pod.ref.uid]

    # -- what it serves and keeps ------------------------------------------------------------------

    def _new_manager(self) -> Manager:
        return Manager(
            self._chance,
            active=self._active,
            written=self._write,
            shuns=lambda pod: self.shuns(pod),
        )

    def _active(self) -> set[str]:
        return self.pods.keys() - self.ended

    def _write(self) -> None:
        registered = {name: sorted(ids) for name, ids in self._manager.healthy.items()}
        checkpoint.write(self.places.checkpoint, self._manager.entries, registered)

    def _registration(self) -> grpc.GenericRpcHandler:
        return _service(rpc.REGISTRATION, Register=(self._register, v1beta1.RegisterRequest))

    def _pod_resources(self) -> grpc.GenericRpcHandler:
        return _service(
            rpc.POD_RESOURCES,
            List=(self._list, v1.ListPodResourcesRequest),
            GetAllocatableResources=(self._allocatable, v1.AllocatableResourcesRequest),
        )

    async def _register(self, request: v1beta1.RegisterRequest, context: _Context) -> v1beta1.Empty:
        resource = request.resource_name
        self.at_step("Register", "before")
        if request.version != rpc.VERSION:
            await context.abort(grpc.StatusCode.UNKNOWN, f"API version {request.version!r}")
        if not _EXTENDED.fullmatch(resource):
            await context.abort(grpc.StatusCode.UNKNOWN, f"invalid resource name {resource!r}")
        endpoint = Endpoint(self, resource, self.places.device_plugins / request.endpoint)
        try:
            await endpoint.connect()
        except grpc.aio.AioRpcError as error:
            await endpoint.close()
            await context.abort(grpc.StatusCode.UNKNOWN, f"cannot be dialled: {error.details()}")
        self.registrations.append(resource)
        self._endpoints.append(endpoint)
        self._manager.connected(resource, endpoint)
        endpoint.follow()
        self.at_step("Register", "after")
        return v1beta1.Empty()

    async def _list(
        self, request: v1.ListPodResourcesRequest, context: _Context
    ) -> v1.ListPodResourcesResponse:
        self._manager.forget_ended()
        answer = v1.ListPodResourcesResponse()
        for uid in self._active():
            pod = self.pods[uid]
            told = answer.pod_resources.add(name=pod.name, namespace=pod.namespace)
            for container, ends in pod.ordered:
                if not ends:
                    each = told.containers.add(name=container.name)
                    for resource, ids in self._manager.devices(pod, container).items():
                        each.devices.add(resource_name=resource, device_ids=ids)
        return answer

    async def _allocatable(
        self, request: v1.AllocatableResourcesRequest, context: _Context
    ) -> v1.AllocatableResourcesResponse:
        answer = v1.AllocatableResourcesResponse()
        for resource, ids in self._manager.healthy.items():
            for device in ids:  # one entry for each, as the kubelet has it
                answer.devices.add(resource_name=resource, device_ids=[device])
        return answer

    def listed(self, resource: str, devices: Sequence[v1beta1.Device]) -> None:
        """Take the list that an endpoint has sent."""
        self.at_step("ListAndWatch", "before")
        self._manager.listed(resource, devices)
        self.at_step("ListAndWatch", "after")

    def step(self, method: str, when: str) -> None:
        """Hear of a call of a plugin."""
        self.at_step(method, when)

    async def answered(self, endpoint: Endpoint) -> None:
        """Hold an admission up whose devices have been allocated, if there is a gate."""
        if self.gate is not None:
            self.waiting_at_gate = True
            await self.gate.wait()

    async def lost(self, endpoint: Endpoint) -> None:
        """Give up a resource whose endpoint's stream has ended."""
        await asyncio.sleep(self.notices_seconds)
        if endpoint in self._endpoints:
            self._endpoints.remove(endpoint)
            self._manager.disconnected(endpoint.resource)


def _service(name: str, **methods: Any) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        name,
        {
            method: grpc.unary_unary_rpc_method_handler(
                behaviour,
                request_deserializer=request.FromString,
                response_serializer=lambda answer: answer.SerializeToString(),
            )
            for method, (behaviour, request) in methods.items()
        },
    )


async def _serving(socket: Path, service: grpc.GenericRpcHandler) -> Server:
    server = grpc.aio.server(options=rpc.OPTIONS)
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    return server
