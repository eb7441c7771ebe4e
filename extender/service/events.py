"""Where the service tells people what they should know: Events on pods, Nodes and itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from nodeagent.api.gpunode import PodRef

Warn = Callable[[str, str], Awaitable[None]]
"""Warns of something, by a reason and a message."""


class PodEvents(Protocol):
    """Where the service tells people about their pods.

    Every call may raise :class:`~extender.service.ports.ClusterUnavailable`.
    """

    async def warn(self, pod: PodRef, reason: str, message: str) -> None:
        """Warn whoever looks at a pod, or at the VM that it runs, unless it is gone.

        Once for the same words; *reason* is one word in CamelCase.
        """

    async def about(self, pod: PodRef) -> Warn:
        """Return what warns as :meth:`warn` does, even once the pod is gone."""


class NodeEvents(Protocol):
    """Where the service tells people about a Node.

    Every call may raise :class:`~extender.service.ports.ClusterUnavailable`.
    """

    async def warn(self, node: str, reason: str, message: str) -> None:
        """Warn whoever looks at a Node, once for the same words; *reason* is in CamelCase."""


class OwnEvents(Protocol):
    """Where the service tells people about itself.

    Every call may raise :class:`~extender.service.ports.ClusterUnavailable`.
    """

    async def warn(self, reason: str, message: str) -> None:
        """Warn of something, once for the same words; *reason* is one word in CamelCase."""
