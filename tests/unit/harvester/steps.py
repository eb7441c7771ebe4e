"""``make harvester-steps``: agent and Harvester's controller end at every step that they take.

The stories are those of ``test_crashes``, which takes a few of their steps alone. How many there
are is found out: whoever is to end at a step that is not reached has come to the story's end.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec

from benchmarks import made
from nodeagent.logs import log_to_stderr
from tests.fakes.nvml.library import built_for_tests
from tests.fakes.pcidevices.names import Version
from tests.unit.harvester.fuse import Fuse
from tests.unit.harvester.stories import STORIES, Story, told

ROOT_PREFIX = "pytest-steps-"
"""By the beginning of its name the story knows the directory that all runs share."""
IN_A_ROW = 6
"""So many steps that are not reached make an end: how many a story takes depends on when
Harvester's scans happen to come."""


class Ending(msgspec.Struct, frozen=True):
    """Who ends, in which story, and at which step, in the order in which they are taken."""

    story: int
    version: Version
    who: str
    step: int

    def __str__(self) -> str:
        told = STORIES[self.story]
        return f"Harvester {self.version}, {told}: the {self.who} ends at step {self.step}"


class Outcome(msgspec.Struct, frozen=True):
    """Whether the step was ``reached`` at all; what was ``wrong`` in the end, "" if nothing."""

    ending: Ending
    reached: bool
    wrong: str = ""


class Row(msgspec.Struct, frozen=True):
    """What came of all the steps of somebody in a story."""

    story: str
    version: Version
    who: str
    steps: int
    failed: int
    seconds: float


async def agents(story: Story, directory: Path, version: Version, step: int) -> bool:
    """Tell a story with an agent that ends there, and tell whether it came to that."""
    fuse = Fuse(step)
    await told(story, directory, version, fuse)
    return fuse.burnt


async def controllers(story: Story, directory: Path, version: Version, step: int) -> bool:
    """Tell a story with a controller that ends there, and tell whether it came to that."""
    return await told(story, directory, version, Fuse(), controller=step) > step


WHO = {"agent": agents, "controller": controllers}


def play(root: Path, ending: Ending) -> Outcome:
    """Tell the story once, in a directory of its own."""
    directory = Path(tempfile.mkdtemp(prefix="story-", dir=root))
    try:
        story = STORIES[ending.story]
        reached = asyncio.run(WHO[ending.who](story, directory, ending.version, ending.step))
    except Exception:  # noqa: BLE001 - whatever it is, it is what came of this ending
        return Outcome(ending, reached=True, wrong=traceback.format_exc())
    return Outcome(ending, reached=reached)


def every(
    story: int,
    version: Version,
    who: str,
    at_once: int,
    played: Callable[[list[Ending]], Iterator[Outcome]],
) -> Iterator[Outcome]:
    """Yield what came of each step in turn, until none is reached any more."""
    missed = 0
    for first in itertools.count(0, at_once):
        endings = [Ending(story, version, who, step) for step in range(first, first + at_once)]
        for outcome in played(endings):
            missed = 0 if outcome.reached else missed + 1
            if missed == IN_A_ROW:
                return
            yield outcome


def main() -> None:
    """Take every step, and print what came of it; the exit status is 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="make harvester-steps STEPS_ARGS=…", description=__doc__)
    parser.add_argument("--harvester", type=Version, action="append", help="1.7, 1.8, or both")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=None, help="a page of what came of it")
    options = parser.parse_args()
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # that servers end is none
    rows = []
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix=ROOT_PREFIX) as root,
        ProcessPoolExecutor(
            options.jobs, mp_context=context, initializer=log_to_stderr, initargs=("error",)
        ) as pool,
    ):
        built_for_tests(Path(root) / "fake-nvml")

        def played(endings: list[Ending]) -> Iterator[Outcome]:
            return pool.map(play, itertools.repeat(Path(root)), endings)

        versions = options.harvester or list(Version)
        for story, version, who in itertools.product(range(len(STORIES)), versions, WHO):
            begun, done = time.monotonic(), []
            for outcome in every(story, version, who, 8 * options.jobs, played):
                done.append(outcome)
                if outcome.wrong:
                    print(f"{outcome.ending}:\n{outcome.wrong}", flush=True)
            failed = sum(bool(each.wrong) for each in done)
            reached = sum(each.reached for each in done)
            taken = time.monotonic() - begun
            rows.append(Row(str(STORIES[story]), version, who, reached, failed, taken))
            print(
                f"Harvester {version}, {STORIES[story]}: the {who} ended at each of {reached}"
                f" steps, {failed} times to no good end ({taken:.0f} s)",
                flush=True,
            )
    if options.out is not None:
        options.out.write_text("\n".join(page(rows)) + "\n")
    sys.exit(any(each.failed for each in rows))


def page(rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of the page that keeps what came of a run."""
    yield "# On Harvester: whoever ends, wherever it ends"
    yield ""
    yield f"By `make harvester-steps STEPS_ARGS='--out …'`: {made.text(made.here())}."
    yield ""
    yield "| story | Harvester | who ends | at each of | to no good end | seconds |"
    yield "|---|---|---|---|---|---|"
    for each in rows:
        cells = (each.story, each.version, each.who, each.steps, each.failed, f"{each.seconds:.0f}")
        yield f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
