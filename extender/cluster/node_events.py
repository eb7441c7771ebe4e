"""Kubernetes Events about Nodes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from extender.cluster.outcome import outcome
from extender.cluster.own_events import COMPONENT, TIMEOUT_SECONDS
from nodeagent.api import rfc3339
from nodeagent.apiserver import events
from nodeagent.apiserver.protocol import NODES, ApiServer

NAMESPACE = "default"
"""Where Events about what has no namespace are: kubectl looks there."""


class ApiNodeEvents:
    """The service's :class:`~extender.service.events.NodeEvents`, written as *instance*."""

    def __init__(self, api: ApiServer, utc_now: Callable[[], datetime], *, instance: str) -> None:
        self._api = api
        self._utc_now = utc_now
        self._author = events.Author(COMPONENT, instance)

    async def warn(self, node: str, reason: str, message: str) -> None:
        """Warn whoever looks at a Node; like the kubelet, by its name for a UID."""
        with outcome():
            await events.warn(
                self._api,
                events.About(NODES.version, "Node", "", node, node),
                reason,
                message,
                when=rfc3339.seconds(self._utc_now()),
                author=self._author,
                timeout=TIMEOUT_SECONDS,
                namespace=NAMESPACE,
            )
