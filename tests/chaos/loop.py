"""An event loop with its own clock and a seeded order of events, on which processes can die.

What is ready at the same moment runs in an order drawn by chance; when nothing is, the clock jumps
to the next timer. Every callback belongs to the process in whose context it was scheduled: those of
a frozen process wait, as under SIGSTOP, and those of a killed one never run, as after SIGKILL: no
``finally`` of it, either.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import random
import sys
import warnings
from asyncio import events
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextvars import Context, ContextVar, copy_context
from itertools import count
from typing import Any, TypeVar, TypeVarTuple
from unittest.mock import patch

import msgspec

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class Process:
    """What lives, is frozen and dies as one; ``number`` tells it from its predecessors."""

    def __init__(self, name: str, number: int = 0) -> None:
        self.name = name
        self.number = number
        self.label = f"{name}_{number}"
        self.alive = True
        self.frozen = False
        self.ended_at = float("inf")
        self.held: list[_Due] = []
        # The dead ones' tasks too: collected as garbage, they would still run their `finally`.
        self.tasks: list[asyncio.Task[Any]] = []

    def __repr__(self) -> str:
        return self.label


WORLD = Process("world")
PROCESS: ContextVar[Process] = ContextVar("process", default=WORLD)


class _Handle(msgspec.Struct, gc=False):
    """What an :class:`asyncio.TimerHandle` promises, without what serves debugging only."""

    at: float = 0.0
    gone: bool = False

    def cancel(self) -> None:
        self.gone = True

    def cancelled(self) -> bool:
        return self.gone

    def when(self) -> float:
        return self.at


_Due = tuple[Callable[..., object], tuple[Any, ...], Context, _Handle | None]
"""A callback, what it is called with, in which context, and what would cancel it, if anything."""

_Timer = tuple[Callable[..., object], tuple[Any, ...], Context, _Handle]


class _Task(asyncio.Task[Any]):
    """A task whose hash is its number, so that sets of tasks have the same order every time."""

    def __init__(
        self,
        number: int,
        coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        loop: SeededLoop,
        name: str,
        context: Context | None,
    ) -> None:
        self.number = number
        asyncio.Task.__init__(self, coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self.number


class SeededLoop(asyncio.AbstractEventLoop):
    """For code that waits for timers and for other tasks only; its time starts at 0.

    Whatever is given to a thread is done at its turn.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._now = 0.0
        self._ready: list[_Due] = []
        self._timers: list[tuple[float, int, _Timer]] = []
        self._numbers = count()
        self._running = False
        self._closed = False
        self.world = Context()
        self.failures: list[str] = []

    # Time and callbacks.

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> Any:
        handle = None
        if context is None:  # futures and tasks always give one, and cancel nothing
            handle, context = _Handle(), copy_context()
        if not self._closed:
            self._ready.append((callback, args, context, handle))
        return handle

    call_soon_threadsafe = call_soon

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> Any:
        timer = _Handle(when)
        if not self._closed:
            due = (callback, args, copy_context() if context is None else context, timer)
            heapq.heappush(self._timers, (when, next(self._numbers), due))
        return timer

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> Any:
        timer = _Handle(self._now + delay)
        if not self._closed:
            due = (callback, args, copy_context() if context is None else context, timer)
            heapq.heappush(self._timers, (timer.at, next(self._numbers), due))
        return timer

    # Futures and tasks.

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, _T] | Generator[Any, None, _T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[_T]:
        task = _Task(next(self._numbers), coro, self, name or "", context)
        owner = PROCESS.get() if context is None else context.get(PROCESS, WORLD)
        if owner is not WORLD:
            owner.tasks.append(task)
        return task

    def spawn(
        self, process: Process, coro: Coroutine[Any, Any, _T], name: str = ""
    ) -> asyncio.Task[_T]:
        """Run *coro* as part of *process*."""
        context = self.world.copy()
        context.run(PROCESS.set, process)
        return self.create_task(coro, name=name, context=context)

    def ask(self, process: Process, question: Callable[[], _T]) -> _T:
        """Return what *process*, which is neither dead nor frozen, answers at once."""
        context = self.world.copy()
        context.run(PROCESS.set, process)
        return context.run(question)

    def spawn_outside(self, coro: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Run *coro* as part of no process; nobody need ever ask how it ended."""
        task = self.create_task(coro, context=self.world.copy())
        task.add_done_callback(_looked_at, context=self.world)
        return task

    def run_in_executor(
        self, executor: object, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        done: asyncio.Future[_T] = self.create_future()

        def do() -> None:
            if done.done():
                return
            try:
                done.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - it is the caller's
                done.set_exception(error)

        self.call_soon(do)
        return done

    # Processes.

    def kill(self, process: Process) -> None:
        """End *process* on the spot."""
        process.alive = False
        process.ended_at = self._now
        process.held.clear()

    def freeze(self, process: Process) -> None:
        """Stop *process* until it is thawed; its clock goes on."""
        process.frozen = True

    def thaw(self, process: Process) -> None:
        """Let *process* go on."""
        process.frozen = False
        self._ready += process.held
        process.held.clear()

    # Running.

    def run_until_complete(self, future: Any) -> Any:
        task = asyncio.ensure_future(future, loop=self)
        self._running = True
        events._set_running_loop(self)
        try:
            with _nothing_asked_in_vain(self):
                self._turn_until(task.done)
        finally:
            events._set_running_loop(None)
            self._running = False
        return task.result()

    def _turn_until(self, done: Callable[[], bool]) -> None:
        """Run what is due, a turn after the other: thousands in a history, hence in one frame."""
        timers, chance, process_of = self._timers, self._chance, PROCESS
        while not done():
            if not self._ready:
                while timers and timers[0][2][3].gone:
                    heapq.heappop(timers)
                if not timers:
                    raise RuntimeError("everything waits, and nothing is going to happen")
                if timers[0][0] > self._now:
                    self._now = timers[0][0]
            now = self._now
            while timers and timers[0][0] <= now:
                timer = heapq.heappop(timers)[2]
                if not timer[3].gone:
                    self._ready.append(timer)
            batch, self._ready = self._ready, []
            if len(batch) == 2:
                if chance.random() < 0.5:
                    batch.reverse()
            elif len(batch) > 2:
                chance.shuffle(batch)
            for due in batch:
                callback, args, context, handle = due
                if handle is not None and handle.gone:
                    continue
                process = context.get(process_of, WORLD)
                if not process.alive:
                    continue
                if process.frozen:
                    process.held.append(due)
                    continue
                try:
                    context.run(callback, *args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001 - as asyncio's own handles do
                    self.call_exception_handler({"message": repr(callback), "exception": error})

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True

    # Every future and every task asks: bool() says no without a frame of ours.
    get_debug = staticmethod(bool)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody awaited; what is lost with the loop does not count."""
        error = context.get("exception")
        if not self._closed and error is not None:
            self.failures.append(f"{context.get('message')}: {error!r}")


def seeded_loop(chance: random.Random) -> SeededLoop:
    """Return a loop of which nobody asks what it lacks: asyncio's own class refuses that."""
    return SeededLoop(chance)  # type: ignore[abstract]


def _looked_at(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


@contextlib.contextmanager
def _nothing_asked_in_vain(loop: SeededLoop) -> Iterator[None]:
    """Spare asyncio what it does for others until Python 3.12, at a twentieth of a history's cost.

    Its every question after the running loop asks the kernel first whether the process is still the
    one it was; and each task is entered in a set of all tasks there are, which nobody reads here.
    """
    if sys.version_info >= (3, 12):
        yield
        return
    with (
        patch.multiple(events, get_running_loop=lambda: loop, _get_running_loop=lambda: loop),
        patch.object(vars(asyncio.tasks)["_all_tasks"], "add", id),
    ):
        yield


_LEFT: list[SeededLoop] = []


def run(
    work: Callable[[SeededLoop], Coroutine[Any, Any, _T]],
    chance: random.Random,
    *,
    tidy: bool = True,
) -> _T:
    """Run *work* to its end on a loop of its own; whatever it leaves behind is dropped.

    If not *tidy*, that stays where it is (4 MB of a history of 200 events), for a process that is
    about to end: to put it away takes as long as a tenth of the history.
    """
    gc.disable()  # garbage runs code, too, and must not do so whenever it likes
    loop = seeded_loop(chance)
    try:
        result: _T = loop.run_until_complete(work(loop))
        return result
    finally:
        loop.close()
        if tidy:
            del loop
            _cleared()
        else:
            _LEFT.append(loop)


def _cleared() -> None:
    """Collect what a history has left behind; how it takes its end does not matter any more."""
    told, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of what was never begun
            gc.collect()
    finally:
        sys.unraisablehook = told
        gc.enable()
