"""How long filter and prioritize take over HTTP, beside a floor that decides nothing.

The floor is the same server with the same decoding: it looks each name up in a dict and fills the
same replies in the same proportions. Nodes have 8 simulated H100, filled at random; pods are
launchers of some 20 kB, each new, of types that fit and of such that fit nowhere. Before each pod
some nodes change, and a score of pods is chosen for but not bound.

Like with like: floor and hooks are asked about each pod one after the other, by turns the one first
and the other; before the floor is asked, all that the changes ask of the service is done, so that
none of it is counted as the floor's. What the floor looks up lies in memory as it does for Tangram:
names side by side, equal reasons once. Threads change places as often as in ``serve``.

``sampled`` is the same with 500 of the names, as kube-scheduler samples them; ``handler`` reads,
decides and writes without HTTP; ``cached`` repeats a pod while nothing changes, with and without.
``first_ms`` is the first pod of a type that nodes offer, ``unforeseen_ms`` that of one for which
all nodes are to be judged. ``explaining`` is ``sampled`` while one explanation after the other is
worked out, without the pauses that the extender itself makes between them.

    python -m benchmarks.hooks --nodes 100,1000,5000,15000
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import random
import statistics
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop

from benchmarks import made
from benchmarks.fleet import GPUS, RESOURCE, TYPES, KnownFleet, ready
from benchmarks.floor import Answers, Floor, Known
from benchmarks.http import Connection, Times, connected
from benchmarks.launchers import pod, question
from extender import wire
from extender.cli.garbage import collected_between_answers
from extender.cli.switching import threads_take_short_turns
from extender.server import serving

SAMPLE = 500  # of 5,000 nodes kube-scheduler asks about so many by default
IN_FLIGHT = 20  # chosen and not yet bound: 2 (p50) to 35 pods were seen to be
PAUSE_SECONDS = 0.005  # to be served by a busy machine like one that has just been waiting
VERBS = ("filter", "prioritize")
FITTING = tuple((RESOURCE.format(vgpu), 1) for vgpu in TYPES)
REJECTED = (
    (RESOURCE.format("7-80C"), GPUS),
    (RESOURCE.format("4-40C"), GPUS),
    ("nvidia.com/GRID_A100-1-5C", 1),
)

Kind = tuple[str, int]
"""A resource, and how many of it a pod asks for."""


class Bench:
    """The hooks and the floor, each behind a server of its own, asked in turns."""

    def __init__(self, nodes: int, *, changes: int, seed: int) -> None:
        self.fleet = KnownFleet(nodes, seed)
        self.floor = Floor()
        self._chance = random.Random(seed)
        self._changes = changes
        self._pods = itertools.count()
        self._in_flight: deque[str] = deque()
        self._connections: dict[str, Connection] = {}
        self._side_by_side = " ".join(self.fleet.names).split(" ")
        self._known: dict[Kind, Known] = {}
        self._turns = itertools.cycle((True, False))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve both, and judge nodes in the background as the extender does."""
        plain = ready()
        plain.hooks = self.floor
        async with (
            collected_between_answers(self.fleet.service),
            serving(self.fleet.service) as hooks_url,
            serving(plain) as floor_url,
            connected(hooks_url) as hooks,
            connected(floor_url) as floor,
        ):
            self._connections = {"hooks": hooks, "floor": floor}
            keeping_up = asyncio.create_task(self.fleet.service.keep_up(), name="keep-up")
            try:
                self._catch_up()
                yield
            finally:
                keeping_up.cancel()

    async def ask(
        self, kind: Kind, names: Sequence[str], times: dict[str, dict[str, Times]]
    ) -> None:
        """Send a new pod through filter and prioritize, as kube-scheduler would, after changes.

        The floor is asked about the same pod before or after, once it knows anything to answer.
        """
        launcher = pod(self._new_pod(), kind[0], amount=kind[1])
        changed = self.fleet.some_changed(self._changes)
        self.fleet.stay_current()
        known, hooks_first = self._known.get(kind), next(self._turns)
        if known is not None and not hooks_first:
            await self._ask_floor(launcher, names, times["floor"], known)
        answers = await self._ask_hooks(launcher, names, times["hooks"], changed)
        if known is None:
            known = self._known[kind] = Known(self._side_by_side, *answers)
            hooks_first = True
        if hooks_first:
            # By what the last pod of the kind was answered: made just now, it would be in caches.
            await self._ask_floor(launcher, names, times["floor"], known)
        known.learn(*answers)

    async def _ask_hooks(
        self,
        launcher: dict[str, Any],
        names: Sequence[str],
        times: dict[str, Times],
        changed: Sequence[bytes],
    ) -> Answers:
        """Ask right after changes: what they ask of the service is the hooks' to bear."""
        await asyncio.sleep(PAUSE_SECONDS)
        self.fleet.hear(changed)
        return await self._through("hooks", launcher, names, times)

    async def _ask_floor(
        self,
        launcher: dict[str, Any],
        names: Sequence[str],
        times: dict[str, Times],
        known: Known,
    ) -> Answers:
        """Ask once the service has nothing left to do."""
        self._catch_up()
        self.floor.reasons, self.floor.scores = known.reasons, known.scores
        await asyncio.sleep(PAUSE_SECONDS)
        return await self._through("floor", launcher, names, times)

    async def _through(
        self,
        side: str,
        launcher: dict[str, Any],
        names: Sequence[str],
        times: dict[str, Times],
    ) -> Answers:
        """Ask filter, and prioritize about the nodes that pass, if these are several."""
        connection, body = self._connections[side], question(launcher, names)
        answer = await times["filter"].of(connection, "filter", body)
        filtered = msgspec.json.decode(answer, type=wire.FilterResult)
        assert not filtered.error
        passed = filtered.node_names or ()
        if len(passed) < 2:
            return filtered, ()
        body = question(launcher, passed)
        answer = await times["prioritize"].of(connection, "prioritize", body)
        return filtered, msgspec.json.decode(answer, type=tuple[wire.HostPriority, ...])

    def _catch_up(self) -> None:
        """Have all classes judged for which nodes have changed."""
        deque(self.fleet.service.knowledge.fleet.catching_up(at_once=64), maxlen=0)

    def _new_pod(self) -> str:
        """Name a pod; the one that has been in flight for longest is gone."""
        name = f"vm-{next(self._pods):06}"
        self._in_flight.append(f"uid-{name}")
        if len(self._in_flight) > IN_FLIGHT:
            self.fleet.service.knowledge.pod_gone(self._in_flight.popleft())
        return name

    def names(self, count: int) -> list[str]:
        """Return so many names, or all, in arbitrary order."""
        return self._chance.sample(self.fleet.names, min(count, len(self.fleet.names)))

    async def over_http(self, count: int, rounds: int) -> dict[str, Any]:
        """Measure hooks and floor with so many names in each request."""
        times = {side: {verb: Times() for verb in VERBS} for side in ("hooks", "floor")}
        kinds = itertools.cycle((*FITTING, *REJECTED))
        for kind in itertools.islice(kinds, rounds):
            await self.ask(kind, self.names(count), times)
        hooks, floor = (
            {verb: each.told() for verb, each in times[side].items()} for side in ("hooks", "floor")
        )
        return {
            "names": min(count, len(self.fleet.names)),
            **hooks,
            "floor": floor,
            "to_floor": {
                verb: {
                    quantile.removesuffix("_ms"): round(value / floor[verb][quantile], 2)
                    for quantile, value in hooks[verb].items()
                }
                for verb in VERBS
            },
        }

    async def cached(self, kind: Kind, count: int, rounds: int) -> dict[str, float]:
        """Measure filter for one pod again and again while nothing changes."""
        body = question(pod(self._new_pod(), kind[0], amount=kind[1]), self.names(count))
        times = Times()
        await self._connections["hooks"].post("filter", body)
        for _ in range(rounds):
            await times.of(self._connections["hooks"], "filter", body)
        return times.told()

    async def explaining(self, count: int, rounds: int) -> dict[str, Any]:
        """Measure hooks and floor while explanations are worked out in a thread."""
        service, took, enough = self.fleet.service, Times(), asyncio.Event()

        async def explain() -> None:
            before = ""
            while not enough.is_set():
                latest = next(reversed(service.knowledge.requests.values())).pod
                if latest.uid == before:  # what it was told last is kept for a moment
                    await asyncio.sleep(0.001)
                    continue
                before = latest.uid
                with took.taken():
                    await service.explainer.explain(latest.namespace, latest.name)

        working = asyncio.create_task(explain(), name="explain")
        found = await self.over_http(count, rounds)
        enough.set()
        await working  # cancelled, it would go on in its thread beside what is measured next
        seconds = statistics.median(took.seconds) if took.seconds else None
        return {**found, "explanations": len(took.seconds), "explanation_p50_s": seconds}

    def rejected_again(self, count: int, rounds: int) -> dict[str, dict[str, float]]:
        """Measure reading, rejecting and writing, for one pod while nothing changes."""
        kind, times = REJECTED[0], Times()
        body = question(pod(self._new_pod(), kind[0], amount=kind[1]), self.names(count))
        for _ in range(rounds):
            with times.taken():
                wire.encode(self.fleet.service.hooks.filter(wire.decode(body, wire.ExtenderArgs)))
        return {"filter": times.told()}

    def handler(self, count: int, rounds: int) -> dict[str, dict[str, float]]:
        """Measure reading, deciding and writing; the hook itself judges what has just changed."""
        hooks, times = self.fleet.service.hooks, {verb: Times() for verb in VERBS}
        for kind in itertools.islice(itertools.cycle((*FITTING, *REJECTED)), rounds):
            launcher, names = pod(self._new_pod(), kind[0], amount=kind[1]), self.names(count)
            for verb, decide in (("filter", hooks.filter), ("prioritize", hooks.prioritize)):
                body = question(launcher, names)
                if verb == "filter":
                    self._catch_up()
                    self.fleet.stay_current()
                    self.fleet.hear(self.fleet.some_changed(self._changes))
                with times[verb].taken():
                    wire.encode(decide(wire.decode(body, wire.ExtenderArgs)))
        return {verb: each.told() for verb, each in times.items()}

    async def first(self, kinds: Sequence[Kind]) -> float:
        """Return the median time of the first pod of each type, in milliseconds."""
        took = []
        for kind in kinds:
            times = {side: {verb: Times() for verb in VERBS} for side in ("hooks", "floor")}
            await self.ask(kind, self.fleet.names, times)
            took += times["hooks"]["filter"].seconds
        return round(statistics.median(took) * 1000, 3)


