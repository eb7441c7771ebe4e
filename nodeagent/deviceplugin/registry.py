"""Every resource of the offer registered with the kubelet of the moment, whatever becomes of it.

A kubelet that starts removes all sockets in its directory and waits for plugins to register. It
also loses an endpoint whose stream has broken, and lets the plugin that registers last have a
resource. None of that is told to us; all of it shows at the sockets, the streams, and in what the
kubelet lists. An endpoint is never registered twice: another takes its place, at a socket of
another name. What another plugin serves is left to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Collection, Container, Mapping
from pathlib import Path

import structlog

from nodeagent.deviceplugin import rpc, sockets
from nodeagent.deviceplugin.desk import Desk
from nodeagent.deviceplugin.endpoint import PLUGIN_OPTIONS, Endpoint
from nodeagent.deviceplugin.places import Places, Timing
from nodeagent.deviceplugin.proto import deviceplugin_pb2 as v1beta1
from nodeagent.kubelet import KubeletError

log = structlog.get_logger()


class Registry:
    """The endpoints of what *desk* offers.

    *rivals* tells which resources somebody else serves, and may raise
    :class:`~nodeagent.kubelet.KubeletError`; *clock* counts seconds, *token* names sockets.
    """

    def __init__(
        self,
        desk: Desk,
        places: Places,
        timing: Timing,
        *,
        rivals: Callable[[], Awaitable[Container[str]]],
        allocated: Callable[[], None],
        clock: Callable[[], float],
        token: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> None:
        self._desk = desk
        self._places = places
        self._timing = timing
        self._rivals = rivals
        self._allocated = allocated
        self._clock = clock
        self._token = token
        self._kubelet: sockets.Identity | None = None
        self._endpoints: dict[str, Endpoint] = {}
        self._registered: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._cleaned = False
        self._closed = False
        self._lock = asyncio.Lock()

    @property
    def settled(self) -> Mapping[str, Path]:
        """The resources of which a kubelet has had the list for a while, and from which socket."""
        since = self._clock() - self._timing.poll_seconds
        return {
            resource: endpoint.socket
            for resource, endpoint in self._endpoints.items()
            if endpoint.followed and self._registered.get(resource, since) < since
        }

    def offered(self) -> None:
        """Tell the kubelet of slots that have changed, of the resources it knows."""
        for endpoint in self._endpoints.values():
            endpoint.offered()

    async def keep(self, lost: Collection[Path] = ()) -> None:
        """Have what is offered served and registered, and nothing else.

        What was served at the sockets *lost* is to be anew; an endpoint that has come in the place
        of one of them since is not meant. May be cancelled, and called again, at any time.

        Raises:
            KubeletError: the kubelet may not know of all that is offered.
        """
        async with self._lock:
            await self._keep(lost)

    async def close(self) -> None:
        """Serve nothing any more."""
        async with self._lock:
            self._closed = True
            await self._end(list(self._endpoints))

    async def _keep(self, lost: Collection[Path]) -> None:
        offer = self._desk.offer
        if self._closed:
            raise KubeletError("the device plugin has ended")
        if offer is None:
            return
        if not self._cleaned:
            await asyncio.to_thread(sockets.clean, self._places.device_plugins)
            self._cleaned = True
        kubelet = sockets.identity(self._places.kubelet)
        if kubelet != self._kubelet:
            log.info("kubelet_started" if kubelet else "kubelet_ended")
            self._kubelet = kubelet
            self._registered.clear()
        wanted = {resource for resource, slots in offer.slots.items() if slots}
        await self._end(
            [
                resource
                for resource, endpoint in self._endpoints.items()
                if resource not in wanted or endpoint.socket in lost
            ]
        )
        await self._end([each for each in self._endpoints if self._abandoned(each)])
        if kubelet is None:
            raise KubeletError(
                f"there is no {self._places.kubelet}: the kubelet is down, or its directory is"
                " not mounted here"
            )
        if missing := wanted - self._registered.keys():
            rivals = await self._rivals()
            outcomes = await asyncio.gather(
                *(self._register(each) for each in sorted(missing) if each not in rivals),
                return_exceptions=True,
            )
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome

    def _abandoned(self, resource: str) -> bool:
        """Tell whether no kubelet will come to the endpoint any more."""
        endpoint = self._endpoints[resource]
        registered = self._registered.get(resource)
        if registered is None or sockets.identity(endpoint.socket) is None:
            return True
        waited = self._clock() - registered
        return not endpoint.followed and waited > self._timing.call_seconds

    async def _end(self, resources: Collection[str]) -> None:
        for resource in resources:
            endpoint = self._endpoints[resource]
            if endpoint.followed:
                self._ended[resource] = self._clock()
            await endpoint.stop()
            self._registered.pop(resource, None)
            del self._endpoints[resource]
            with contextlib.suppress(OSError):  # as when the kubelet has; the next agent clears up
                endpoint.socket.unlink()

    async def _register(self, resource: str) -> None:
        quiet = self._ended.get(resource, -self._timing.quiet_seconds) + self._timing.quiet_seconds
        await asyncio.sleep(max(0.0, quiet - self._clock()))
        name = sockets.name(resource, self._token())
        endpoint = Endpoint(
            resource,
            self._places.device_plugins / name,
            self._desk,
            allocated=self._allocated,
        )
        self._endpoints[resource] = endpoint
        await endpoint.start()
        request = v1beta1.RegisterRequest(
            version=rpc.VERSION, endpoint=name, resource_name=resource, options=PLUGIN_OPTIONS
        )
        kubelet = self._places.kubelet
        await rpc.register(kubelet, request, timeout=self._timing.call_seconds)
        self._registered[resource] = self._clock()
        log.info("resource_registered", resource=resource, slots=len(self._desk.slots(resource)))
