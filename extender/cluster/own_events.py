"""Kubernetes Events about the extender itself, on its own pod."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from extender.cluster.door import OwnPod
from extender.cluster.outcome import outcome
from nodeagent.api import rfc3339
from nodeagent.apiserver import events
from nodeagent.apiserver.protocol import PODS, ApiServer

COMPONENT = "tangram-extender"
TIMEOUT_SECONDS = 5.0


class _Metadata(msgspec.Struct, frozen=True):
    uid: str = ""


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Metadata


_POD = msgspec.json.Decoder(_Pod)


class OwnPodEvents:
    """The service's :class:`~extender.service.events.OwnEvents`, on the extender's own pod."""

    def __init__(self, api: ApiServer, own_pod: OwnPod, utc_now: Callable[[], datetime]) -> None:
        self._api = api
        self._own_pod = own_pod
        self._utc_now = utc_now

    async def warn(self, reason: str, message: str) -> None:
        """Warn whoever looks at the extender's pod; *reason* is one word in CamelCase."""
        pod, when = self._own_pod, rfc3339.seconds(self._utc_now())
        with outcome():
            raw = await self._api.get(
                PODS, pod.name, namespace=pod.namespace, timeout=TIMEOUT_SECONDS
            )
            uid = _POD.decode(raw).metadata.uid
            await events.warn(
                self._api,
                events.About(PODS.version, "Pod", pod.namespace, pod.name, uid),
                reason,
                message,
                when=when,
                author=events.Author(COMPONENT, pod.name),
                timeout=TIMEOUT_SECONDS,
            )
