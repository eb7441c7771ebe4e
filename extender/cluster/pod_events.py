"""Kubernetes Events about pods, on a pod itself and on the VM that it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec

from extender.cluster import events
from extender.cluster.events import About
from extender.cluster.outcome import outcome
from extender.service.ports import Warn
from nodeagent.api import rfc3339
from nodeagent.api.gpunode import PodRef
from nodeagent.apiserver.protocol import PODS, ApiServer, NotFound

VIRTUAL_MACHINE_INSTANCE = "VirtualMachineInstance"


class _Owner(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    uid: str = ""
    owner_references: tuple[_Owner, ...] | None = None


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Metadata


_POD = msgspec.json.Decoder(_Pod)


class ApiPodEvents:
    """The service's :class:`~extender.service.ports.PodEvents`, written as *instance*."""

    def __init__(self, api: ApiServer, utc_now: Callable[[], datetime], *, instance: str) -> None:
        self._api = api
        self._utc_now = utc_now
        self._instance = instance

    async def warn(self, pod: PodRef, reason: str, message: str) -> None:
        """Warn whoever looks at *pod*, or at the VM whose launcher it is, unless it is gone."""
        with outcome():
            await self._warn(await self._concerned(pod), reason, message)

    async def about(self, pod: PodRef) -> Warn:
        """Return what warns whoever looks at *pod*, or at its VM, even once it is gone."""
        with outcome():
            concerned = await self._concerned(pod)

        async def warn(reason: str, message: str) -> None:
            with outcome():
                await self._warn(concerned, reason, message)

        return warn

    async def _warn(self, concerned: Iterable[About], reason: str, message: str) -> None:
        when = rfc3339.seconds(self._utc_now())
        for about in concerned:
            await events.warn(self._api, about, reason, message, when=when, instance=self._instance)

    async def _concerned(self, pod: PodRef) -> tuple[About, ...]:
        """Return the pod and the VirtualMachineInstance that it runs; nothing if it is gone."""
        try:
            raw = await self._api.get(
                PODS, pod.name, namespace=pod.namespace, timeout=events.TIMEOUT_SECONDS
            )
        except NotFound:
            return ()
        found = _POD.decode(raw).metadata
        if found.uid != pod.uid:
            return ()
        vms = tuple(
            About(each.api_version, each.kind, pod.namespace, each.name, each.uid)
            for each in found.owner_references or ()
            if each.controller and each.kind == VIRTUAL_MACHINE_INSTANCE
        )
        return (About(PODS.version, "Pod", pod.namespace, pod.name, pod.uid), *vms)
