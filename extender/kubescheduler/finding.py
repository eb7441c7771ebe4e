"""What a check finds."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong: where, what comes of it, and what helps.

    ``fatal`` ones make pods wait for ever, land without their GPU instance, or keep the scheduler
    from starting; the others make it slower or blinder than it could be.
    """

    field: str
    problem: str
    remedy: str
    fatal: bool = True
