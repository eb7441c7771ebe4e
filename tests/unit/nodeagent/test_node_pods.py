from __future__ import annotations

import pytest

from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import PODS, ApiError, PatchType
from nodeagent.kubelet import KubeletError
from nodeagent.node_pods import gpu_pods
from tests.unit.nodeagent.builders import SMALL
from tests.unit.nodeagent.station import NAME, Station


async def test_pods_that_ask_for_gpu_instances_are_those_of_the_node_that_have_not_ended(
    station: Station,
) -> None:
    names = ("here", "over", "elsewhere")
    pods = {name: await station.create_pod(name, {SMALL: 1}) for name in names}
    await station.create_pod("asks for nothing", {"cpu": 1})
    for name in ("here", "over", "asks for nothing"):
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

    assert await gpu_pods(station.api, NAME, timeout=1.0) == {pods["here"]}


async def test_an_api_server_that_does_not_answer_is_not_a_node_without_pods() -> None:
    api = InMemoryApi()

    async def fail(_: object) -> None:
        raise ApiError(500, "no")

    api.disturbance = fail
    with pytest.raises(KubeletError):
        await gpu_pods(api, NAME, timeout=1.0)
