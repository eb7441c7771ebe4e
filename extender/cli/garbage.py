"""When Python looks for garbage: often and little, and not while the hooks make their answers.

Left to itself it does so whenever some hundreds of objects have been made, so mostly amid an
answer, and now and then looks through all: at 5,000 nodes for a tenth of a second (measured). What
is there once all is known is never looked through again: nearly all of it stays, or goes when what
refers to it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator

from extender.service import Knowledge, Service

YOUNG_SECONDS = 0.02
"""How often what was made since the last time is looked through: with 500 nodes a second changing
and 30 binds in 0.3 ms, 2.3 at most (measured on a busy machine)."""

ALL_SECONDS = 600.0
"""How often everything is; requests, tasks and errors leave few cycles that outlive the former."""

QUIET_TURNS = 5
"""Everything only when the young have been looked through so often since somebody asked."""

PUT_OFF_SECONDS = 60.0
"""For how long that is put off where somebody always asks."""

AT_THE_LATEST = (200_000, 1_000, 1_000)
"""When Python does so by itself after all, as ``gc.set_threshold`` takes it: the loop is stuck."""


@contextlib.asynccontextmanager
async def collected_between_answers(service: Service) -> AsyncIterator[None]:
    """Look for garbage in turns of the loop until the block ends, then as before.

    Everything only while nobody asks the *service*; and what there is when that is ready for the
    first time, never.
    """
    before = gc.get_threshold()
    gc.set_threshold(*AT_THE_LATEST)
    collecting = asyncio.create_task(_collect(service.knowledge), name="collect-garbage")
    try:
        yield
    finally:
        collecting.cancel()
        gc.set_threshold(*before)
        gc.unfreeze()


async def _collect(knowledge: Knowledge) -> None:
    loop, way, frozen = asyncio.get_running_loop(), knowledge.way, False
    all_due, asked, quiet = loop.time() + ALL_SECONDS, way.entered, 0
    while True:
        await asyncio.sleep(YOUNG_SECONDS)
        if not frozen and not knowledge.not_warm():
            frozen = True
            gc.freeze()
        quiet, asked = (quiet + 1 if way.entered == asked else 0), way.entered
        overdue = loop.time() - all_due
        if overdue >= PUT_OFF_SECONDS or (overdue >= 0 and quiet >= QUIET_TURNS):
            gc.collect()
            all_due = loop.time() + ALL_SECONDS
        else:
            gc.collect(0)
