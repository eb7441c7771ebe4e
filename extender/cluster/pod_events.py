"""Kubernetes Events about pods, on a pod itself and on the VM that it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from extender.cluster.outcome import outcome
from extender.cluster.own_events import COMPONENT, TIMEOUT_SECONDS
from extender.service.events import Warn
from nodeagent.api import rfc3339
from nodeagent.api.gpunode import PodRef
from nodeagent.apiserver import events
from nodeagent.apiserver.events import About
from nodeagent.apiserver.protocol import ApiServer


class ApiPodEvents:
    """The service's :class:`~extender.service.events.PodEvents`, written as *instance*."""

    def __init__(self, api: ApiServer, utc_now: Callable[[], datetime], *, instance: str) -> None:
        self._api = api
        self._utc_now = utc_now
        self._author = events.Author(COMPONENT, instance)

    async def warn(self, pod: PodRef, reason: str, message: str) -> None:
        """Warn whoever looks at *pod*, or at the VM whose launcher it is, unless it is gone."""
        await (await self.about(pod))(reason, message)

    async def about(self, pod: PodRef) -> Warn:
        """Return what warns whoever looks at *pod*, or at its VM, even once it is gone."""
        with outcome():
            concerned = await events.concerned(self._api, pod, timeout=TIMEOUT_SECONDS)

        async def warn(reason: str, message: str) -> None:
            with outcome():
                await self._warn(concerned, reason, message)

        return warn

    async def _warn(self, concerned: Iterable[About], reason: str, message: str) -> None:
        when = rfc3339.seconds(self._utc_now())
        for about in concerned:
            await events.warn(
                self._api,
                about,
                reason,
                message,
                when=when,
                author=self._author,
                timeout=TIMEOUT_SECONDS,
            )
