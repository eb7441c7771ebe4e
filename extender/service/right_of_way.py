"""Who goes first: whatever else is done waits a moment while a hook is being answered.

kube-scheduler waits for the answers, one after the other, and for nothing else that is done here.
Work on the loop lets an answer be finished between two of its turns. Threads share the interpreter
with the loop: each that has work gets a turn as often as an answer does, so that this takes twice
as long beside one. Those that plan and explain give way by the node; those that write down what was
decided work when no hook has been answered for a moment (:class:`Aside`).

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
from weakref import WeakSet

LOOP_SECONDS = 0.02
"""For how long a turn of the loop is put off; filter takes up to 5 ms among 5,000 names."""

THREAD_SECONDS = 0.01
"""For how long a thread waits at a time."""

PATIENCE_SECONDS = 0.05
"""For how long a thread waits in all: a plan has 0.3 s, and this is of it."""

QUIET_SECONDS = 0.002
"""For how long no hook has been answered when those that work aside begin: prioritize comes soon
after filter."""

LOOK_SECONDS = 0.1
"""How often they look for work by themselves, for there may be no hooks at all; and for how long
they work at most before they see to all else."""

ASIDE_PATIENCE_SECONDS = 0.03
"""For how long what they have to do is put off while hooks follow one another closely."""

MOMENT_SECONDS = 0.0002
REST_SECONDS = 0.0002
"""For how long they work at a time, and let the loop have the interpreter, in case it wants to."""

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class RightOfWay:
    """How many hooks are being answered: told by their connections, on the loop alone.

    ``entered`` counts those that ever were.
    """

    def __init__(self) -> None:
        self.in_flight = self.entered = 0
        self._aside: WeakSet[Aside] = WeakSet()
        self._quiet: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()
        self._over_for_threads = threading.Event()
        self._let_go()

    def enter(self) -> None:
        """Note that a request has begun to come."""
        self.in_flight += 1
        self.entered += 1
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None
        self._over.clear()
        self._over_for_threads.clear()

    def leave(self) -> None:
        """Note that it has been answered, or waits for something itself."""
        self.in_flight -= 1
        if not self.in_flight:
            self._let_go()
            if self._aside:
                loop = asyncio.get_running_loop()
                self._quiet = loop.call_later(QUIET_SECONDS, self._begin_aside)

    def admit(self, aside: Aside) -> None:
        """Let a thread work aside, as long as anybody refers to it."""
        self._aside.add(aside)

    def _begin_aside(self) -> None:
        self._quiet = None
        for each in self._aside:
            each.begin()

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


class Aside:
    """When a thread works that writes down what was decided: while no hook is being answered.

    One that wakes by the clock takes the interpreter away amid an answer, and again after each of
    its own reads and writes; beside the decision log's the slowest hundredth of answers took half
    as long again (``python -m benchmarks.decision_log``). So it is told when to begin, and makes
    nobody wait for it: the loop takes no lock that it might have.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        rest: Callable[[float], None] = time.sleep,
    ) -> None:
        self._way: RightOfWay | None = None
        self._clock = clock
        self._rest = rest
        self._gate = threading.Lock()
        self._gate.acquire()
        self._rest_at = self._over_at = 0.0

    def heed(self, way: RightOfWay) -> None:
        """Work when there is nobody with the right of *way*, from now on."""
        self._way = way
        way.admit(self)

    def begin(self) -> None:
        """Have the thread begin at once, from any other."""
        with contextlib.suppress(RuntimeError):  # it has been told already
            self._gate.release()

    def wait(self, *, has_work: bool) -> None:
        """Wait until it is time to begin, or to look for work."""
        self._gate.acquire(timeout=ASIDE_PATIENCE_SECONDS if has_work else LOOK_SECONDS)
        began = self._clock()
        self._rest_at, self._over_at = began + MOMENT_SECONDS, began + LOOK_SECONDS

    def goes_on(self, *, hurry: bool = False) -> bool:
        """Tell, between two pieces of work, whether to go on; in a *hurry*, whoever is answered."""
        now = self._clock()
        if now < self._rest_at:
            return True
        if now >= self._over_at:
            return False
        if not hurry:
            if self._is_called():
                return False
            self._rest(REST_SECONDS)
            if self._is_called():
                return False
            self._rest_at = self._clock() + MOMENT_SECONDS
        return True

    def _is_called(self) -> bool:
        return self._way is not None and self._way.in_flight > 0
