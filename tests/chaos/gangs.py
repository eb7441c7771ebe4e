"""The judge's part for gangs: whole or not at all, seen through entries and Bindings alone.

* ``half a gang``: the first member of a gang is bound, and there never were places for all.

From the first Binding on, a loss is an ordinary one: who is left or comes later is a pod like any
other. A leader that has not heard yet of a member's end acts on what it knows, so what was so
*lately* counts, and so do the places of members that ended lately.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from tests.chaos.pods import Pod

LATELY_SECONDS = 20.0  # a snapshot of the cluster may be so old, and a bind take the rest


class Gangs:
    """Follows every gang that pods say they are in; times are seconds of *clock*."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.begun = 0
        self._clock = clock
        self._together: dict[str, bool] = {}
        self._lately: dict[str, float] = {}
        self._gang_of: dict[str, str] = {}
        self._ended: dict[str, float] = {}
        self._placed: Collection[str] = ()

    def counts(self, uid: str) -> bool:
        """Tell whether a pod is or was a member of a gang."""
        return uid in self._gang_of

    def look(self, pods: Iterable[Pod], placed: Collection[str]) -> None:
        """Note which gangs have a place for each member, or one that is bound.

        *placed* are the UIDs of pods with an entry in a plan.
        """
        self._placed = placed
        gangs: dict[str, list[Pod]] = {name: [] for name in self._together}
        for pod in pods:
            if pod.gang:
                self._gang_of[pod.uid] = pod.gang
                gangs.setdefault(pod.gang, []).append(pod)
        living = {pod.uid for members in gangs.values() for pod in members if pod.alive}
        for uid in self._gang_of.keys() - living:
            self._ended.setdefault(uid, self._clock())
        for name, members in gangs.items():
            if self._together.get(name):
                self._lately[name] = self._clock()
            alive = [pod for pod in members if pod.alive]
            self._together[name] = any(pod.node for pod in alive) or (
                bool(alive) and sum(pod.uid in placed for pod in alive) >= alive[0].size
            )

    def bound(self, pod: Pod, others: Iterable[Pod]) -> Iterator[str]:
        """Yield what is wrong about the Binding of a member."""
        members = [each for each in others if each.gang == pod.gang and each.uid != pod.uid]
        if any(each.node and each.alive for each in members):
            return
        self.begun += 1
        since = self._clock() - self._lately.get(pod.gang, float("-inf"))
        if self._together.get(pod.gang) or since <= LATELY_SECONDS:
            return
        if self._seems_together(pod):
            return
        yield f"half a gang: {pod.name} is bound, and {pod.gang} never had {pod.size} places"

    def _seems_together(self, pod: Pod) -> bool:
        """Tell whether *pod*'s gang has all its places if those live whose end was lately."""
        long_ago = self._clock() - LATELY_SECONDS
        seem_alive = (
            uid
            for uid, gang in self._gang_of.items()
            if gang == pod.gang and self._ended.get(uid, float("inf")) >= long_ago
        )
        return sum(uid in self._placed for uid in seem_alive) >= pod.size
