"""Plants every bug, or those named, and prints a table of what caught which."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nodeagent.logs import log_to_stderr
from tests.unit.harvester.mutants import MUTANTS, Mutant, named
from tests.unit.harvester.mutants.judge import judged


def main(names: Sequence[str]) -> int:
    """Print the table; return the exit status: 0 where each was caught as it should be."""
    log_to_stderr("critical")
    mutants = [named(each) for each in names] or list(MUTANTS)
    with tempfile.TemporaryDirectory() as directory:
        caught = [_hunted(Path(directory), each) for each in mutants]
    print(f"{sum(caught)} of {len(mutants)} caught")
    return int(not all(caught))


def _hunted(directory: Path, mutant: Mutant) -> bool:
    home = directory / mutant.name
    home.mkdir()
    with mutant.planted():
        found = asyncio.run(judged(home, directory / "fake-nvml", mutant.version, mutant.scenario))
    mark = "caught" if found in mutant.breaks else "MISSED"
    row = f"{mutant.name:16} {mark} {found or 'nothing broken':10} {mutant.says}"
    print(f"{row}\n{'':24}{found.detail}".rstrip(), flush=True)
    return found in mutant.breaks


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
