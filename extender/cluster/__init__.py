"""The cluster as the service sees it, over an API server, real or in memory.

``door`` writes: plans by compare-and-swap, bindings, wake-ups; ``evictions`` evicts pods,
``relocator`` moves VMs, ``orders`` keeps the order of moves. ``feeds`` reads: one watch for each
kind, kept up for ever. ``objects`` parses what comes in, once, ``outcome`` what went wrong.

``replica`` is an extender process with all its parts. Several of them run for the lead through
``lease``; ``fence`` lets nobody else write, ``signpost`` leads the scheduler's calls to the leader.
``reviews`` asks who somebody is and what they may see, ``own_events`` tells people about the
extender itself, ``pod_events`` about their pods, ``node_events`` about nodes; ``census`` lists a
cluster once.
"""

from extender.cluster.door import KubernetesCluster, OwnPod
from extender.cluster.evictions import ApiEvictor
from extender.cluster.feeds import feed
from extender.cluster.node_events import ApiNodeEvents
from extender.cluster.orders import ApiOrders
from extender.cluster.pod_events import ApiPodEvents
from extender.cluster.relocator import KubeVirtRelocator
from extender.cluster.replica import Election, PolicySource, Replica, ShadowSource
from extender.cluster.reviews import Reviews

__all__ = [
    "ApiEvictor",
    "ApiNodeEvents",
    "ApiOrders",
    "ApiPodEvents",
    "Election",
    "KubeVirtRelocator",
    "KubernetesCluster",
    "OwnPod",
    "PolicySource",
    "Replica",
    "Reviews",
    "ShadowSource",
    "feed",
]