async def measure(nodes: int, *, rounds: int, changes: int, seed: int) -> dict[str, Any]:
    """Return all that is measured at one size."""
    bench = Bench(nodes, changes=changes, seed=seed)
    async with bench.open():
        row = {
            "nodes": nodes,
            "gpus": nodes * GPUS,
            "changes_per_pod": changes,
            "rounds": rounds,
            "first_ms": await bench.first(FITTING),
            "unforeseen_ms": await bench.first(REJECTED),
            **await bench.over_http(nodes, rounds),
            "sampled": await bench.over_http(SAMPLE, rounds),
            "explaining": await bench.explaining(SAMPLE, rounds),
            "cached": {
                "all_names": await bench.cached(FITTING[0], nodes, rounds),
                "sampled": await bench.cached(FITTING[0], SAMPLE, rounds),
                "sampled_rejected": await bench.cached(REJECTED[0], SAMPLE, rounds),
            },
            "handler": {
                "all_names": bench.handler(nodes, rounds),
                "sampled": bench.handler(SAMPLE, rounds),
                "sampled_rejected": bench.rejected_again(SAMPLE, rounds),
            },
        }
    return {**row, "made": msgspec.to_builtins(made.here())}


def text(row: dict[str, Any]) -> str:
    """Return a table for people."""
    lines = [
        f"{row['nodes']} nodes x {GPUS} GPUs; the first pod of a type: {row['first_ms']} ms"
        f", unforeseen {row['unforeseen_ms']} ms"
    ]
    sample = f"{row['sampled']['names']} names"
    beside = f"{sample}, beside {row['explaining']['explanations']} explanations"
    parts = ((sample, row["sampled"]), (beside, row["explaining"]))
    for what, part in (("all names", row), *parts):
        for verb in VERBS:
            figures = (part[verb], part["floor"][verb], part["to_floor"][verb])
            lines.append(f"  {verb} of {what}")
            for quantile, *told in zip(figures[0], *map(_values, figures), strict=True):
                lines.append("    {:11} {:9.3f}  floor {:9.3f}  x {:5.2f}".format(quantile, *told))
    for what in ("cached", "handler"):
        for name, part in row[what].items():
            for verb, told in part.items() if what == "handler" else [("filter", part)]:
                shown = "  ".join(f"{key} {value:8.3f}" for key, value in told.items())
                lines.append(f"  {what:7} {verb:10} {name:16} {shown}")
    return "\n".join(lines)


def _values(told: dict[str, float]) -> list[float]:
    return list(told.values())


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print what was found at each size."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        prog="benchmarks.hooks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", default="100,1000", help="sizes, separated by commas")
    parser.add_argument("--rounds", type=int, default=300, help="pods of each measurement")
    parser.add_argument("--changes", type=int, default=8, help="nodes that change before each pod")
    parser.add_argument("--seed", type=int, default=1, help="what the nodes hold")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    parser.add_argument("--out", type=Path, help="keep what was found in this file")
    options = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    rows = []
    for nodes in map(int, options.nodes.split(",")):
        print(f"measuring {nodes} nodes x {GPUS} GPUs", file=sys.stderr)
        work = measure(nodes, rounds=options.rounds, changes=options.changes, seed=options.seed)
        with threads_take_short_turns():
            rows.append(row := uvloop.run(work))
        print(json.dumps(row) if options.output == "json" else text(row), flush=True)
    if options.out:
        made.keep(options.out, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
