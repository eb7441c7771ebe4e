from __future__ import annotations

import pytest

from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import PODS, ApiError, PatchType
from nodeagent.node_pods import active_pods
from tests.unit.nodeagent.station import NAME, Station


async def test_the_active_pods_are_those_of_the_node_that_have_not_ended(
    station: Station,
) -> None:
    pods = {name: await station.create_pod(name, {}) for name in ("here", "over", "elsewhere")}
    for name in ("here", "over"):
        await station.bind_pod(name)
    binding = {"metadata": {"name": "elsewhere"}, "target": {"name": "n2"}}
    await station.api.create(
        PODS, binding, namespace="default", name="elsewhere", subresource="binding"
    )
    await station.api.patch(
        PODS,
        "over",
        {"status": {"phase": "Succeeded"}},
        patch_type=PatchType.MERGE,
        namespace="default",
        subresource="status",
    )

    assert await active_pods(station.api, NAME, timeout=1.0) == {pods["here"].uid}


async def test_an_api_server_that_does_not_answer_is_not_a_node_without_pods() -> None:
    api = InMemoryApi()

    async def fail(_: object) -> None:
        raise ApiError(500, "no")

    api.disturbance = fail
    with pytest.raises(ApiError):
        await active_pods(api, NAME, timeout=1.0)
