from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import GPU_NODES, Kind, NotFound
from nodeagent.apiserver.rest import RestApi
from tests.contracts.apiserver.exam import Exam
from tests.e2e.controlplane.binaries import Binaries, locate
from tests.e2e.controlplane.cluster import control_plane
from tests.e2e.controlplane.commands import Options
from tests.e2e.controlplane.identities import ADMIN
from tests.e2e.controlplane.required import REQUIRED, required_binaries

NAMESPACES = Kind("", "v1", "namespaces", namespaced=False)
DEFINITIONS = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", namespaced=False)
DEFINITION = Path(__file__).parents[3] / "manifests/base/crd/gpunodes.yaml"
SERVED_WITHIN_SECONDS = 30.0


def definition() -> dict[str, Any]:
    """Return the GpuNode definition that is shipped."""
    found: dict[str, Any] = yaml.safe_load(DEFINITION.read_text())
    return found


@pytest.fixture(scope="session")
def kubeconfig() -> Iterator[Path]:
    """Run a kube-apiserver that knows GpuNodes, for the whole session."""
    options = Options(authorization="AlwaysAllow")
    running = control_plane(required_binaries(), options=options)
    # A loop of its own: the tests' loops come and go.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        plane = runner.run(running.__aenter__())
        try:
            file = plane.kubeconfig(ADMIN)
            runner.run(serve_gpu_nodes(file))
            yield file
        finally:
            runner.run(running.__aexit__(None, None, None))


async def serve_gpu_nodes(kubeconfig: Path) -> None:
    async with RestApi(kubeconfig=kubeconfig) as api:
        await api.create(DEFINITIONS, definition())
        deadline = time.monotonic() + SERVED_WITHIN_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(NotFound):
                await api.list(GPU_NODES)
                return
            await asyncio.sleep(0.05)
    pytest.fail("the API server does not serve GpuNodes")


def servers() -> Iterator[Any]:
    """Yield who sits the exam: the real server only where there is one, or has to be."""
    yield "memory"
    if isinstance(locate(), Binaries) or os.environ.get(REQUIRED) == "1":
        yield pytest.param("real", marks=pytest.mark.xdist_group("control-plane"))


@pytest.fixture(params=servers())
def server(request: pytest.FixtureRequest) -> Path | None:
    """Return where the examined server is, None for the twin."""
    if request.param == "memory":
        return None
    file: Path = request.getfixturevalue("kubeconfig")
    return file


@pytest.fixture
async def exam(server: Path | None) -> AsyncIterator[Exam]:
    ours = f"exam-{uuid.uuid4().hex[:8]}"
    if server is None:
        twin = InMemoryApi()
        yield Exam(twin, ours, shortest_watch=0.01, forget=twin.compact)
        return
    async with RestApi(kubeconfig=server) as api:
        await api.create(NAMESPACES, {"metadata": {"name": ours}})
        yield Exam(api, ours, shortest_watch=1.0)
