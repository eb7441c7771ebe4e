"""Replays of one record under several policies, beside each other on the processors there are."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing.sharedctypes import SynchronizedArray

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from extender.policy import InForce
from extender.replay.play import events_of, play
from extender.replay.played import Played
from extender.replay.recorded import Recorded

LOOK_SECONDS = 0.2
"""Between two looks at how far the replays are."""

WORTH_A_PROCESS = 20_000
"""Events of a replay, some seconds of a processor: to begin another process takes one or two."""

Named = tuple[str, InForce]
Told = Callable[[int, int], None]
"""Is told of a replay, by its number, how many events it has played."""


def played(
    recorded: Recorded, policies: Sequence[Named], *, at_once: int | None = None
) -> list[Played]:
    """Return the replays of a record under policies, by name; people are told how far they are.

    So many are played *at once*: None for as many as there are processors, of a long record.
    """
    events = events_of(recorded)
    if at_once is None:
        at_once = (os.cpu_count() or 1) if events >= WORTH_A_PROCESS else 1
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks = [progress.add_task(name, total=events) for name, _ in policies]

        def told(number: int, count: int) -> None:
            progress.update(tasks[number], completed=count)

        if min(at_once, len(policies)) > 1:
            found = _beside(recorded, policies, told, at_once)
        else:
            found = _in_turn(recorded, policies, told)
        for task in tasks:
            progress.update(task, completed=events)
    return found


def _in_turn(recorded: Recorded, policies: Sequence[Named], told: Told) -> list[Played]:
    found = []
    for number, (name, policy) in enumerate(policies):
        counts = [0]

        def more(count: int, number: int = number, counts: list[int] = counts) -> None:
            counts[0] += count
            told(number, counts[0])

        found.append(play(recorded, policy, name=name, progress=more))
    return found


def _beside(
    recorded: Recorded, policies: Sequence[Named], told: Told, at_once: int
) -> list[Played]:
    """Play in processes of their own, which begin anew: no thread of this one is in their way."""
    context = multiprocessing.get_context("spawn")
    counts = context.Array("q", len(policies))
    with ProcessPoolExecutor(
        min(at_once, len(policies)), context, _begin, (recorded, counts)
    ) as pool:
        futures = [
            pool.submit(_played_there, number, name, policy)
            for number, (name, policy) in enumerate(policies)
        ]
        while wait(futures, LOOK_SECONDS).not_done:
            for number in range(len(policies)):
                told(number, counts[number])
        return [future.result() for future in futures]


_record: Recorded
_counts: SynchronizedArray[int]


def _begin(recorded: Recorded, counts: SynchronizedArray[int]) -> None:
    """Keep in a new process what all of its replays share."""
    global _record, _counts
    _record, _counts = recorded, counts


def _played_there(number: int, name: str, policy: InForce) -> Played:
    return play(_record, policy, name=name, progress=functools.partial(_count, number))


def _count(number: int, more: int) -> None:
    _counts[number] += more
