"""Harvester's driver pods on a node, as the API server has them.

Harvester runs its commands in the pods labelled so, in its own namespace, where nobody but an
administrator creates any: whoever is in one of them is trusted with the GPUs already.
"""

from __future__ import annotations

import msgspec

from nodeagent.apiserver.protocol import PODS, ApiError, ApiServer
from nodeagent.driver import DriverError

NAMESPACE = "harvester-system"
LABELS = "app=nvidia-driver-daemonset"

LIST = "list the driver's pods"


class _Metadata(msgspec.Struct, frozen=True):
    uid: str


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Metadata


_POD = msgspec.json.Decoder(_Pod)


class DriverPods:
    """Those on *node*; ``uids`` are None before they were asked for. *timeout* is in seconds."""

    def __init__(self, api: ApiServer, node: str, *, timeout: float) -> None:
        self.uids: frozenset[str] | None = None
        self._api = api
        self._node = node
        self._timeout = timeout

    async def ask(self) -> None:
        """Ask for them.

        Raises:
            DriverError: they are not known, and stay what they were.
        """
        try:
            page = await self._api.list(
                PODS,
                namespace=NAMESPACE,
                label_selector=LABELS,
                field_selector=f"spec.nodeName={self._node}",
                timeout=self._timeout,
            )
            uids = (_POD.decode(raw).metadata.uid for raw in page.items)
            self.uids = frozenset(filter(None, uids))
        except (ApiError, msgspec.MsgspecError) as error:
            raise DriverError(LIST, meaning=str(error)) from error
