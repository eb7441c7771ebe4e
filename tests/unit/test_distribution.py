"""What the extra ``agent`` installs, and what the programs load: no more than they need."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import requires

import pytest
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


@functools.cache
def loaded(*modules: str) -> frozenset[str]:
    """Return the names of all that a process has loaded once it has loaded *modules*."""
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return frozenset(told.split())


def test_the_agents_process_loads_none_of_them() -> None:
    names = loaded("nodeagent.__main__", "nodeagent.apiserver.credentials")

    packages = {name.partition(".")[0] for name in names}
    assert {"nodeagent", "grpc", "pynvml", "kubernetes_asyncio"} <= packages
    assert not packages & {*HEAVY, "extender", "pytest"}


@pytest.mark.parametrize("program", ["extender.cli.main", "nodeagent.__main__"])
def test_what_needs_no_cluster_does_not_wait_for_all_that_there_is_in_one(program: str) -> None:
    """Most of the time that kubernetes_asyncio takes to load goes into classes of objects."""
    names = loaded(program)

    assert "nodeagent.apiserver.rest" in names
    assert "kubernetes_asyncio" not in names


def test_nothing_loads_pandas_before_a_simulation_asks_for_its_bounds() -> None:
    names = loaded("extender.cli.main", "extender.shadow.process")

    assert {"extender.simulation.solver", "extender.packing.search", "ortools"} <= names
    assert "pandas" not in names
