"""What was freed is given back to the system, not kept for the next list."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

RESIDENT = """
import sys
from pathlib import Path
from extender.cli import heap

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024

if sys.argv[1] == "bound":
    assert heap.bound()
pages = b"x" * (20 << 20)
del pages  # glibc takes blocks of this size from its heap from now on, unless it is bound
before = resident()
items = [bytes(20_000) + b"%d" % n for n in range(2_000)]
items = items[:1]
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps it")
def test_what_a_list_took_is_given_back() -> None:
    left = {
        how: int(subprocess.check_output([sys.executable, "-c", RESIDENT, how]))
        for how in ("bound", "unbound")
    }

    assert left["bound"] < 12 << 20 < left["unbound"]
