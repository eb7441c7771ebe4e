"""Which pods are on a node and have not ended, as the API server has it.

A kubelet forgets a pod's devices only when it next needs some: who has ended is asked for here.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from nodeagent.apiserver.protocol import PODS, ApiServer


class _Metadata(msgspec.Struct, frozen=True):
    uid: str = ""


class _Status(msgspec.Struct, frozen=True):
    phase: str = ""


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    status: _Status = _Status()


_POD = msgspec.json.Decoder(_Pod)
_OVER = ("Succeeded", "Failed")


async def active_pods(api: ApiServer, node: str, *, timeout: float) -> frozenset[str]:
    """Return the UIDs of the pods on *node* that have not ended; *timeout* in seconds a page.

    Raises:
        ApiError: it could not be learned.
        msgspec.ValidationError: the API server's answer does not decode.
    """
    found: set[str] = set()
    token = ""
    while True:
        page = await api.list(
            PODS,
            field_selector=f"spec.nodeName={node}",
            continue_token=token,
            timeout=timeout,
        )
        found |= _active(page.items)
        token = page.continue_token
        if not token:
            return frozenset(found)


def _active(pods: Iterable[bytes]) -> set[str]:
    read = (_POD.decode(raw) for raw in pods)
    return {pod.metadata.uid for pod in read if pod.status.phase not in _OVER}
