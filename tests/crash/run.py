"""Running cases, each in processes and a directory of its own, so many at a time."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.crash.case import Case, Play, Verdict
from tests.crash.home import Home
from tests.crash.stem import Lives, grow

LONGEST_SECONDS = 60.0
"""After so long a case is killed whose own clock has not ended it."""
LOG_LINES = 40
_SHARED = Path("/dev/shm")
"""In memory, where there is such: syncing files takes no time there."""


def run(
    cases: Iterable[Case], library: Path, *, at_once: int, keep: bool = False
) -> Iterator[tuple[Case, Verdict]]:
    """Yield each case with its verdict as soon as that is known.

    This process must have no threads, nor have opened gRPC or NVML. With *keep*, a case with
    something wrong leaves its directory, which its verdict then names.
    """
    gc.freeze()  # what is forked copies the pages that its collector touches
    waiting = iter(cases)
    running: dict[int, tuple[Case, Path, float]] = {}
    more = True
    while more or running:
        while more and len(running) < at_once:
            case = next(waiting, None)
            if case is None:
                more = False
                break
            root = Path(
                tempfile.mkdtemp(prefix="crash-", dir=_SHARED if _SHARED.is_dir() else None)
            )
            running[_begun(case, root, library)] = case, root, time.monotonic() + LONGEST_SECONDS
        for pid in [pid for pid in running if os.waitpid(pid, os.WNOHANG)[0]]:
            case, root, _ = running.pop(pid)
            verdict = _verdict(root)
            if keep and verdict.wrong:
                yield case, verdict.left_in(root)
            else:
                shutil.rmtree(root)
                yield case, verdict
        for pid, (_, _, until) in running.items():
            if time.monotonic() > until:
                os.killpg(pid, signal.SIGKILL)
        time.sleep(0.005)


def _begun(case: Case, root: Path, library: Path) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    os.setpgid(0, 0)
    _redirect(root / "case.log")
    home = Home(root, case.mode, library)

    def site(lives: Lives) -> None:
        verdict = asyncio.run(Play(home, case, lives).run())
        (root / "verdict").write_bytes(pickle.dumps(verdict))

    os._exit(_code(lambda: grow(home, site)))


def _code(what: Callable[[], int]) -> int:
    return 1 if what() else 0


def _redirect(path: Path) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(file, sys.stdout.fileno())
    os.dup2(file, sys.stderr.fileno())


def _verdict(root: Path) -> Verdict:
    path = root / "verdict"
    if path.exists():
        verdict: Verdict = pickle.loads(path.read_bytes())
        return verdict
    said = (root / "case.log").read_text().splitlines()[-LOG_LINES:]
    return Verdict(wrong=("the case itself has broken off:", *said))
