"""Kubernetes Events about pods, on a pod itself and on the VM that it runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from extender.cluster.outcome import outcome
from extender.cluster.own_events import COMPONENT, TIMEOUT_SECONDS
from nodeagent.api import rfc3339
from nodeagent.api.gpunode import PodRef
from nodeagent.apiserver import events
from nodeagent.apiserver.protocol import ApiServer


class ApiPodEvents:
    """The service's :class:`~extender.service.ports.PodEvents`, written as *instance*."""

    def __init__(self, api: ApiServer, utc_now: Callable[[], datetime], *, instance: str) -> None:
        self._api = api
        self._utc_now = utc_now
        self._author = events.Author(COMPONENT, instance)

    async def warn(self, pod: PodRef, reason: str, message: str) -> None:
        """Warn whoever looks at *pod*, or at the VM whose launcher it is, unless it is gone."""
        with outcome():
            await events.warn_of_pod(
                self._api,
                pod,
                reason,
                message,
                when=rfc3339.seconds(self._utc_now()),
                author=self._author,
                timeout=TIMEOUT_SECONDS,
            )
