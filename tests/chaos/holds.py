"""The judge's part for places that are held: for whom, for how long, and who has them next.

* ``held for nobody``: a reservation comes from nowhere, or its pod has not ended.
* ``hold broken``: a reservation leaves before its time, and not for its owner's next pod.
* ``not inherited``: a pod that asks the same is given another place on the node where one is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from nodeagent.api.gpunode import Assignment, GpuNode
from tests.chaos.claims import is_claim


class Held(msgspec.Struct, frozen=True):
    """A reservation, and when it was written."""

    entry: Assignment
    at: float


class Holds:
    """Follows the reservations of every plan; each is for *lasts* seconds of *clock*.

    *alive* tells whether a pod (UID) has not ended; *clear* whether nothing but the owner's last
    GPU instance can be in an entry's place, nor be thought to be; *together* whether a pod (UID) is
    one of a gang: its members are placed together, and inherit nothing; *given_way*, whether an
    entry has left for what its owner's next pod waits for.
    """

    def __init__(
        self,
        lasts: float,
        clock: Callable[[], float],
        *,
        alive: Callable[[str], bool],
        clear: Callable[[Assignment], bool],
        together: Callable[[str], bool],
        given_way: Callable[[Assignment, Iterable[Assignment]], bool] = lambda hold, fresh: False,
    ) -> None:
        self.inherited = 0
        self._lasts = lasts
        self._clock = clock
        self._alive = alive
        self._clear = clear
        self._together = together
        self._given_way = given_way
        self._held: dict[str, Held] = {}

    def in_force(self, entry: Assignment, *, give: float = 0.0) -> bool:
        """Tell whether an entry counts: it has a pod, or its time was not over *give* s ago."""
        held = self._held.get(entry.id)
        if entry.pod is not None or is_claim(entry) or held is None:
            return entry.pod is not None or is_claim(entry)
        return self._clock() < held.at + self._lasts + give

    def succeeds(self, entry: Assignment, id: str) -> bool:
        """Tell whether *entry* is for the next pod of whom *id* was held for."""
        held = self._held.get(id)
        return held is not None and held.entry.owner == entry.owner is not None

    def wrote(self, before: GpuNode | None, after: GpuNode) -> Iterator[str]:
        """Yield what is wrong about a change of a plan."""
        known = {e.id: e for e in before.spec.assignments} if before else {}
        now = {e.id: e for e in after.spec.assignments}
        fresh = [e for e in now.values() if e.id not in known]
        yield from self._begun(known, now.values())
        for id in known.keys() - now.keys():
            last = known[id]
            inherited = any(_overlap(e, last) and self.succeeds(e, id) for e in fresh)
            if is_claim(last) or self._given_way(last, fresh):
                continue
            if last.pod is None and self.in_force(last) and not inherited:
                yield f"hold broken: {id} left before its time"
        reserved = (e for e in known.values() if e.pod is None and not is_claim(e))
        held = [each for each in reserved if self.in_force(each, give=-2.0)]
        yield from self._inherited(held, fresh)

    def _begun(self, known: Mapping[str, Assignment], now: Iterable[Assignment]) -> Iterator[str]:
        for entry in now:
            if entry.pod is None and entry.id not in self._held and not is_claim(entry):
                self._held[entry.id] = Held(entry, self._clock())
                last = known.get(entry.id)
                if last is None or last.pod is None or entry.owner is None:
                    yield f"held for nobody: {entry.id}"
                elif self._alive(last.pod.uid):
                    yield f"held for nobody: {entry.id}, whose pod {last.pod.name} lives"

    def _inherited(self, held: Iterable[Assignment], fresh: Iterable[Assignment]) -> Iterator[str]:
        held = tuple(held)
        pods: dict[str, list[Assignment]] = {}
        for entry in fresh:
            if entry.pod is None or self._together(entry.pod.uid):
                continue
            if entry.owner is not None:
                pods.setdefault(entry.pod.uid, []).append(entry)
        for entries in pods.values():
            # What is in the way of some makes the others no answer to "the same as before".
            own = [each for each in held if each.owner == entries[0].owner]
            same = sorted(e.resource for e in own) == sorted(e.resource for e in entries)
            if same and all(self._clear(each) for each in own):
                if {_place(e) for e in own} == {_place(e) for e in entries}:
                    self.inherited += 1
                else:
                    yield f"not inherited: {entries[0].pod} is not where its owner's last pod was"


def _place(entry: Assignment) -> tuple[str, int, int]:
    return entry.gpu, entry.profile_id, entry.start


def _overlap(entry: Assignment, other: Assignment) -> bool:
    return entry.gpu == other.gpu and bool(entry.placement.mask & other.placement.mask)
