"""What decision log and shadow cost: filter and prioritize with and without, by turns, in one run.

Two services that know the same nodes and hear of the same changes, each behind a server of its own
in this process; one keeps a log, whose thread encodes, compresses and writes beside the answers.
With --shadow it has a policy beside it as well, in a process that another thread tells of all. Both
are asked about the same pods, a hundred in a row, by turns the one first and the other: the one
without not before the other's threads and the shadow have nothing left to do, for they share the
interpreter's lock and the processors. The first hundred are not counted: what they find out about
GPUs serves both. Pods, nodes and changes are those of ``benchmarks.turns``.
Told are the times, the ratio of each quantile, and what the log had to do: bytes a call, and
whether it lost any.

    python -m benchmarks.decision_log --nodes 100,1000 --shadow first-fit
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
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
from extender.cli.policies import in_force
from extender.decision_log import DecisionLog
from extender.policy import InForce, PolicyName
from extender.server import serving
from extender.settings import Settings
from extender.shadow import Evidence, news
from extender.shadow.beside import Beside
from extender.shadow.hearing import Hearing, standing

IN_A_ROW = 100  # pods, a second or more: what of it the thread writes afterwards is a tenth at most
LOOK_SECONDS, MOST_LOOKS = 0.05, 1_200
SETTLED_SECONDS = 2.5  # without a report: a shadow tells every second while there is news
PODS_A_RENEWAL = 100  # in 10 s, on a machine that others use
KINDS = (*FITTING, *REJECTED)
GONE_AFTER = 20  # pods that are chosen for and not bound


class Following:
    """A policy beside a service, as ``tangram serve --shadow-policy`` has it."""

    def __init__(self, side: Side, policy: InForce) -> None:
        knowledge = side.fleet.service.knowledge
        self._hearing = Hearing(time.monotonic)
        begins = news.Begins(at=time.monotonic(), policy=policy, live=knowledge.in_force.version)
        told = standing(knowledge, begins)
        knowledge.seam.join(self._hearing)
        self._beside = Beside(told, self._hearing, knowledge.way)

    async def caught_up(self) -> None:
        """Wait until it is told all there is, and reports nothing new."""
        last: Evidence | None = None
        for _ in range(MOST_LOOKS):
            await asyncio.sleep(SETTLED_SECONDS)
            now = self._beside.evidence
            if now is not None and now is last and self._beside.told:
                return
            last = now
        raise TimeoutError("the shadow does not catch up")

    def end(self) -> dict[str, Any]:
        """End it, and return what it had to do."""
        self._beside.end()
        evidence, over = self._beside.evidence, self._hearing.over
        return {
            "lost": self._hearing.waiting.refused,
            "heard": self._hearing.waiting.heard,
            "over": "" if over is None else over.value,
            "failed": self._beside.failed,
            "seconds": 0.0 if evidence is None else round(evidence.seconds, 1),
        }


class Side:
    """A service with its nodes, and what asking it took."""

    def __init__(self, nodes: int, seed: int, log: DecisionLog | None) -> None:
        self.logs = log is not None
        self.fleet = KnownFleet(nodes, seed, ready(witness=log))
        if log is not None:
            log.follow(self.fleet.service.knowledge)
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


async def measure(
    nodes: int, *, rounds: int, changes: int, seed: int, shadow: InForce | None = None
) -> dict[str, Any]:
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
                beside = None if shadow is None else Following(sides[1], shadow)
                await _caught_up(log, beside)
                pods = range(IN_A_ROW + rounds)
                ask = partial(_asked, sides, log, beside, changes=changes, seed=seed)
                await ask(pods[:IN_A_ROW])
                for side in sides:
                    side.times = {verb: Times() for verb in VERBS}
                await _caught_up(log, beside)
                begun = log.figures()
                await ask(pods[IN_A_ROW:])
                await _caught_up(log, beside)
                followed = None if beside is None else await asyncio.to_thread(beside.end)
        figures = log.figures()
    with_shadow = {} if followed is None else {"shadow": followed}
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
            "bytes_a_call": round(
                (figures.bytes - begun.bytes) / max(1, figures.records - begun.records), 1
            ),
        },
        **with_shadow,
        "made": msgspec.to_builtins(made.here()),
    }


async def _asked(
    sides: Sequence[Side],
    log: DecisionLog,
    beside: Following | None,
    pods: range,
    *,
    changes: int,
    seed: int,
) -> None:
    for turn, first in enumerate(range(0, len(pods), IN_A_ROW)):
        for side in sides if turn % 2 else reversed(sides):
            if not side.logs:
                await _caught_up(log, beside)
            for at in pods[first : first + IN_A_ROW]:
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


async def _caught_up(log: DecisionLog, beside: Following | None) -> None:
    """Wait until nothing is left to do of what goes on beside the answers."""
    if beside is not None:
        await beside.caught_up()
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
            lines.append(f"    {key:11} {off:9.3f}  with {on:9.3f}  x {ratio:6.3f}")
    told = row["log"]
    lines.append(f"  {told['calls']} calls, {told['bytes_a_call']} bytes each, {told['lost']} lost")
    if beside := row.get("shadow"):
        whole = beside["over"] or "whole"
        lines.append(f"  shadow: {beside['heard']} calls, {beside['lost']} lost, {whole}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print what was found at each size."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--shadow", default="", help="a policy beside the side with the log")
    options, rest = parser.parse_known_args(argv)
    shadow = in_force(options.shadow)[0] if options.shadow else None
    return sizes.main(
        rest,
        prog="benchmarks.decision_log",
        description=__doc__,
        rounds=600,
        measure=partial(measure, shadow=shadow),
        text=text,
    )


if __name__ == "__main__":
    sys.exit(main())
