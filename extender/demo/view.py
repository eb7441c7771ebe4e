"""What the demo shows a person: progress, the map of every GPU's slices, and what happened."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from extender.demo.outcome import GpuMap, Outcome
from nodeagent.api.geometry import Geometry

_FREE = "·"
_COLOURS = ("cyan", "magenta", "blue", "green", "yellow", "red", "white")


def show(console: Console, outcome: Outcome, geometry: Geometry) -> None:
    """Print the map at the last arrival, and the account."""
    console.print()
    for line in slice_map(outcome, geometry):
        console.print(line, soft_wrap=True)
    console.print()
    console.print(_profiles(outcome))
    console.print()
    for sentence in _sentences(outcome):
        console.print(Text(sentence), soft_wrap=True)


def slice_map(outcome: Outcome, geometry: Geometry) -> Iterator[Text]:
    """Draw each GPU's memory slices: an instance is its profile's letter and a line."""
    symbols = _symbols(geometry)
    yield Text(
        f"Memory slices of every GPU at the last arrival"
        f" ({outcome.slices_used} of {outcome.slices_total} in use)",
        style="bold",
    )
    for node, gpus in groupby(outcome.map, key=lambda gpu: gpu.node):
        line = Text(f"  {node}  ")
        for gpu in gpus:
            line.append_text(_gpu(gpu, geometry, symbols))
            line.append("  ")
        yield line
    legend = Text("  ")
    for profile in geometry.profiles:
        letter, colour = symbols[profile.id]
        legend.append(letter, style=f"bold {colour}")
        legend.append(f" {profile.name}   ")
    legend.append(f"{_FREE} free")
    yield Text()
    yield legend


def _gpu(gpu: GpuMap, geometry: Geometry, symbols: dict[int, tuple[str, str]]) -> Text:
    drawn = Text()
    at = 0
    for profile_id, placement in gpu.instances:
        letter, colour = symbols[profile_id]
        drawn.append(_FREE * (placement.start - at), style="dim")
        drawn.append(letter + "━" * (placement.size - 1), style=colour)
        at = placement.end
    drawn.append(_FREE * (geometry.memory_slices - at), style="dim")
    return drawn


def _symbols(geometry: Geometry) -> dict[int, tuple[str, str]]:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return {
        profile.id: (letters[i % len(letters)], _COLOURS[i % len(_COLOURS)])
        for i, profile in enumerate(geometry.profiles)
    }


def _profiles(outcome: Outcome) -> Table:
    table = Table(box=None, padding=(0, 2), title_justify="left")
    for heading in ("profile", "requested", "placed", "refused"):
        table.add_column(heading, justify="left" if heading == "profile" else "right")
    for name, count in outcome.profiles.items():
        table.add_row(
            name, str(count.requested), str(count.placed), str(count.requested - count.placed)
        )
    return table


def _sentences(outcome: Outcome) -> Iterator[str]:
    share = 100 * outcome.placed / max(1, outcome.requested)
    yield (
        f"{outcome.placed} of {outcome.requested} VMs were placed ({share:.1f} %), each tried once."
        f" Nodes x GPUs: {outcome.nodes} x {outcome.gpus_per_node} {outcome.model}."
    )
    if outcome.refusals:
        reasons = ", ".join(f"{count} {code}" for code, count in outcome.refusals.items())
        yield f"Refused for good: {reasons}."
    yield (
        f"filter answered in {outcome.filter_ms.p50:.1f} ms (p99 {outcome.filter_ms.p99:.1f}),"
        f" bind with its GPU instance in {outcome.bind_ms.p50:.1f} ms"
        f" (p99 {outcome.bind_ms.p99:.1f})."
    )
    yield (
        f"Counted from the GPUs themselves: {outcome.double_promised} slices promised twice,"
        f" {outcome.lost_assignments} assignments lost, {outcome.leaked_instances} instances left"
        f" after all VMs had gone."
    )
    if not outcome.sound:
        yield "THIS MUST NOT BE: a promise was broken; please report it with the seed."
