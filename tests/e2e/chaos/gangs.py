"""Judges gangs: none of their members is bound before all of them have a place."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from nodeagent.api.gpunode import GpuNode


class Member(msgspec.Struct, frozen=True):
    """A pod of a gang of ``size``, which wants so many ``devices``."""

    uid: str
    gang: str
    size: int
    devices: int


class Gangs:
    """The gangs of one history; ``begun`` are those of which a member has ever been bound."""

    def __init__(self) -> None:
        self.begun: set[str] = set()
        self._members: dict[str, dict[str, Member]] = defaultdict(dict)

    def seen(self, member: Member) -> None:
        """Take note of a member; one that is gone may have a place for a moment yet."""
        self._members[member.gang][member.uid] = member

    def bound(self, member: Member, nodes: Mapping[str, GpuNode]) -> Iterator[str]:
        """Judge that a member has been bound, with the *nodes* as they are."""
        if member.gang in self.begun:
            return  # from then on a loss is an ordinary one
        self.begun.add(member.gang)
        places = _places(nodes.values())
        members = self._members[member.gang].values()
        placed = sum(places[each.uid] >= each.devices for each in members)
        if placed < member.size:
            yield (
                f"half a gang: one of {member.gang} is bound, and of {member.size}"
                f" only {placed} have their places"
            )


def _places(nodes: Iterable[GpuNode]) -> Counter[str]:
    """Count the places that each pod has, by UID."""
    return Counter(
        entry.pod.uid for node in nodes for entry in node.spec.assignments if entry.pod is not None
    )
