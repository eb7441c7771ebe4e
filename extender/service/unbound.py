"""Reading that a pod is bound nowhere, so that it stays so until its place has been given back.

A Binding may be on its way for longer than anybody waits for it: what is lost on the way TCP sends
again, for minutes, and it is carried out though whoever sent it has given up long ago. But each is
posted for the version of the pod that its sender has seen, and the API server refuses it once the
pod is another. So a pod is changed before its place goes to others: what was posted before is void.

As long may the write of the plan be on its way that takes the entries back, while another extender
comes to lead, and finds them there. The pod names them: who would bind it to them writes them anew
first, under other ids, whereupon that write fails, for the plan is not what it was.
"""

from __future__ import annotations

from collections.abc import Collection

from extender.service.patience import Patience
from extender.service.ports import Cluster, PodFacts
from nodeagent.api.gpunode import PodRef


async def read_past_bindings(
    cluster: Cluster, pod: PodRef, ids: Collection[str], patience: Patience
) -> PodFacts | None:
    """Return that very pod as it is now, None if it is gone.

    If it is bound to no node and has not ended, no Binding posted before binds it any more, and
    none to its entries of these *ids* is posted; but for a pod that may not be changed, of which
    nothing of that can be had.

    Raises:
        ClusterUnavailable: it could not be read or changed, or keeps changing.
    """

    async def read_and_void() -> PodFacts | None:
        read = await cluster.read_pod(pod.namespace, pod.name)
        if read is None or read.ref.uid != pod.uid:
            return None
        if read.node or read.over:
            return read
        return await cluster.void_bindings(read, ids)

    return await patience.again(read_and_void)
