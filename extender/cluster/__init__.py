"""The cluster as the service sees it, over an API server, real or in memory.

``door`` writes: plans by compare-and-swap, bindings, wake-ups. ``feeds`` reads: one watch for each
kind, kept up for ever. ``objects`` parses what comes in, once.
"""

from extender.cluster.door import KubernetesCluster, OwnPod
from extender.cluster.feeds import feed

__all__ = ["KubernetesCluster", "OwnPod", "feed"]
