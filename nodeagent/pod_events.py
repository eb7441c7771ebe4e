"""Kubernetes Events about pods of this node, on a pod itself and on the VM that it runs."""

from __future__ import annotations

from datetime import datetime

from nodeagent.api import rfc3339
from nodeagent.api.gpunode import PodRef
from nodeagent.apiserver import events
from nodeagent.apiserver.protocol import ApiServer

COMPONENT = "tangram-agent"


class PodEvents:
    """Writes Events about pods on *node*; each call has *timeout* seconds."""

    def __init__(self, api: ApiServer, node: str, *, timeout: float) -> None:
        self._api = api
        self._author = events.Author(COMPONENT, node)
        self._timeout = timeout

    async def warn(self, pod: PodRef, reason: str, message: str, *, now: datetime) -> None:
        """Warn whoever looks at *pod*, or at the VM whose launcher it is, unless it is gone.

        *reason* is one word in CamelCase. The same words again change nothing.

        Raises:
            ApiError: not all of it may have been written.
        """
        await events.warn_of_pod(
            self._api,
            pod,
            reason,
            message,
            when=rfc3339.seconds(now),
            author=self._author,
            timeout=self._timeout,
        )
