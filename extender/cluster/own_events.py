"""Kubernetes Events about the extender itself, on its own pod.

An Event's name follows from what it says: the same words again, and from a restarted process, are
no second one.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from datetime import datetime

import msgspec

from extender.cluster.door import OwnPod
from extender.cluster.outcome import outcome
from nodeagent.api import rfc3339
from nodeagent.apiserver.protocol import EVENTS, PODS, ApiServer, Conflict

COMPONENT = "tangram-extender"
TIMEOUT_SECONDS = 5.0
LONGEST_MESSAGE = 1024  # in characters: what ``events.k8s.io/v1`` lets a note have


class _Metadata(msgspec.Struct, frozen=True):
    uid: str = ""


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Metadata


_POD = msgspec.json.Decoder(_Pod)


class OwnPodEvents:
    """The service's :class:`~extender.service.ports.OwnEvents`, on the extender's own pod."""

    def __init__(self, api: ApiServer, own_pod: OwnPod, utc_now: Callable[[], datetime]) -> None:
        self._api = api
        self._own_pod = own_pod
        self._utc_now = utc_now

    async def warn(self, reason: str, message: str) -> None:
        """Warn whoever looks at the extender's pod; *reason* is one word in CamelCase."""
        pod, when = self._own_pod, rfc3339.seconds(self._utc_now())
        with outcome(), contextlib.suppress(Conflict):  # it is there already
            raw = await self._api.get(
                PODS, pod.name, namespace=pod.namespace, timeout=TIMEOUT_SECONDS
            )
            await self._api.create(
                EVENTS,
                {
                    "apiVersion": EVENTS.version,
                    "kind": "Event",
                    "metadata": {"name": _name(pod, reason, message)},
                    "involvedObject": {
                        "apiVersion": PODS.version,
                        "kind": "Pod",
                        "namespace": pod.namespace,
                        "name": pod.name,
                        "uid": _POD.decode(raw).metadata.uid,
                    },
                    "type": "Warning",
                    "reason": reason,
                    "message": message[:LONGEST_MESSAGE],
                    "source": {"component": COMPONENT, "host": pod.name},
                    "firstTimestamp": when,
                    "lastTimestamp": when,
                    "count": 1,
                    "reportingComponent": COMPONENT,
                    "reportingInstance": pod.name,
                },
                namespace=pod.namespace,
                timeout=TIMEOUT_SECONDS,
            )


def _name(pod: OwnPod, reason: str, message: str) -> str:
    digest = hashlib.sha256(f"{reason}/{message}".encode()).hexdigest()[:16]
    return f"{pod.name[:230]}.{digest}"
