"""What the agent asks of its journal: to keep what it made, or is about to make, through a crash.

The journal is the proof that a GPU instance is ours; whatever it does not have is foreign. It keeps
as well what is told of which plan: the GpuNode has that, too, but may be deleted.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Inventory


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


class Kept(msgspec.Struct, frozen=True):
    """The inventory that was told last, and the plan that it takes account of."""

    plan: tuple[Assignment, ...] = ()
    inventory: Inventory = Inventory()


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
