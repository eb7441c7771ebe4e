"""``python -m tests.fuzz``: many hostile requests against the hooks; exits 1 if any did harm."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import uvloop

from tests import results
from tests.fuzz.campaign import campaign


def main() -> int:
    """Run a campaign and print its verdict."""
    arguments = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    arguments.add_argument("--requests", type=int, default=20_000, help="how many to send")
    arguments.add_argument("--seed", type=int, default=1, help="which")
    arguments.add_argument("--out", type=Path, metavar="FILE", help="keep the result there as JSON")
    asked = arguments.parse_args()
    begun = time.monotonic()
    verdict = uvloop.run(campaign(requests=asked.requests, seed=asked.seed))
    print(verdict)
    took = time.monotonic() - begun
    print(f"took {took:.0f} s")
    if asked.out:
        results.keep(asked.out, **verdict.results(), seconds=round(took))
    return 1 if verdict.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
