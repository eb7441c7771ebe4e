"""Pods that are bound, and on their way to their kubelets.

What a kubelet gives to a pod that no plan knows is anybody's. It may be what was made for another,
if both ask for the same and come at the same time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from extender.request import Request
from extender.service.ports import PodFacts

PENDING = ("", "Pending")


class Arriving:
    """Those that ask for something of ours, by node, with since when by *clock*, in seconds.

    Which of them a kubelet has admitted nobody tells before they run: pulling images takes long.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._node_of: dict[str, str] = {}
        self._on: defaultdict[str, dict[str, float]] = defaultdict(dict)

    def seen(self, pod: PodFacts) -> None:
        """See a pod as it is now."""
        waits = pod.phase in PENDING and not pod.deleting and isinstance(pod.asked, Request)
        if not (waits and pod.node):
            self.gone(pod.ref.uid)
        elif self._node_of.get(pod.ref.uid) != pod.node:
            self.gone(pod.ref.uid)
            self._node_of[pod.ref.uid] = pod.node
            self._on[pod.node][pod.ref.uid] = self._clock()

    def gone(self, uid: str) -> None:
        """See that a pod is no more."""
        node = self._node_of.pop(uid, "")
        if node:
            del self._on[node][uid]
            if not self._on[node]:
                del self._on[node]

    def on(self, node: str, *, within: float) -> Iterator[str]:
        """Yield the UIDs of those that have been on their way to *node* for less than that."""
        now = self._clock()
        for uid, since in self._on.get(node, {}).items():
            if now - since < within:
                yield uid
