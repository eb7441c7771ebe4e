"""What others' webhooks make of a pod after ours is looked at, too.

One installation is tried by all, so each leaves it as it was.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from nodeagent.api import keys
from tests.e2e.admitted import VGPU, Tenant, pod, tenancy
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tenant() -> AsyncIterator[Tenant]:
    async with tenancy() as made:
        yield made


def late(**spec: Any) -> dict[str, Any]:
    """A pod that asks for nothing of ours until somebody else's webhook has it do so."""
    container = {"name": "c", "image": "none"}
    return {
        "metadata": {"generateName": "late-", "labels": {"late": "true"}},
        "spec": {"containers": [container], **spec},
    }


@asynccontextmanager
async def another_webhook(tenant: Tenant) -> AsyncIterator[dict[str, Any]]:
    """Serve a webhook of somebody else's, by which late pods ask for a vGPU; yield its object.

    The API server asks it after Tangram's, for it goes by the order of their names.
    """
    amounts = {"limits": {VGPU: "1"}, "requests": {VGPU: "1"}}
    change = [{"op": "add", "path": "/spec/containers/0/resources", "value": amounts}]

    async def review(request: web.Request) -> web.Response:
        asked = await request.json()
        answer = {
            "uid": asked["request"]["uid"],
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(json.dumps(change).encode()).decode(),
        }
        about = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        return web.json_response(about | {"response": answer})

    pair = tenant.plane.authority.issue("theirs")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pair.public, pair.key)
    app = web.Application()
    app.router.add_post("/", review)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        trusted = base64.b64encode(tenant.plane.ca_file.read_bytes()).decode()
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
        yield {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "zz-theirs"},
            "webhooks": [
                {
                    "name": "pods.example.com",
                    "admissionReviewVersions": ["v1"],
                    "clientConfig": {"url": f"https://127.0.0.1:{port}/", "caBundle": trusted},
                    "objectSelector": {"matchLabels": {"late": "true"}},
                    "rules": [rule | {"operations": ["CREATE"]}],
                    "sideEffects": "None",
                }
            ],
        }
    finally:
        await runner.cleanup()


async def test_what_another_webhook_makes_of_a_pod_after_ours_is_looked_at_too(
    tenant: Tenant,
) -> None:
    async with another_webhook(tenant) as theirs:
        path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
        assert (await tenant.asks("POST", path, theirs))[0] == 201

        async def refused() -> bool:
            """Tell whether the API server has heard of their webhook, and of the policy."""
            return (await tenant.tries(late()))[0] == 403

        await until(refused, within=60, every=0.1)
        as_if_seen = late(schedulerName="tangram")
        as_if_seen["metadata"]["labels"][keys.MANAGED_LABEL] = "true"
        elsewhere = {**as_if_seen, "spec": as_if_seen["spec"] | {"schedulerName": "theirs"}}
        there = {**as_if_seen, "spec": as_if_seen["spec"] | {"nodeName": "node-1"}}
        for body, reason in (
            (late(), "after Tangram's webhook had let it pass"),
            (late(schedulerName="tangram"), "after Tangram's webhook had let it pass"),
            (elsewhere, "goes to the scheduler tangram"),
            (there, "must leave spec.nodeName empty"),
        ):
            status, said = await tenant.tries(body)
            assert (status, reason in said["message"]) == (403, True), said
            assert "'tangram-created-pods'" in said["message"]
        # Whoever knows what will be made of it says so at once, and gets no more than others.
        status, made = await tenant.tries(as_if_seen)
        assert (status, VGPU in str(made["spec"])) == (201, True), made
        assert (await tenant.asks("DELETE", f"{path}/zz-theirs"))[0] == 200


async def test_no_pod_comes_with_a_decision(tenant: Tenant) -> None:
    decided = {"annotations": {keys.DECISION_ANNOTATION: "[]"}}
    plain = pod("cpu")
    plain["metadata"] |= decided

    async def refused() -> bool:
        return (await tenant.tries(plain))[0] == 403

    await until(refused, within=60, every=0.1)
    assert "comes with the Binding" in (await tenant.tries(plain))[1]["message"]
    copied = pod(VGPU)  # such as a copy of one that runs
    copied["metadata"] |= decided
    status, made = await tenant.tries(copied)
    assert (status, made["metadata"].get("annotations", {})) == (201, {})
