"""Who goes first: whatever else is done waits a moment while a hook is being answered.

kube-scheduler waits for the answers, one after the other, and for nothing else that is done here.
Work on the loop lets an answer be finished between two of its turns. Threads share the interpreter
with the loop: each that has work gets a turn as often as an answer does, so that this takes twice
as long beside one. They give way by the node.

Nobody waits for ever. The hooks follow one another closely, and a client may begin a request and
not go on: who has waited in vain goes on until the next request comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

LOOP_SECONDS = 0.02
"""For how long a turn of the loop is put off; filter takes up to 5 ms among 5,000 names."""

THREAD_SECONDS = 0.01
"""For how long a thread waits at a time."""

PATIENCE_SECONDS = 0.05
"""For how long a thread waits in all: a plan has 0.3 s, and this is of it."""

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class RightOfWay:
    """How many hooks are being answered: told by their connections, on the loop alone.

    ``entered`` counts those that ever were.
    """

    def __init__(self) -> None:
        self.in_flight = self.entered = 0
        self._over = asyncio.Event()
        self._over_for_threads = threading.Event()
        self._let_go()

    def enter(self) -> None:
        """Note that a request has begun to come."""
        self.in_flight += 1
        self.entered += 1
        self._over.clear()
        self._over_for_threads.clear()

    def leave(self) -> None:
        """Note that it has been answered, or waits for something itself."""
        self.in_flight -= 1
        if not self.in_flight:
            self._let_go()

    def _let_go(self) -> None:
        self._over.set()
        self._over_for_threads.set()

    async def give_way(self) -> None:
        """Let others have the loop, and the hooks until they are answered, or too slow."""
        await asyncio.sleep(0)
        if not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOP_SECONDS):
                    await self._over.wait()
                return
            self._let_go()

    @property
    def free(self) -> bool:
        """Whether nobody is to be given way to."""
        return self._over_for_threads.is_set()

    def wait_in_thread(self, seconds: float) -> None:
        """Wait, in another thread than the loop's, until nobody is to be given way to."""
        self._over_for_threads.wait(seconds)


class GivingWay(Mapping[_Key, _Value]):
    """What a thread works with, one after the other: before each it gives way to the hooks."""

    def __init__(
        self,
        them: Mapping[_Key, _Value],
        way: RightOfWay,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._them = them
        self._way = way
        self._clock = clock
        self._left = PATIENCE_SECONDS

    def __getitem__(self, key: _Key) -> _Value:
        if self._left > 0 and not self._way.free:
            began = self._clock()
            self._way.wait_in_thread(min(THREAD_SECONDS, self._left))
            self._left -= self._clock() - began
        return self._them[key]

    def __iter__(self) -> Iterator[_Key]:
        return iter(self._them)

    def __len__(self) -> int:
        return len(self._them)

    def __contains__(self, key: object) -> bool:
        return key in self._them
