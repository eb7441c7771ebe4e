"""Where blocking calls run: a file of the kernel may not answer for as long as a VM lives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Worker(Protocol):
    """Runs blocking jobs, one after the other, and notices one that does not come back."""

    async def run(self, call: str, job: Callable[[], T], *, to_the_end: bool = False) -> T:
        """Return what *job* returns; *call* names it in errors (DriverTimeout, DriverBusy)."""
