"""Why GPUs are closed to new instances, in few words: agents write sentences, labels are few."""

from __future__ import annotations

from enum import StrEnum


class Ailment(StrEnum):
    """What kind of trouble keeps new instances off a GPU."""

    XID = "xid"
    MEMORY = "memory"
    RECOVERY_ACTION = "recovery-action"
    MIG_MODE = "mig-mode"
    LOST = "lost"
    OTHER = "other"


_TOLD_BY = (
    ("XID", Ailment.XID),
    ("memory", Ailment.MEMORY),
    ("the driver asks to", Ailment.RECOVERY_ACTION),
    ("MIG", Ailment.MIG_MODE),
    ("GPU is lost", Ailment.LOST),
)
"""What an agent's sentence contains, the first that does counts (``nodeagent.nvml.quarantine``)."""


def ailment(reason: str) -> Ailment:
    """Return the kind of trouble that an agent gives as the *reason*."""
    return next((kind for words, kind in _TOLD_BY if words in reason), Ailment.OTHER)
