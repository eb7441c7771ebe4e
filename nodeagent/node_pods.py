"""Which pods on a node ask for GPU instances and have not ended, as the API server has it.

A kubelet forgets a pod's devices only when it next needs some: who has ended is asked for here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from nodeagent.api import resources
from nodeagent.api.gpunode import PodRef
from nodeagent.apiserver.protocol import PODS, ApiError, ApiServer
from nodeagent.kubelet import KubeletError


class _Metadata(msgspec.Struct, frozen=True):
    namespace: str = ""
    name: str = ""
    uid: str = ""


class _Status(msgspec.Struct, frozen=True):
    phase: str = ""


class _Resources(msgspec.Struct, frozen=True):
    limits: dict[str, object] | None = None


class _Container(msgspec.Struct, frozen=True):
    resources: _Resources | None = None


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    containers: tuple[_Container, ...] | None = None
    init_containers: tuple[_Container, ...] | None = None

    @property
    def asks_for_gpu_instances(self) -> bool:
        every = (*(self.containers or ()), *(self.init_containers or ()))
        limits = (each.resources.limits or {} for each in every if each.resources)
        return any(resources.ours(name) for each in limits for name in each)


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    spec: _Spec = _Spec()
    status: _Status = _Status()


_POD = msgspec.json.Decoder(_Pod)
_OVER = ("Succeeded", "Failed")


async def gpu_pods(api: ApiServer, node: str, *, timeout: float) -> frozenset[PodRef]:
    """Return the pods on *node* that ask for GPU instances and have not ended.

    *timeout* is for each page, in seconds.

    Raises:
        KubeletError: it could not be learned, so nothing can be said of the kubelet's account.
    """
    found: set[PodRef] = set()
    token = ""
    try:
        while True:
            page = await api.list(
                PODS,
                field_selector=f"spec.nodeName={node}",
                continue_token=token,
                timeout=timeout,
            )
            found.update(_asking(page.items))
            token = page.continue_token
            if not token:
                return frozenset(found)
    except (ApiError, msgspec.MsgspecError) as error:
        raise KubeletError(f"the node's pods are not known: {error}") from error


def _asking(pods: Iterable[bytes]) -> Iterator[PodRef]:
    for pod in map(_POD.decode, pods):
        if pod.status.phase not in _OVER and pod.spec.asks_for_gpu_instances:
            yield PodRef(pod.metadata.namespace, pod.metadata.name, pod.metadata.uid)
