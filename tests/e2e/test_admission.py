"""A real API server asks the webhook: about which pods, and what comes of it while it is away.

One installation is tried by all, so each leaves it as it was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from nodeagent.api import keys, resources
from tests.e2e.admitted import PODS, VGPU, Answer, Tenant, pod, tenancy

pytestmark = pytest.mark.asyncio(loop_scope="module")

OURS = (
    VGPU,
    "nvidia.com/mig-1g.10gb",
    "nvidia.com/mig-1g.10gb.me",
    "nvidia.com/mig-7g.80gb",
    "nvidia.com/GRID_A100D-1-10CME",
    "nvidia.com/NVIDIA_RTX_Pro_6000_Blackwell_DC-1-24QGFX",
)
OTHERS = (
    "cpu",
    "nvidia.com/gpu",
    "nvidia.com/gpu.shared",
    "nvidia.com/mig-1g.10gb.shared",
    "nvidia.com/GA102GL_A10",
    "nvidia.com/NVIDIA_A10-8Q",
    "devices.kubevirt.io/kvm",
    "example.com/mig-1g.10gb",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tenant() -> AsyncIterator[Tenant]:
    async with tenancy() as made:
        yield made


def refused_unasked(answer: Answer) -> bool:
    """Tell whether the API server refused because the webhook could not be asked."""
    status, said = answer
    return status == 500 and 'failed calling webhook "pods.tangram.dev"' in said["message"]


async def test_pods_of_ours_are_put_right_and_others_are_as_they_came(tenant: Tenant) -> None:
    for resource in OURS:
        for first in (False, True):
            status, made = await tenant.tries(pod(resource, first=first))
            assert status == 201, made
            assert made["metadata"]["labels"] == {keys.MANAGED_LABEL: "true"}
            assert made["spec"]["schedulerName"] == "tangram"
            again = {k: made[k] for k in ("metadata", "spec")}
            del again["metadata"]["uid"]
            _, same = await tenant.tries(again)
            assert (same["metadata"]["labels"], same["spec"]) == (
                made["metadata"]["labels"],
                made["spec"],
            )
    for resource in OTHERS:
        assert not resources.ours(resource)
        free: dict[str, Any] = {"nodeName": "node-1", "schedulerName": "theirs"}
        status, made = await tenant.tries(pod(resource, **free))
        assert status == 201, made
        assert "labels" not in made["metadata"]
        assert free.items() <= made["spec"].items()


async def test_a_pod_that_goes_past_the_extender_is_refused_and_told_why(tenant: Tenant) -> None:
    for spec, reason in (
        ({"nodeName": "node-1"}, "must leave spec.nodeName empty"),
        ({"schedulerName": "theirs"}, "the scheduler 'theirs' does not ask Tangram"),
        ({"nodeName": "node-1", "schedulerName": "tangram"}, "must leave spec.nodeName empty"),
    ):
        for first in (False, True):
            status, said = await tenant.tries(pod(VGPU, first=first, **spec))
            assert status == 403
            assert f"vGPU: a pod that asks for {VGPU}" in said["message"]
            assert reason in said["message"]


async def test_names_and_labels_of_any_content_end_in_an_answer_about_them(tenant: Tenant) -> None:
    for text in ("../..", "\n\x00", "x" * 100_000, "é\U0001f4a5", '"}]}', "<script>"):
        wild = [
            pod(VGPU) | {"metadata": metadata}
            for metadata in (
                {"name": text},
                {"generateName": text, "labels": {text: text}},
                {"name": "vm", "labels": {keys.MANAGED_LABEL: text}},
                {"name": "vm", "annotations": {text: text, keys.DECISION_ANNOTATION: text}},
            )
        ]
        wild += [pod(f"nvidia.com/{text}-1-10C"), pod(VGPU, schedulerName=text)]
        for body in wild:
            status, said = await tenant.tries(body)
            assert status in (201, 400, 403, 422), (status, said)
            if status == 201:
                assert said["metadata"]["labels"][keys.MANAGED_LABEL] == "true"
                assert keys.DECISION_ANNOTATION not in said["metadata"].get("annotations", {})


def crowded(resource: str, containers: int) -> dict[str, Any]:
    """A pod of many containers, each of which asks for much."""
    amounts = {f"example.com/{index}": "1" for index in range(20)} | {"cpu": "1", "memory": "1Mi"}
    many = [
        {"name": f"c{index}", "image": "none", "resources": {"limits": {resource: "1"} | amounts}}
        for index in range(containers)
    ]
    return {"metadata": {"generateName": "crowd-"}, "spec": {"containers": many}}


async def test_the_largest_pods_are_told_apart_too(tenant: Tenant) -> None:
    status, said = await tenant.tries(crowded(VGPU, 400))
    assert status == 201, said
    assert said["metadata"]["labels"] == {keys.MANAGED_LABEL: "true"}
    async with tenant.without_webhook():
        for resource in ("example.com/x", "nvidia.com/gpu", "nvidia.com/mig-1g.10gb.shared"):
            status, said = await tenant.tries(crowded(resource, 400))
            assert status == 201, said


async def test_while_the_webhook_is_away_only_new_pods_of_ours_wait_for_it(tenant: Tenant) -> None:
    status, vm = await tenant.asks("POST", PODS, pod(VGPU))
    assert status == 201
    async with tenant.without_webhook():
        for resource in OURS:
            for first in (False, True):
                assert refused_unasked(await tenant.tries(pod(resource, first=first)))
        for resource in OTHERS:
            for first in (False, True):
                status, said = await tenant.tries(pod(resource, first=first))
                assert status == 201, said
        itself = f"{PODS}/{vm['metadata']['name']}"
        assert (await tenant.asks("PATCH", itself, {"metadata": {"labels": {"x": "y"}}}))[0] == 200
        assert (await tenant.asks("DELETE", itself))[0] == 200

    assert (await tenant.tries(pod(VGPU)))[0] == 201
