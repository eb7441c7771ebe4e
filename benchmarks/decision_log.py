"""What the decision log costs: filter and prioritize with it and without, by turns, in one run.

Two services that know the same nodes and hear of the same changes, each behind a server of its own
in this process; one keeps a log, whose thread encodes, compresses and writes beside the answers.
Both are asked about the same pods, a hundred in a row, by turns the one first and the other: the
one without a log not before the other's thread has written all there is, for the two share the
interpreter's lock. Pods, nodes and changes are those of ``benchmarks.turns``. Told are the times,
the ratio of each quantile, and what the log had to do: bytes a call, and whether it lost any.

    python -m benchmarks.decision_log --nodes 100,1000
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import made, sizes
from benchmarks.fleet import GPUS, KnownFleet, ready
from benchmarks.http import Connection, Times, connected
from benchmarks.launchers import pod, question
from benchmarks.turns import FITTING, PAUSE_SECONDS, REJECTED, VERBS
from extender import wire
from extender.cli.garbage import collected_between_answers
from extender.decision_log import DecisionLog
from extender.policy import InForce, PolicyName
from extender.server import serving
from extender.settings import Settings

IN_A_ROW = 100  # pods, a second or more: what of it the thread writes afterwards is a tenth at most
LOOK_SECONDS, MOST_LOOKS = 0.05, 1_200
PODS_A_RENEWAL = 100  # in 10 s, on a machine that others use
KINDS = (*FITTING, *REJECTED)
GONE_AFTER = 20  # pods that are chosen for and not bound


class Side:
    """A service with its nodes, and what asking it took."""

    def __init__(self, nodes: int, seed: int, log: DecisionLog | None) -> None:
        self.logs = log is not None
        self.fleet = KnownFleet(nodes, seed, ready(witness=log))
        self.times = {verb: Times() for verb in VERBS}
        self.connection: Connection | None = None

    def renew_some(self, at: int) -> None:
        """Hear of the agents that are next, as many as in the time of a pod: each within 10 s."""
        count = 1 + len(self.fleet.names) // PODS_A_RENEWAL
        for index in range(at * count, (at + 1) * count):
            name = self.fleet.names[index % len(self.fleet.names)]
            self.fleet.service.knowledge.lease(name, f"again-{at}")

    async def ask(self, launcher: dict[str, Any], names: Sequence[str]) -> None:
        """Send a pod through filter, and through prioritize if several nodes pass."""
        assert self.connection is not None
        await asyncio.sleep(PAUSE_SECONDS)
        body = question(launcher, names)
        answer = await self.times["filter"].of(self.connection, "filter", body)
        filtered = msgspec.json.decode(answer, type=wire.FilterResult)
        assert not filtered.error
        if len(passed := filtered.node_names or ()) > 1:
            body = question(launcher, passed)
            await self.times["prioritize"].of(self.connection, "prioritize", body)


async def measure(nodes: int, *, rounds: int, changes: int, seed: int) -> dict[str, Any]:
    """Return what is measured at one size."""
    with tempfile.TemporaryDirectory() as folder:
        policy = InForce.of(PolicyName.DEFAULT)
        with DecisionLog(Path(folder), policy=policy, settings=Settings()) as log:
            sides = (Side(nodes, seed, None), Side(nodes, seed, log))
            async with AsyncExitStack() as stack:
                garbage = collected_between_answers(sides[0].fleet.service)
                await stack.enter_async_context(garbage)
                for side in sides:
                    url = await stack.enter_async_context(serving(side.fleet.service))
                    side.connection = await stack.enter_async_context(connected(url))
                await _caught_up(log)
                begun = log.figures()
                await _asked(sides, log, rounds=rounds, changes=changes, seed=seed)
                await _caught_up(log)
        figures = log.figures()
    off, on = ({verb: each.told() for verb, each in side.times.items()} for side in sides)
    return {
        "nodes": nodes,
        "gpus": nodes * GPUS,
        "rounds": rounds,
        "changes_per_pod": changes,
        "without": off,
        "with": on,
        "ratio": {
            verb: {key: round(on[verb][key] / value, 3) for key, value in off[verb].items()}
            for verb in VERBS
        },
        "log": {
            "calls": figures.records - begun.records,
            "lost": figures.lost,
            "bytes_a_call": round((figures.bytes - begun.bytes) / max(1, figures.records), 1),
        },
        "made": msgspec.to_builtins(made.here()),
    }


async def _asked(
    sides: Sequence[Side], log: DecisionLog, *, rounds: int, changes: int, seed: int
) -> None:
    for turn, first in enumerate(range(0, rounds, IN_A_ROW)):
        for side in sides if turn % 2 else reversed(sides):
            if not side.logs:
                await _caught_up(log)
            for at in range(first, min(first + IN_A_ROW, rounds)):
                await _ask_about(at, side, changes=changes, seed=seed)


async def _ask_about(at: int, side: Side, *, changes: int, seed: int) -> None:
    """Let a side hear what comes before a pod, and ask it about that: each side about the same."""
    kind = KINDS[at % len(KINDS)]
    launcher = pod(f"vm-{at:06}", kind[0], amount=kind[1])
    names = random.Random(f"{seed} {at}").sample(side.fleet.names, len(side.fleet.names))
    side.renew_some(at)
    side.fleet.hear(side.fleet.some_changed(changes))
    if at >= GONE_AFTER:
        side.fleet.service.knowledge.pod_gone(f"uid-vm-{at - GONE_AFTER:06}")
    await side.ask(launcher, names)


async def _caught_up(log: DecisionLog) -> None:
    """Wait until the log's thread has taken all there is."""
    for _ in range(MOST_LOOKS):
        if not log.figures().waiting:
            return
        await asyncio.sleep(LOOK_SECONDS)
    raise TimeoutError("the decision log does not catch up")


def text(row: dict[str, Any]) -> str:
    """Return a table for people."""
    lines = [f"{row['nodes']} nodes x {GPUS} GPUs, {row['rounds']} pods"]
    for verb in VERBS:
        lines.append(f"  {verb}")
        for key, ratio in row["ratio"][verb].items():
            off, on = row["without"][verb][key], row["with"][verb][key]
            lines.append(f"    {key:11} {off:9.3f}  with the log {on:9.3f}  x {ratio:6.3f}")
    told = row["log"]
    lines.append(f"  {told['calls']} calls, {told['bytes_a_call']} bytes each, {told['lost']} lost")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print what was found at each size."""
    return sizes.main(
        argv,
        prog="benchmarks.decision_log",
        description=__doc__,
        rounds=600,
        measure=measure,
        text=text,
    )


if __name__ == "__main__":
    sys.exit(main())
