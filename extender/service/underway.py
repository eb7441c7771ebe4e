"""Which pods' binds are under way, and whether one was while somebody looked at the pod.

What was read of a pod is of before the answer. A bind may begin and end in between, so that it is
not enough to ask afterwards whether one is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class Look:
    """Somebody looks at a pod; ``disturbed`` once a bind of it was under way meanwhile."""

    def __init__(self, *, disturbed: bool) -> None:
        self.disturbed = disturbed


class Underway:
    """The binds that are under way, by the UIDs of their pods."""

    def __init__(self) -> None:
        self._pods: dict[str, tuple[asyncio.Lock, int]] = {}
        self._looks: dict[str, list[Look]] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def active(self, uid: str) -> bool:
        """Tell whether a bind of the pod is under way."""
        return uid in self._pods

    async def idle(self) -> None:
        """Wait until no bind is under way."""
        await self._idle.wait()

    @contextlib.contextmanager
    def bind(self, uid: str) -> Iterator[asyncio.Lock]:
        """Let a bind be under way; yield the lock that it takes, for there may be others."""
        lock, users = self._pods.get(uid, (asyncio.Lock(), 0))
        self._pods[uid] = (lock, users + 1)
        self._idle.clear()
        for look in self._looks.get(uid, ()):
            look.disturbed = True
        try:
            yield lock
        finally:
            lock, users = self._pods.pop(uid)
            if users > 1:
                self._pods[uid] = (lock, users - 1)
            if not self._pods:
                self._idle.set()

    @contextlib.contextmanager
    def look(self, uid: str) -> Iterator[Look]:
        """Note whether a bind of the pod is under way until the block ends."""
        look = Look(disturbed=self.active(uid))
        self._looks.setdefault(uid, []).append(look)
        try:
            yield look
        finally:
            self._looks[uid].remove(look)
            if not self._looks[uid]:
                del self._looks[uid]
