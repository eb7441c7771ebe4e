"""Reading that a pod is bound nowhere, so that it stays true of all that was posted before.

A Binding may be on its way for longer than anybody waits for it: what is lost on the way TCP sends
again, for minutes, and it is carried out though whoever sent it has given up long ago. But each is
posted for the version of the pod that its sender has seen, and the API server refuses it once the
pod is another. So a pod is changed before its place goes to others: what was posted before is void.
"""

from __future__ import annotations

from functools import partial

from extender.service.patience import Patience
from extender.service.ports import Cluster, ClusterUnavailable, PodFacts
from nodeagent.api.gpunode import PodRef


async def read_past_bindings(cluster: Cluster, pod: PodRef, patience: Patience) -> PodFacts | None:
    """Return that very pod as it is now, None if it is gone.

    If it is bound to no node, no Binding posted before binds it any more.

    Raises:
        ClusterUnavailable: it could not be read or changed, or keeps changing.
    """
    failures = 0
    while True:
        read = await patience.again(lambda: cluster.read_pod(pod.namespace, pod.name))
        if read is None or read.ref.uid != pod.uid:
            return None
        if read.node or read.over:
            return read
        if await patience.again(partial(cluster.void_bindings, pod, read.version)):
            return read
        failures += 1
        await patience.pause(ClusterUnavailable("the pod keeps changing", undone=True), failures)
