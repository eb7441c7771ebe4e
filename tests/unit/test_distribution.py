"""What the extra ``agent`` installs, and what the agent's process loads: no solver, no arrays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEAVY = {"ortools", "numpy", "pandas", "scipy", "matplotlib"}


def needed(name: str, extras: frozenset[str]) -> set[str]:
    """Return every distribution that *name* with *extras* installs here, itself included."""
    found: set[str] = set()
    waiting = [(canonicalize_name(name), extras)]
    seen = set()
    while waiting:
        each = waiting.pop()
        if each not in seen:
            seen.add(each)
            found.add(each[0])
            waiting += [(canonicalize_name(r.name), frozenset(r.extras)) for r in direct(*each)]
    return found


def direct(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """Yield what a distribution asks for itself, on this machine."""
    for requirement in map(Requirement, requires(name) or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            yield requirement


def test_the_extra_agent_installs_neither_the_solver_nor_arrays() -> None:
    installed = needed("tangram-vgpu", frozenset({"agent"}))

    assert installed >= {"grpcio", "nvidia-ml-py", "protobuf", "aiohttp"}
    assert not installed & HEAVY
    assert needed("tangram-vgpu", frozenset({"extender"})) >= {"ortools", "numpy", "pandas"}


def test_the_agents_process_loads_none_of_them() -> None:
    program = (
        "import sys, nodeagent.__main__; print(*{name.partition('.')[0] for name in sys.modules})"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()

    assert {"nodeagent", "grpc", "pynvml"} <= set(loaded)
    assert not {*loaded} & {*HEAVY, "extender", "pytest"}
