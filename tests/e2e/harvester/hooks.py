"""Harvester's webhooks as the API server calls them."""

from __future__ import annotations

import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from nodeagent.apiserver.protocol import ApiServer, Kind
from tests.e2e.controlplane.cluster import ControlPlane
from tests.e2e.controlplane.processes import LOOPBACK, held_port
from tests.e2e.harvester.writes import AGENTS_ACCOUNT
from tests.fakes.pcidevices import log as deeds
from tests.fakes.pcidevices import webhooks
from tests.fakes.pcidevices.log import AGENT, Log
from tests.fakes.pcidevices.names import PCI_DEVICES, VGPUS, VMS, Version

DEVICES = "devices.harvesterhci.io"
LONGEST = 10_000
"""Objects of a kind, at most."""


class Webhooks:
    """Judges requests for *version*, with what *api* knows; refusals go into *log*.

    So do VGPUDevices that are disabled without a uuid, and MigConfigurations whose counts stay
    frozen: whoever names the state that a write was decided on is judged by that very state, for
    the API server asks only where it is the current. And so does whatever VMs come to name as
    theirs. *is_empty* tells of a GPU, by its objects' name, whether it holds no GPU instance.
    """

    def __init__(
        self, api: ApiServer, log: Log, version: Version, is_empty: Callable[[str], bool]
    ) -> None:
        self._api = api
        self._log = log
        self._version = version
        self._is_empty = is_empty

    @contextlib.asynccontextmanager
    async def serving(self, plane: ControlPlane) -> AsyncIterator[None]:
        """Serve, and have the API server call, until the block ends."""
        pair = plane.authority.issue("pcidevices-webhook")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pair.public, pair.key)
        app = web.Application()
        app.add_routes([web.post("/validate", self._validate), web.post("/mutate", self._mutate)])
        runner = web.AppRunner(app)
        await runner.setup()
        with held_port() as socket:
            port = socket.getsockname()[1]
            await web.TCPSite(runner, LOOPBACK, port, ssl_context=context, reuse_port=True).start()
        try:
            await self._register(plane, port)
            yield
        finally:
            await runner.cleanup()

    async def _register(self, plane: ControlPlane, port: int) -> None:
        bundle = base64.b64encode(plane.ca_file.read_bytes()).decode()

        def configuration(kind: str, path: str, *rules: Mapping[str, Any]) -> dict[str, Any]:
            return {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": kind,
                "metadata": {"name": "pcidevices"},
                "webhooks": [
                    {
                        "name": "pcidevices.harvesterhci.io",
                        "clientConfig": {
                            "url": f"https://{LOOPBACK}:{port}/{path}",
                            "caBundle": bundle,
                        },
                        "rules": list(rules),
                        "sideEffects": "None",
                        "failurePolicy": "Fail",
                        "admissionReviewVersions": ["v1"],
                    }
                ],
            }

        def rule(group: str, plural: str, *operations: str) -> dict[str, Any]:
            return {
                "apiGroups": [group],
                "apiVersions": ["*"],
                "resources": [plural],
                "operations": list(operations),
            }

        validating = configuration(
            "ValidatingWebhookConfiguration",
            "validate",
            rule(DEVICES, "vgpudevices", "UPDATE", "DELETE"),
            rule(DEVICES, "sriovgpudevices", "UPDATE", "DELETE"),
            rule(DEVICES, "migconfigurations", "UPDATE"),
            rule("kubevirt.io", "virtualmachines", "CREATE", "UPDATE"),
        )
        mutating = configuration(
            "MutatingWebhookConfiguration",
            "mutate",
            rule("kubevirt.io", "virtualmachines", "CREATE"),
        )
        async with plane.client() as http:
            for body in (validating, mutating):
                plural = body["kind"].lower() + "s"
                path = f"/apis/admissionregistration.k8s.io/v1/{plural}"
                async with http.post(path, json=body) as answer:
                    assert answer.status == 201, await answer.text()

    async def _validate(self, request: web.Request) -> web.Response:
        review = await request.json()
        asked = review["request"]
        refusal = await self._judged(asked)
        if refusal:
            subject = f"{asked['resource']['resource']} {asked['name']}"
            actor = asked["userInfo"]["username"]
            self._log.add(actor, deeds.REFUSED, subject, refusal)
        elif careless := self._careless(asked):
            actor = AGENT if asked["userInfo"]["username"] == AGENTS_ACCOUNT else "somebody"
            self._log.add(actor, careless, f"{asked['resource']['resource']} {asked['name']}")
        elif asked["resource"]["resource"] == VMS.plural:
            before = set(webhooks.allocated(asked["oldObject"])) if asked.get("oldObject") else ()
            for device in set(webhooks.allocated(asked["object"])).difference(before):
                actor = asked["userInfo"]["username"]
                self._log.add(actor, deeds.NAMED, f"vgpudevices {device}", asked["name"])
        answer: dict[str, Any] = {"uid": asked["uid"], "allowed": not refusal}
        if refusal:
            answer["status"] = {"message": refusal}
        return _answered(review, answer)

    def _careless(self, asked: Mapping[str, Any]) -> str:
        """Return what is done that Harvester lets pass and nobody should do, "" if nothing."""
        if asked["operation"] != "UPDATE":
            return ""
        plural, old, new = asked["resource"]["resource"], asked["oldObject"], asked["object"]
        if plural == "vgpudevices" and webhooks.is_blind(old, new):
            return deeds.BLIND
        empty = plural == "migconfigurations" and self._is_empty(asked["name"])
        return deeds.FROZEN if webhooks.stays_frozen(old, new, empty=empty) else ""

    async def _judged(self, asked: Mapping[str, Any]) -> str:
        plural, operation = asked["resource"]["resource"], asked["operation"]
        old, new = asked.get("oldObject") or {}, asked.get("object") or {}
        if plural == "virtualmachines":
            vgpus, devices = await self._all(VGPUS), await self._all(PCI_DEVICES)
            return webhooks.vm_written(self._version, new, vgpus, devices)
        if plural == "migconfigurations":
            return webhooks.mig_updated(old, new, await self._all(VGPUS))
        vms = await self._all(VMS)
        if plural == "vgpudevices":
            if operation == "DELETE":
                return webhooks.vgpu_used(old["metadata"]["name"], vms)
            return webhooks.vgpu_updated(old, new, vms)
        if operation == "DELETE":
            return webhooks.gpu_deleted(old)
        return webhooks.gpu_updated(old, new, vms)

    async def _mutate(self, request: web.Request) -> web.Response:
        review = await request.json()
        asked = review["request"]
        before = asked["object"]
        after = webhooks.vm_rewritten(self._version, before)
        answer: dict[str, Any] = {"uid": asked["uid"], "allowed": True}
        if after != before:
            patch = [{"op": "replace", "path": "/spec", "value": after["spec"]}]
            answer |= {
                "patchType": "JSONPatch",
                "patch": base64.b64encode(msgspec.json.encode(patch)).decode(),
            }
        return _answered(review, answer)

    async def _all(self, kind: Kind) -> list[Any]:
        page = await self._api.list(kind, limit=LONGEST)
        return [msgspec.json.decode(raw) for raw in page.items]


def _answered(review: Mapping[str, Any], answer: Mapping[str, Any]) -> web.Response:
    return web.json_response(
        {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": answer}
    )
