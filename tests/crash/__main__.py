"""``make crash``: kill the agent everywhere, and print what came of it."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from nodeagent.api.gpunode import Mode
from tests.crash.case import Case, Verdict
from tests.crash.matrix import cases, sample
from tests.crash.run import run
from tests.fakes.nvml.library import NoCompiler, build

MODES = (Mode.CONTAINER, Mode.VGPU_MDEV, Mode.VGPU_VFIO)


def main() -> None:
    options = _options()
    try:
        library = build(options.build)
    except NoCompiler as missing:
        sys.exit(str(missing))
    begun = time.monotonic()
    chosen = [Case.parse(options.replay)] if options.replay else _chosen(library, options)
    done = [
        _told(case, verdict, len(chosen), number, keep=options.keep)
        for number, (case, verdict) in enumerate(
            run(chosen, library, at_once=options.jobs, keep=options.keep), 1
        )
    ]
    _summarise(done, time.monotonic() - begun)
    sys.exit(any(verdict.wrong for _, verdict in done))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make crash CRASH_ARGS=…", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the second kills, and of samples")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose names have it")
    parser.add_argument("--sample", type=int, default=0, metavar="COUNT", help="so many of them")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--replay", default="", metavar="CASE", help="this case alone")
    parser.add_argument(
        "--build",
        type=Path,
        default=Path(tempfile.gettempdir()) / "tangram-fake-nvml",
        help="where the fake NVML library is compiled to, if it is not there yet",
    )
    parser.add_argument("--keep", action="store_true", help="the directories of failing cases")
    parser.add_argument("--list", action="store_true", help="print the cases and run none")
    return parser.parse_args()


def _chosen(library: Path, options: argparse.Namespace) -> Sequence[Case]:
    every = [each for each in matrix(library, options.seed) if options.only in str(each)]
    if options.sample:
        every = list(sample(every, options.sample, seed=options.seed))
    if options.list:
        print(*every, sep="\n")
        sys.exit()
    return every


def matrix(library: Path, seed: int) -> Iterator[Case]:
    """Yield every case, having counted what an undisturbed story crosses in each mode."""
    for case, verdict in run([Case(mode) for mode in MODES], library, at_once=1):
        if verdict.wrong:
            sys.exit("\n".join([f"the undisturbed story of {case} fails:", *verdict.wrong]))
        yield from cases(case.mode, verdict.crossed, seed=seed)


def _told(
    case: Case, verdict: Verdict, count: int, number: int, *, keep: bool
) -> tuple[Case, Verdict]:
    """Say at once what is wrong, and now and then how far it has got."""
    if verdict.wrong:
        print(f"WRONG {case}", *verdict.wrong, sep="\n    ")
        print(f"    again: make crash CRASH_ARGS='--replay {case} --keep'", flush=True)
    elif number % 50 == 0:
        print(f"{number} of {count}", flush=True)
    return case, verdict


def _summarise(done: Sequence[tuple[Case, Verdict]], seconds: float) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    for case, verdict in done:
        if case.first is None:
            continue
        kind = case.first.kind if verdict.killed else "not reached"
        counts[case.mode, kind] += 1
        counts[case.mode, "killed twice"] += verdict.killed == 2
    kinds = ["nvml", "sysfs", "disk", "plugin", "api", "not reached", "killed twice"]
    print(f"{'':12}", *(f"{kind:>12}" for kind in kinds))
    for mode in MODES:
        print(f"{mode:12}", *(f"{counts[mode, kind]:12}" for kind in kinds))
    wrong = sum(bool(verdict.wrong) for _, verdict in done)
    killed = sum(verdict.killed > 0 for _, verdict in done)
    refused = sum(verdict.refusals for _, verdict in done)
    print(
        f"{len(done)} cases in {seconds:.0f} s, in {killed} of them the agent was killed,"
        f" {refused} pods were refused: {wrong} wrong"
    )


if __name__ == "__main__":
    main()
