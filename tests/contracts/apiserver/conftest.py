from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeagent.api import keys
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import GPU_NODES, Kind, NotFound
from nodeagent.apiserver.rest import RestApi
from tests.contracts.apiserver.exam import Exam
from tests.e2e.controlplane.cluster import control_plane
from tests.e2e.controlplane.commands import Options
from tests.e2e.controlplane.identities import ADMIN
from tests.e2e.controlplane.required import required_binaries

NAMESPACES = Kind("", "v1", "namespaces", namespaced=False)
DEFINITIONS = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", namespaced=False)
SHIPPED_DEFINITIONS = Path(__file__).parents[3] / "manifests/base/crd"
SERVED_WITHIN_SECONDS = 30.0

MINIMAL_DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"{keys.GPU_NODE_PLURAL}.{keys.GROUP}"},
    "spec": {
        "group": keys.GROUP,
        "scope": "Cluster",
        "names": {
            "plural": keys.GPU_NODE_PLURAL,
            "singular": "gpunode",
            "kind": keys.GPU_NODE_KIND,
        },
        "versions": [
            {
                "name": keys.VERSION,
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


def definition() -> dict[str, Any]:
    """Return the GpuNode definition that is shipped, or one that lets everything through."""
    for file in sorted(SHIPPED_DEFINITIONS.glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            if document and document["kind"] == "CustomResourceDefinition":
                return dict(document)
    return MINIMAL_DEFINITION


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


@pytest.fixture(
    params=["memory", pytest.param("real", marks=pytest.mark.xdist_group("control-plane"))]
)
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
