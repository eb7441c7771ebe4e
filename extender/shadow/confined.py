"""What a shadow's process may take: the processor last of all, and so much memory.

It shares a container with the extender. Were it to take what that may have, the kernel would end
both (``memory.oom.group``); so it fails by itself before, and is the first that is ended.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from pathlib import Path

import structlog

log = structlog.get_logger()

NICE = 19
"""Of processes that want a processor, this one goes last."""

MOST_BYTES = 1 << 30
"""Of memory of its own (RLIMIT_DATA); manifests/SHADOW.md has how much was measured."""

FIRST_TO_END = 1000  # proc(5), oom_score_adj

_KEPT = ("LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")
_OF_THE_EXTENDER = Path(__file__).parents[2]


def confine(pid: int, most_bytes: int = MOST_BYTES) -> None:
    """Bound what a process of ours takes, before it has taken much; go on where that cannot be."""
    try:
        os.setpriority(os.PRIO_PROCESS, pid, NICE)
        resource.prlimit(pid, resource.RLIMIT_DATA, (most_bytes, most_bytes))
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(FIRST_TO_END))
    except OSError as error:
        log.warning("shadow_not_confined", error=str(error))


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Return what of *our* environment is for it: where its code is, and nothing that is secret."""
    kept = {name: ours[name] for name in _KEPT if name in ours}
    path = [str(_OF_THE_EXTENDER), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(path), "OPENBLAS_NUM_THREADS": "1"}
