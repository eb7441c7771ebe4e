"""What was measured of VMs' waiting, in a file for programs and in a page for people."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from tests.e2e.process import ROOT
from tests.results import keep

FILE = ROOT / "benchmarks/results/harvester.json"

PREFACE = """\
# On Harvester: from the wish for a vGPU to the bound launcher

Seconds by the clock; `make bench-harvester` measures them anew. One node, one A100 40GB, {count}
VMs one after the other ({runs} runs of each way, so many at once as the table says, each a cluster
of its own). {note}

*By hand* an administrator who loses no moment cuts the GPU for all of them, as part of the first
one's time; then enables a vGPU, creates the VM, and the cluster's own scheduler binds it. With
*Tangram* the VM is created, and that is all; its GPU instance is made for it, which by hand is
there already for each further VM. MIG mode and virtual functions are on before. Wishes come at
random moments of Harvester's round of looks, 30 s long, or 1 s where there is to be no lag. *Deaf*
is a Harvester that does not look at an object sooner because it was annotated: that it does is read
in its source, and has not been tried.

**Real**: API server, etcd, kube-scheduler, Tangram's extender and agent as processes, under the
overlay's accounts, with its webhook and its scheduler's configuration. **Fake**: Harvester's
controllers, webhooks and device plugins, KubeVirt, the kubelet, NVML and the kernel's files. These
answer at once: what a real GPU, driver and kubelet take comes on top, by hand and with Tangram, and
no person is as quick as this administrator.
"""


class Way(msgspec.Struct, frozen=True):
    """How VMs get their vGPUs, and how often Harvester looks, in seconds."""

    name: str
    scan_seconds: float
    deaf: bool = False

    @property
    def by_hand(self) -> bool:
        """Whether an administrator does it."""
        return self.name == "by hand"


class Run(msgspec.Struct, frozen=True):
    """The ``seconds`` that each VM has waited, in the order in which they came.

    ``at_once`` is how many runs were under way at a time.
    """

    harvester: str
    way: Way
    seed: int
    at_once: int
    seconds: tuple[float, ...]

    @property
    def row(self) -> tuple[str, Way]:
        """What it is compared with others by."""
        return self.harvester, self.way


class Kept(msgspec.Struct, frozen=True):
    """What a file has; ``note`` says what else is to be known of how it was measured."""

    note: str = ""
    runs: tuple[Run, ...] = ()


def write(out: Path, runs: Sequence[Run], *, note: str = "") -> None:
    """Keep *runs* in *out* in the place of such as were there, and what all come to beside it."""
    before = msgspec.json.decode(out.read_bytes(), type=Kept) if out.exists() else Kept()
    anew = {each.row for each in runs}
    rounded = [
        msgspec.structs.replace(each, seconds=tuple(round(s, 2) for s in each.seconds))
        for each in runs
    ]
    every = [each for each in before.runs if each.row not in anew] + rounded
    every.sort(key=lambda run: (*_order(run.way), run.seed))
    every.sort(key=lambda run: run.harvester)
    kept = Kept(note or before.note, tuple(every))
    keep(out, **msgspec.to_builtins(kept))
    out.with_suffix(".md").write_text("\n".join(page(kept)) + "\n")


def page(kept: Kept) -> Iterator[str]:
    """Yield the page's lines."""
    first = kept.runs[0]
    same = sum(each.row == first.row for each in kept.runs)
    yield PREFACE.format(count=len(first.seconds), runs=same, note=kept.note)
    yield "| Harvester | looks every | at once | way | first VM | each further VM |"
    yield "|---|---|---|---|---|---|"
    for row in dict.fromkeys(each.row for each in kept.runs):
        mine = [each for each in kept.runs if each.row == row]
        harvester, way = row
        begun = _spread(each.seconds[0] for each in mine)
        later = _spread(seconds for each in mine for seconds in each.seconds[1:])
        cells = (harvester, f"{way.scan_seconds:g} s", mine[0].at_once, way.name, begun, later)
        yield f"| {' | '.join(map(str, cells))} |"
    yield ""
    yield "Medians, and in brackets the least and the most."


def _order(way: Way) -> tuple[float, bool, str]:
    return -way.scan_seconds, not way.by_hand, way.name


def _spread(seconds: Iterable[float]) -> str:
    found = sorted(seconds)
    return f"{statistics.median(found):.1f} ({found[0]:.1f} to {found[-1]:.1f})"
