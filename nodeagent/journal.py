"""What the agent asks of its journal: to keep what it made, or is about to make, through a crash.

The journal is the proof that a GPU instance is ours; whatever it does not have is foreign. It keeps
as well what is told of which plan: the GpuNode has that, too, but may be deleted, or an older word
may be carried out late, and take its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Protocol

import msgspec

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Inventory

LONGEST_EPOCH = 128  # characters; the GpuNode's definition takes no longer one
MOST_FOLLOWED = 16  # a write outlives its agent by a minute; restarts are soon minutes apart


class JournalError(Exception):
    """The journal could not be written."""


class Made(msgspec.Struct, frozen=True):
    """A GPU instance we made or are about to make, in the node's boot of that id.

    ``unanswered`` is whether its creation got no answer, so that it may still come to be;
    ``adopted`` whether we did not make it, and its pod has it from elsewhere than our slots;
    ``lent`` whether it is of a layout cut by hand, and is let be once its pod has ended.
    """

    assignment: str
    gpu: str
    profile_id: int
    placement: Placement
    boot_id: str
    unanswered: bool = False
    adopted: bool = False
    lent: bool = False


Epoch = Annotated[str, msgspec.Meta(max_length=LONGEST_EPOCH)]


class Kept(msgspec.Struct, frozen=True):
    """The inventory that was told last, and the plan that it takes account of.

    The inventory bears the epoch and the sequence of the word by which it was to be told.
    ``followed`` are the epochs of agents that were there before that one, the latest known first.
    ``awaited`` are pods that are to be served next, by resource, as :class:`nodeagent.slots.Ties`
    has them.
    """

    plan: tuple[Assignment, ...] = ()
    inventory: Inventory = Inventory()
    followed: Annotated[tuple[Epoch, ...], msgspec.Meta(max_length=MOST_FOLLOWED)] = ()
    awaited: Mapping[str, str] = {}

    def says(self, other: Kept) -> bool:
        """Tell whether this differs from the *other* by the sequence of its word at most."""
        inventory = msgspec.structs.replace(other.inventory, sequence=self.inventory.sequence)
        return self == msgspec.structs.replace(other, inventory=inventory)

    def newer_than(self, status: Inventory) -> bool:
        """Tell whether this is to be believed rather than what a GpuNode says.

        A word that was carried out late may have taken the place of a newer one there. But an agent
        of which this says nothing is taken to have come later: it could keep nothing, or what we
        have here is an older copy.
        """
        if not status.agent_epoch:
            return True
        if status.agent_epoch == self.inventory.agent_epoch:
            return status.sequence < self.inventory.sequence
        return status.agent_epoch in self.followed

    def followed_by(self, epoch: str, status: Inventory) -> tuple[str, ...]:
        """Return whom the agent of that *epoch* follows, who has found a GpuNode say *status*."""
        if self.inventory.agent_epoch == epoch:
            return self.followed
        known = dict.fromkeys((status.agent_epoch, self.inventory.agent_epoch, *self.followed))
        earlier = [each for each in known if each != epoch and 0 < len(each) <= LONGEST_EPOCH]
        return tuple(earlier[:MOST_FOLLOWED])


class Journal(Protocol):
    """What we made, or are about to make, kept where a crash cannot reach it."""

    @property
    def made(self) -> tuple[Made, ...]:
        """Return what was saved last."""

    @property
    def kept(self) -> Kept:
        """Return what was kept last of what was told, or was about to be."""

    @property
    def damage(self) -> str:
        """Return why an earlier journal could not be read, "" if it could."""

    async def load(self) -> None:
        """Read what an earlier process has saved, if it can be read."""

    async def save(self, made: tuple[Made, ...]) -> None:
        """Save *made*, durably once this returns.

        Raises:
            JournalError: it may or may not have been saved.
        """

    async def keep(self, kept: Kept) -> None:
        """Keep what is about to be told, durably once this returns.

        Raises:
            JournalError: it may or may not have been kept.
        """
