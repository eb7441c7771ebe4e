"""The judge's part for gangs: whole or not at all, seen through entries and Bindings alone.

* ``half a gang``: the first member of a gang is bound, and there never were places for all; or it
  is one too many, that was given its place by its bind beside a whole gang's.

From the first Binding on, a loss is an ordinary one: who is left or comes later is a pod like any
other. A leader that has not heard yet of a member's end acts on what it knows, so what was so
*lately* counts, and so do the places of members that ended lately.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from tests.chaos.pods import Pod

LATELY_SECONDS = 20.0  # a snapshot of the cluster may be so old, and a bind take the rest


class Gangs:
    """Follows every gang that pods say they are in; times are seconds of *clock*.

    *waited_for* tells whether somebody waits for a pod's bind.
    """

    def __init__(self, clock: Callable[[], float], *, waited_for: Callable[[str], bool]) -> None:
        self.begun = 0
        self._clock = clock
        self._waited_for = waited_for
        self._together: dict[str, bool] = {}
        self._lately: dict[str, float] = {}
        self._begun: set[str] = set()
        self._begun_lately: dict[str, float] = {}
        self._gang_of: dict[str, str] = {}
        self._ended: dict[str, float] = {}
        self._beyond: set[str] = set()
        self._placed: Collection[str] = ()

    def counts(self, uid: str) -> bool:
        """Tell whether a pod is or was a member of a gang."""
        return uid in self._gang_of

    def look(self, pods: Iterable[Pod], placed: Collection[str]) -> None:
        """Note which gangs have a place for each member, or one that is bound.

        *placed* are the UIDs of pods with an entry in a plan.
        """
        before, self._placed = self._placed, placed
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
            if name in self._begun:
                self._begun_lately[name] = self._clock()
            alive = [pod for pod in members if pod.alive]
            for pod in alive:
                if pod.uid in placed and pod.uid not in before and self._one_too_many(pod, before):
                    self._beyond.add(pod.uid)
            self._begun.discard(name)
            if any(pod.node for pod in alive):
                self._begun.add(name)
            self._together[name] = name in self._begun or (
                bool(alive) and sum(pod.uid in placed for pod in alive) >= alive[0].size
            )

    def bound(self, pod: Pod, others: Iterable[Pod]) -> Iterator[str]:
        """Yield what is wrong about the Binding of a member."""
        members = [each for each in others if each.gang == pod.gang and each.uid != pod.uid]
        if any(each.node and each.alive for each in members):
            return
        self.begun += 1
        if pod.uid in self._beyond and not self._was_lately(self._begun_lately, pod.gang):
            yield f"half a gang: {pod.name} is bound, one too many, before any other of {pod.gang}"
            return
        if self._together.get(pod.gang) or self._was_lately(self._lately, pod.gang):
            return
        if self._seem_placed(pod, self._placed) < pod.size:
            yield f"half a gang: {pod.name} is bound, and {pod.gang} never had {pod.size} places"

    def _was_lately(self, since: Mapping[str, float], gang: str) -> bool:
        return self._clock() - since.get(gang, float("-inf")) <= LATELY_SECONDS

    def _one_too_many(self, pod: Pod, before: Collection[str]) -> bool:
        """Tell whether a place just written is for a bind, of a gang that had its places *before*.

        A gang's own are written while no bind of a member can be but a late one.
        """
        whole = self._seem_placed(pod, before) >= pod.size
        begun = self._was_lately(self._begun_lately, pod.gang)
        return whole and not begun and self._waited_for(pod.uid)

    def _seem_placed(self, pod: Pod, placed: Collection[str]) -> int:
        """Return how many of *pod*'s gang are *placed*, if those live whose end was lately."""
        long_ago = self._clock() - LATELY_SECONDS
        seem_alive = (
            uid
            for uid, gang in self._gang_of.items()
            if gang == pod.gang and self._ended.get(uid, float("inf")) >= long_ago
        )
        return sum(uid in placed for uid in seem_alive)
