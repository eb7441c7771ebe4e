"""What the kubelet is answered from the offer of the moment: values, no server.

A slot is given out for one of two reasons. The pod that is expected next has it: it is among the
offer's ``waiting``. Or its pod asks again, for another container or after a restart. A slot that
the kubelet has picked by itself, out of those it called available, is refused even if it is tied:
it is tied for a pod that has had it and ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from nodeagent.api.gpunode import Mode
from nodeagent.deviceplugin.answers import Answer, answer
from nodeagent.kubelet import Offer

SHOWN: Final = 64
"""So many characters of what the kubelet says are repeated to it."""


class Refusal(Exception):
    """The kubelet may not have that; the message is for whoever describes the pod."""


class Desk:
    """Answers for all resources; *clock* counts seconds."""

    def __init__(self, mode: Mode, *, clock: Callable[[], float]) -> None:
        self._mode = mode
        self._clock = clock
        self._offer: Offer | None = None
        self._unnamed: dict[str, frozenset[str]] = {}
        self._given: dict[str, float] = {}

    @property
    def offer(self) -> Offer | None:
        """What may be given out now; None before anything has been offered."""
        return self._offer

    @offer.setter
    def offer(self, offer: Offer) -> None:
        self._offer = offer

    def slots(self, resource: str) -> tuple[str, ...]:
        """Return the slots advertised for *resource*."""
        return self._offer.slots.get(resource, ()) if self._offer else ()

    def preferred(
        self, resource: str, available: Sequence[str], must_include: Sequence[str], size: int
    ) -> tuple[str, ...]:
        """Return which *size* of the *available* slots a container should get; perhaps fewer.

        Those it *must include* come first.

        Raises:
            Refusal: the kubelet asks for what it cannot mean.
        """
        offer = self._offer or Offer()
        if not 0 <= len(must_include) <= size:
            raise Refusal(f"{len(must_include)} devices must be among {size} of {resource}")
        if not set(must_include) <= set(available):
            raise Refusal(f"devices of {resource} must be included that are not available")
        certain = tuple(dict.fromkeys(must_include))
        others = [slot for slot in available if slot not in certain]
        named = certain + offer.preferred(resource, others, size - len(certain))
        self._unnamed[resource] = frozenset(available) - frozenset(named)
        return named

    def allocate(self, resource: str, ids: Sequence[str]) -> Answer:
        """Return what a container needs that is given the slots *ids*, in whichever order.

        Raises:
            Refusal: one of them is not to be given out, so none is.
        """
        offer = self._offer or Offer()
        slots = self.slots(resource)
        if len(ids) > len(slots):
            raise Refusal(f"{len(ids)} devices of {resource}, of which there are {len(slots)}")
        if not ids or len(set(ids)) < len(ids):
            raise Refusal(f"{len(ids)} devices of {resource} of which some are the same, or none")
        waiting = offer.waiting.get(resource, ())
        for each in ids:
            if each not in slots:
                raise Refusal(f"{each[:SHOWN]!r} is no slot of {resource}")
            if each not in offer.devices:
                raise Refusal(
                    f"no pod is expected in slot {each} of {resource}: pods that ask for it"
                    " must be placed by Tangram's scheduler extender"
                )
            if each in self._unnamed.get(resource, ()) and each not in waiting:
                raise Refusal(
                    f"slot {each} of {resource} is another pod's: fewer were planned for this pod"
                    " than it asks for"
                )
        ordered = sorted(ids, key=slots.index)
        told = answer(self._mode, resource, {slot: offer.devices[slot] for slot in ordered})
        self._given.update(dict.fromkeys(ordered, self._clock()))
        return told

    def open(self, claims: Mapping[str, str], *, within: float) -> frozenset[str]:
        """Return the slots given out less than *within* seconds ago that are in no claim yet."""
        oldest = self._clock() - within
        self._given = {
            slot: when for slot, when in self._given.items() if when > oldest and slot not in claims
        }
        return frozenset(self._given)
