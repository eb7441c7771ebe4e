"""``make chaos-e2e``: faults on a real control plane under load, and what came of them."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvloop

from tests import results
from tests.e2e.chaos import report
from tests.e2e.chaos.campaign import Campaign, Round
from tests.e2e.chaos.faults import Fault, faults
from tests.e2e.chaos.load import Pace
from tests.e2e.chaos.site import site
from tests.e2e.controlplane.binaries import Binaries, Missing, locate

NO_CONTROL_PLANE = 2


def main() -> int:
    """Run what the command line says; return 1 if a promise was broken or the load too low."""
    options = _options()
    if options.list:
        for each in faults():
            print(f"{each.name:16} {each.says}, {each.seconds:g} s")
        return 0
    binaries = locate()
    if isinstance(binaries, Missing):
        print(binaries.reason, file=sys.stderr)
        return NO_CONTROL_PLANE
    chosen = [each for each in faults() if each.name in (options.faults or [each.name])]
    logs = options.logs or Path(tempfile.mkdtemp(prefix="tangram-chaos-"))
    logs.mkdir(parents=True, exist_ok=True)
    rounds: list[Round] = []
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_run(options, binaries, chosen, logs, rounds))
        except KeyboardInterrupt:
            print(f"interrupted after {len(rounds)} rounds", file=sys.stderr)
    print(report.text(report.rows(chosen, rounds)))
    if options.out:
        results.keep(options.out, **report.results(options.seed, chosen, rounds))
    failed = report.failures(rounds)
    if failed:
        print(*failed, f"the logs are in {logs}", sep="\n", file=sys.stderr)
    elif not options.logs:
        shutil.rmtree(logs)
    return 1 if failed else 0


async def _run(
    options: argparse.Namespace,
    binaries: Binaries,
    chosen: Sequence[Fault],
    logs: Path,
    rounds: list[Round],
) -> None:
    """Run the campaign, adding each round to *rounds* when it is over."""
    chance = random.Random(options.seed)
    pace = Pace(vms_per_second=options.vms_per_second, hooks_per_second=options.hooks_per_second)
    begun = time.monotonic()

    def tell(what: str) -> None:
        print(f"{time.monotonic() - begun:6.1f} s  {what}", file=sys.stderr, flush=True)

    tell(f"seed {options.seed}, logs in {logs}")
    async with site(logs, binaries, nodes=options.nodes, gpus=options.gpus) as running:
        campaign = Campaign(running, pace=pace, chance=chance, tell=tell)
        async with campaign.prepared():
            for fault in itertools.islice(_drawn(chosen, chance), options.rounds):
                rounds.append(await campaign.round(fault))
                if options.rounds is None and time.monotonic() - begun > options.minutes * 60:
                    break


def _drawn(chosen: Sequence[Fault], chance: random.Random) -> Iterator[Fault]:
    """Yield every fault once, in some order, then each once more, and so on."""
    while True:
        yield from chance.sample(chosen, len(chosen))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos-e2e CHAOS_E2E_ARGS=…", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=5.0, help="no round begins later; 5 by default"
    )
    parser.add_argument("--rounds", type=int, help="so many instead, however long it takes")
    parser.add_argument("--seed", type=int, default=0, help="of the load and the faults' order")
    parser.add_argument(
        "--faults",
        nargs="+",
        choices=[each.name for each in faults()],
        metavar="FAULT",
        help="these kinds only; see --list",
    )
    parser.add_argument("--list", action="store_true", help="print the kinds and run none")
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the result there, as JSON")
    parser.add_argument("--logs", type=Path, metavar="DIRECTORY", help="an empty one, to be kept")
    parser.add_argument("--nodes", type=int, default=6)
    parser.add_argument("--gpus", type=int, default=4, help="of each node")
    parser.add_argument("--vms-per-second", type=float, default=Pace().vms_per_second)
    parser.add_argument("--hooks-per-second", type=float, default=Pace().hooks_per_second)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
