"""Agents and controllers that end at every step they come to, the first times it is taken.

What a step is to an agent: a write to the API server, and of a file, before and after. That calls
of NVML end a process is the fake library's doing. Steps of a controller are named by itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nodeagent.apiserver.protocol import LEASES, Body, Kind, PatchType
from nodeagent.apiserver.rest import RestApi
from tests.crash.points import AFTER, API, BEFORE
from tests.fakes.nvml.machine import Machine

TIMES = 2
"""So often a step is the end of whoever takes it: at first, and when all is as ever."""

CREATE, DESTROY = "nvmlDeviceCreateGpuInstanceWithPlacement", "nvmlGpuInstanceDestroy"
"""The calls by which an agent changes a GPU."""


class Killed(Exception):
    """The controller ends here."""


class EndingController:
    """Ends the controller that it hears of, by :meth:`step`; ``taken`` counts its steps."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()

    def step(self, name: str) -> None:
        """Take note of a step, and end there if it is new."""
        self.taken[name] += 1
        if self.taken[name] <= TIMES:
            raise Killed(name)


class EndingAgent:
    """Ends this process; *taken* is where it and its successors write down their steps."""

    def __init__(self, taken: Path) -> None:
        before = taken.read_text().splitlines() if taken.exists() else []
        self._counts = Counter(before)
        self._taken = os.open(taken, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def cross(self, kind: str, name: str, when: str) -> None:
        """Take note of a step, and end there if it is new."""
        step = f"{kind}: {when} {name}"
        self._counts[step] += 1
        os.write(self._taken, f"{step}\n".encode())
        if self._counts[step] <= TIMES:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextlib.contextmanager
    def around(self, name: str) -> Iterator[None]:
        """Enclose a write to the API server."""
        self.cross(API, name, BEFORE)
        yield
        self.cross(API, name, AFTER)


class CountedApi(RestApi):
    """An API server to which each write is a step. The agent's Lease is not worth dying for."""

    def __init__(self, kubeconfig: Path, ending: EndingAgent) -> None:
        super().__init__(kubeconfig=kubeconfig)
        self._ending = ending

    async def create(self, kind: Kind, body: Body, **options: Any) -> bytes:
        """Create an object."""
        with self._step("create", kind, options):
            return await super().create(kind, body, **options)

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Body | Sequence[Body],
        *,
        patch_type: PatchType,
        **options: Any,
    ) -> bytes:
        """Patch an object."""
        with self._step("patch", kind, options):
            return await super().patch(kind, name, patch, patch_type=patch_type, **options)

    async def delete(self, kind: Kind, name: str, **options: Any) -> None:
        """Delete an object."""
        with self._step("delete", kind, options):
            await super().delete(kind, name, **options)

    def _step(
        self, verb: str, kind: Kind, options: Mapping[str, Any]
    ) -> contextlib.AbstractContextManager[None]:
        if kind == LEASES:
            return contextlib.nullcontext()
        whole = "/".join(filter(None, (kind.plural, options.get("subresource", ""))))
        return self._ending.around(f"{verb} {whole}")


def end_in_calls(machine: Machine) -> None:
    """Let each call that changes a GPU be the end of the agent, before it is done and when it is.

    The second fault is counted from the first one, or from the beginning: either way it is one of
    the next two calls.
    """
    for symbol in (CREATE, DESTROY):
        machine.kill(symbol, done=False)
        machine.kill(symbol, done=True, after=1)


def ended_in_calls(machine: Machine) -> Counter[str]:
    """Return how often each of these calls was somebody's end."""
    changing = [each for each in machine.calls() if each.symbol in (CREATE, DESTROY)]
    return Counter(each.symbol for each in changing if each.code is None)
