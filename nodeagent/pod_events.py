"""Kubernetes Events about pods, on a pod itself and on the VM that it runs.

An Event's name follows from what it says and of what, so it is there once, whoever writes it again;
API servers keep Events for an hour (``--event-ttl``).
"""

from __future__ import annotations

import contextlib
import hashlib
from datetime import datetime

import msgspec

from nodeagent.api import rfc3339
from nodeagent.api.gpunode import PodRef
from nodeagent.apiserver.protocol import EVENTS, PODS, ApiServer, Conflict, NotFound, Unavailable

COMPONENT = "tangram-agent"
LONGEST_MESSAGE = 1024
"""In characters: what ``events.k8s.io/v1`` lets a note have; ``v1`` sets no limit."""
_LONGEST_HINT = 230  # of an object's name in its Event's, so that this is a name, too

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


class _Object(msgspec.Struct, frozen=True, rename="camel"):
    """What an Event is about; without the UID ``kubectl describe`` would not show it."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


_POD = msgspec.json.Decoder(_Pod)


class PodEvents:
    """Writes Events about pods on *node*; each call has *timeout* seconds."""

    def __init__(self, api: ApiServer, node: str, *, timeout: float) -> None:
        self._api = api
        self._node = node
        self._timeout = timeout

    async def warn(self, pod: PodRef, reason: str, message: str, *, now: datetime) -> None:
        """Warn whoever looks at *pod*, or at the VM whose launcher it is, unless it is gone.

        *reason* is one word in CamelCase. The same words again change nothing.

        Raises:
            ApiError: not all of it may have been written.
        """
        for about in await self._concerned(pod):
            # Conflict: it is there already.
            with contextlib.suppress(Conflict):
                await self._create(about, reason, message[:LONGEST_MESSAGE], rfc3339.seconds(now))

    async def _concerned(self, pod: PodRef) -> tuple[_Object, ...]:
        """Return the pod and the VirtualMachineInstance that it runs; nothing if it is gone."""
        try:
            raw = await self._api.get(
                PODS, pod.name, namespace=pod.namespace, timeout=self._timeout
            )
            found = _POD.decode(raw).metadata
        except NotFound:
            return ()
        except msgspec.MsgspecError as error:
            raise Unavailable(0, f"the pod cannot be read: {error}") from error
        if found.uid != pod.uid:
            return ()
        vms = tuple(
            _Object(each.api_version, each.kind, pod.namespace, each.name, each.uid)
            for each in found.owner_references or ()
            if each.controller and each.kind == VIRTUAL_MACHINE_INSTANCE
        )
        return (_Object("v1", "Pod", pod.namespace, pod.name, pod.uid), *vms)

    async def _create(self, about: _Object, reason: str, message: str, when: str) -> None:
        await self._api.create(
            EVENTS,
            {
                "apiVersion": EVENTS.version,
                "kind": "Event",
                "metadata": {"name": _name(about, reason, message)},
                "involvedObject": about,
                "type": "Warning",
                "reason": reason,
                "message": message,
                "source": {"component": COMPONENT, "host": self._node},
                "firstTimestamp": when,
                "lastTimestamp": when,
                "count": 1,
                "reportingComponent": COMPONENT,
                "reportingInstance": self._node,
            },
            namespace=about.namespace,
            timeout=self._timeout,
        )


def _name(about: _Object, reason: str, message: str) -> str:
    said = "\0".join((about.uid, reason, message))
    hint = about.name[:_LONGEST_HINT].rstrip("-.")
    return f"{hint}.{hashlib.sha256(said.encode()).hexdigest()[:16]}"
