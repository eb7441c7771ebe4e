"""What the rounds come to: medians, Tangram beside the others, what holds, and all as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import made
from benchmarks.made import Made
from benchmarks.scheduler.meter import Row

NAME = "scheduler"
SCENARIOS = ("plain", "saturated", "sustained")
DEARER = 1.1  # what Tangram's algorithm time may be, as a multiple of the pass-through's
PACE_KEPT = 0.95  # of the pods a second asked for, so many were created
EQUAL = 1.05  # so much two rounds of the same differ at the least
GROWN, SOME = 1.25, 5  # more waited in the second half than in the first, by that and a few pods


class Claim(msgspec.Struct, frozen=True):
    """Something that is to hold, and what was found of it."""

    claim: str
    found: str
    holds: bool


class Result(msgspec.Struct):
    """All that was measured; ``each`` round's rows by mode, ``took_s`` seconds altogether."""

    made: Made
    nodes: int
    pods: int
    seconds: float
    per_second: float
    rounds: int
    took_s: float
    each: dict[str, list[Row]]

    @property
    def median(self) -> dict[str, Row]:
        """The middle of all rounds, by mode, scenario and figure."""
        return {mode: _medians(rows) for mode, rows in self.each.items()}


def told(result: Result) -> dict[str, Any]:
    """Return all of it as it is printed and stored."""
    median = result.median
    return {
        **msgspec.to_builtins(result),
        "median": median,
        "tangram_to_passthrough": {
            scenario: _ratios(median, "passthrough", scenario)
            for scenario in ("saturated", "sustained")
        },
        "tangram_to_none": {"plain": _ratios(median, "none", "plain")},
        "claims": msgspec.to_builtins(list(claims(result))),
    }


def _medians(rows: Sequence[Row]) -> Row:
    return {
        scenario: {
            what: round(statistics.median(row[scenario][what] for row in rows), 3)
            for what in rows[0][scenario]
        }
        for scenario in rows[0]
    }


def _ratios(median: Mapping[str, Row], other: str, scenario: str) -> Row:
    ours, theirs = median["tangram"][scenario], median[other][scenario]
    figures = ("algorithm_ms", "algorithm_ms_per_pod", "pods_per_s")
    return {what: round(ours[what] / theirs[what], 2) for what in figures if theirs[what]}


def claims(result: Result) -> Iterator[Claim]:
    """Judge what is to be shown."""
    median = result.median
    for scenario in ("saturated", "sustained"):
        ratio = _ratios(median, "passthrough", scenario)["algorithm_ms"]
        yield Claim(
            f"{scenario}: kube-scheduler's algorithm takes at most {DEARER} times as long for an"
            " attempt as with an extender that decides nothing",
            f"{ratio} times",
            ratio <= DEARER,
        )
    paced = median["tangram"]["sustained"]
    first, second = paced["backlog_first"], paced["backlog_second"]
    kept = paced["created_per_s"] >= PACE_KEPT * result.per_second
    yield Claim(
        f"{result.per_second:g} pods a second are placed without a growing backlog",
        f"{paced['created_per_s']} a second, of which at most {first:g} waited in the first half"
        f" and {second:g} in the second",
        kept and second <= GROWN * first + SOME,
    )
    ours, noise = (_to_none(result, mode) for mode in ("tangram", "passthrough"))
    middle = round(statistics.median(ours), 2)
    yield Claim(
        "pods that want no vGPU are scheduled as without any extender: in the middle of the rounds"
        " they take at most as much longer as with the pass-through in one of them, for neither"
        f" is asked about them; {EQUAL} times is equal",
        f"{middle} times ({_span(ours)} in the rounds), with the pass-through {_span(noise)}",
        middle <= max(EQUAL, *noise),
    )


def _to_none(result: Result, mode: str) -> list[float]:
    """Return, round by round, an attempt's time as a multiple of that with no extender."""
    rounds = zip(result.each[mode], result.each["none"], strict=False)
    found = [
        (here["plain"]["algorithm_ms"], none["plain"]["algorithm_ms"]) for here, none in rounds
    ]
    return [round(here / none, 2) for here, none in found if none]


def _span(found: Sequence[float]) -> str:
    return f"{min(found)} to {max(found)}"


def markdown(result: Result) -> str:
    """Return the report."""
    return "\n".join(_lines(result)) + "\n"


def _lines(result: Result) -> Iterator[str]:
    median = result.median
    yield "# Under a real kube-scheduler"
    yield ""
    yield (
        f"{result.nodes} nodes x 8 GPUs, {result.pods} pods in each batch,"
        f" {result.per_second:g} a second for {result.seconds:g} s; medians of {result.rounds}"
        f" rounds, {result.took_s:.0f} s in all. {made.text(result.made)}."
    )
    yield ""
    yield "| scenario | extender | pods/s | attempts | algorithm, ms | per pod, ms |"
    yield "|---|---|---:|---:|---:|---:|"
    for scenario in SCENARIOS:
        for mode, found in median.items():
            row = found[scenario]
            figures = (row["attempts"], row["algorithm_ms"], row["algorithm_ms_per_pod"])
            shown = " | ".join(f"{each:g}" for each in (row["pods_per_s"], *figures))
            yield f"| {scenario} | {mode} | {shown} |"
    yield ""
    ratio = _ratios(median, "passthrough", "saturated")["pods_per_s"]
    yield f"Saturated, Tangram places {ratio} times as many pods a second as the pass-through."
    yield ""
    yield "What each process worked, in milliseconds for each pod:"
    yield ""
    parts = ("scheduler", "extender", "apiserver", "etcd", "agents")
    yield f"| scenario | extender | {' | '.join(parts)} |"
    yield f"|---|---|{'---:|' * len(parts)}"
    for scenario in SCENARIOS:
        for mode, found in median.items():
            worked = (found[scenario].get(f"cpu_{part}") for part in parts)
            shown = " | ".join("" if each is None else f"{each:g}" for each in worked)
            yield f"| {scenario} | {mode} | {shown} |"
    yield ""
    yield "| sustained | waiting, first half | second half | bound after p50, ms | p99, ms |"
    yield "|---|---:|---:|---:|---:|"
    for mode, found in median.items():
        row = found["sustained"]
        names = ("backlog_first", "backlog_second", "bound_p50_ms", "bound_p99_ms")
        yield f"| {mode} | {' | '.join(f'{row[name]:g}' for name in names)} |"
    yield ""
    yield "| to be shown | found | holds |"
    yield "|---|---|---|"
    for each in claims(result):
        yield f"| {each.claim} | {each.found} | {'yes' if each.holds else '**no**'} |"


def save(folder: Path, result: Result) -> None:
    """Store the result and its report, ``scheduler.json`` and ``scheduler.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    document = msgspec.json.format(msgspec.json.encode(told(result)), indent=1)
    (folder / f"{NAME}.json").write_bytes(document + b"\n")
    (folder / f"{NAME}.md").write_text(markdown(result))
