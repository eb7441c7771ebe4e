"""The judge's part for places that are held: for whom, for how long, and who has them next.

* ``held for nobody``: a reservation comes from nowhere, or its pod has not ended.
* ``hold broken``: a reservation leaves before its time, and not for its owner's next pod.
* ``not inherited``: a place is held on the node, and of the pods placed there at once that ask the
  same, none is given it. One of them may be: where there are several, another has come first.
* ``placed when over``: who held a pod's place for the next one gives that very pod a place again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from nodeagent.api.gpunode import Assignment, GpuNode, OwnerRef
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
    entry has left for what its owner's next pod waits for; *ordered*, whether it is held by an
    order of moves, and *lasting*, whether it is for as long as that.
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
        ordered: Callable[[Assignment], bool] = lambda entry: False,
        lasting: Callable[[Assignment], bool] = lambda entry: False,
    ) -> None:
        self.inherited = 0
        self._lasts = lasts
        self._clock = clock
        self._alive = alive
        self._clear = clear
        self._together = together
        self._given_way = given_way
        self._ordered = ordered
        self._lasting = lasting
        self._held: dict[str, Held] = {}
        self._known_over: set[tuple[str, str, str]] = set()

    def in_force(self, entry: Assignment, *, give: float = 0.0) -> bool:
        """Tell whether an entry counts: it has a pod, or its time was not over *give* s ago."""
        held = self._held.get(entry.id)
        if self._lasting(entry):
            return True
        if entry.pod is not None or is_claim(entry) or held is None:
            return entry.pod is not None or is_claim(entry)
        return self._clock() < held.at + self._lasts + give

    def succeeds(self, entry: Assignment, id: str) -> bool:
        """Tell whether *entry* is for the next pod of whom *id* was held for."""
        held = self._held.get(id)
        return held is not None and held.entry.owner == entry.owner is not None

    def wrote(self, before: GpuNode | None, after: GpuNode, writer: str = "") -> Iterator[str]:
        """Yield what is wrong about a change of a plan by *writer*, a process, "" if by hand."""
        known = {e.id: e for e in before.spec.assignments} if before else {}
        now = {e.id: e for e in after.spec.assignments}
        fresh = [e for e in now.values() if e.id not in known]
        yield from self._placed_when_over(fresh, writer, after.name)
        yield from self._begun(known, now.values(), writer, after.name)
        for id in known.keys() - now.keys():
            last = known[id]
            inherited = any(_overlap(e, last) and self.succeeds(e, id) for e in fresh)
            if is_claim(last) or self._lasting(last) or self._given_way(last, fresh):
                continue
            if last.pod is None and self.in_force(last) and not inherited:
                yield f"hold broken: {id} left before its time"
        reserved = (e for e in known.values() if e.pod is None and not is_claim(e))
        held = [each for each in reserved if self.in_force(each, give=-2.0)]
        had = [(_places([e]), e.pod) for id, e in known.items() if id not in now]
        # Who has the same by another id was given it before.
        yield from self._inherited(held, [e for e in fresh if (_places([e]), e.pod) not in had])

    def _placed_when_over(
        self, fresh: Iterable[Assignment], writer: str, node: str
    ) -> Iterator[str]:
        """Yield the pods placed anew by who had read, when it held their places, that they ended.

        On the same node alone: a write to another plan may have been on its way since before.
        """
        for pod in dict.fromkeys(entry.pod for entry in fresh):
            if pod is not None and (writer, node, pod.uid) in self._known_over:
                yield f"placed when over: {pod}, whose place {writer} held for the next"

    def _begun(
        self, known: Mapping[str, Assignment], now: Iterable[Assignment], writer: str, node: str
    ) -> Iterator[str]:
        for entry in now:
            if entry.pod is None and entry.id not in self._held and not is_claim(entry):
                self._held[entry.id] = Held(entry, self._clock())
                if self._ordered(entry):
                    continue
                last = known.get(entry.id)
                if last is None or last.pod is None or entry.owner is None:
                    yield f"held for nobody: {entry.id}"
                elif self._alive(last.pod.uid):
                    yield f"held for nobody: {entry.id}, whose pod {last.pod.name} lives"
                elif writer:
                    self._known_over.add((writer, node, last.pod.uid))

    def _inherited(self, held: Iterable[Assignment], fresh: Iterable[Assignment]) -> Iterator[str]:
        held = tuple(held)
        asking: dict[OwnerRef, dict[str, list[Assignment]]] = {}
        for entry in fresh:
            if entry.pod is None or entry.owner is None or self._together(entry.pod.uid):
                continue
            asking.setdefault(entry.owner, {}).setdefault(entry.pod.uid, []).append(entry)
        for owner, pods in asking.items():
            own = [each for each in held if each.owner == owner]
            same = [entries for entries in pods.values() if _wanted(entries) == _wanted(own)]
            # What is in the way of some makes the others no answer to "the same as before".
            if not same or not all(self._clear(each) for each in own):
                continue
            if any(_places(entries) == _places(own) for entries in same):
                self.inherited += 1
            else:
                yield f"not inherited: {same[0][0].pod} is not where its owner's last pod was"


def _wanted(entries: Iterable[Assignment]) -> list[str]:
    return sorted(each.resource for each in entries)


def _places(entries: Iterable[Assignment]) -> set[tuple[str, int, int]]:
    return {(each.gpu, each.profile_id, each.start) for each in entries}


def _overlap(entry: Assignment, other: Assignment) -> bool:
    return entry.gpu == other.gpu and bool(entry.placement.mask & other.placement.mask)
