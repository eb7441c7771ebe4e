"""The label by which the hooks' Service finds the leader's pod.

A label, and not readiness alone: a replica that waits is ready, else no rolling update would end.
Whoever begins to lead takes the label from every other pod first, for one that was killed, cut off
or stopped cannot take it from itself.
"""

from __future__ import annotations

import contextlib

import msgspec

from extender.cluster.door import OwnPod
from extender.cluster.outcome import outcome
from nodeagent.api import keys
from nodeagent.apiserver.protocol import PODS, ApiServer, NotFound, PatchType

TIMEOUT_SECONDS = 5.0
TAKE_DOWN_SECONDS = 1.0  # a pod that ends leaves its Service anyway


class _Metadata(msgspec.Struct):
    name: str


class _Pod(msgspec.Struct):
    metadata: _Metadata


_POD = msgspec.json.Decoder(_Pod)


class LabelSignpost:
    """The service's :class:`~extender.service.ports.Signpost`.

    *fenced* writes for the leader only; *api* also for one that goes.
    """

    def __init__(self, api: ApiServer, fenced: ApiServer, own_pod: OwnPod) -> None:
        self._api = api
        self._fenced = fenced
        self._own_pod = own_pod

    async def point_here(self) -> None:
        """Let our own pod have the label, and no other."""
        own = self._own_pod.name
        with outcome():
            page = await self._fenced.list(
                PODS,
                namespace=self._own_pod.namespace,
                label_selector=f"{keys.LEADER_LABEL}=true",
                timeout=TIMEOUT_SECONDS,
            )
            labelled = {_POD.decode(raw).metadata.name for raw in page.items}
            for name in sorted(labelled - {own}):
                with contextlib.suppress(NotFound):
                    await self._label(self._fenced, name, None, TIMEOUT_SECONDS)
            if own not in labelled:
                await self._label(self._fenced, own, "true", TIMEOUT_SECONDS)

    async def take_down(self) -> None:
        """Take the label from our own pod."""
        with outcome():
            await self._label(self._api, self._own_pod.name, None, TAKE_DOWN_SECONDS)

    async def _label(self, api: ApiServer, pod: str, value: str | None, timeout: float) -> None:
        await api.patch(
            PODS,
            pod,
            {"metadata": {"labels": {keys.LEADER_LABEL: value}}},
            patch_type=PatchType.MERGE,
            namespace=self._own_pod.namespace,
            timeout=timeout,
        )
