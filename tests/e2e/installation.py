"""What `kubectl apply` and the kubelet do of an installation: objects, and accounts' tokens."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from nodeagent.api import keys
from tests.e2e.controlplane.cluster import ControlPlane
from tests.e2e.process import ROOT
from tests.waiting import until

APPLY = "application/apply-patch+yaml"  # JSON is YAML
CERT_MANAGER = "cert-manager.io"
CERT_MANAGER_CRDS = (ROOT / "tests/fakes/certmanager/crds.yaml").read_text()
KUBEVIRT_CRDS = (ROOT / "tests/fakes/kubevirt/crds.yaml").read_text()
PROMETHEUS_OPERATOR_CRDS = (ROOT / "tests/fakes/prometheusoperator/crds.yaml").read_text()

Manifest = dict[str, Any]


class Installer:
    """Applies objects, as an administrator does."""

    def __init__(self, plane: ControlPlane, session: aiohttp.ClientSession) -> None:
        self._plane = plane
        self._session = session
        self._plurals: dict[str, dict[str, tuple[str, bool]]] = {}

    async def install(self, manifests: Iterable[Manifest]) -> None:
        """Apply all objects but those of cert-manager, which is not there: namespace, CRD first."""
        await self.prepare(manifests)
        for each in _own(manifests):
            await self.apply(each)

    async def prepare(self, manifests: Iterable[Manifest]) -> None:
        """Apply what other objects need to be there: namespaces, and definitions of kinds."""
        for kind in ("Namespace", "CustomResourceDefinition"):
            for each in _own(manifests):
                if each["kind"] == kind:
                    await self.apply(each)
        path = f"/apis/{keys.API_VERSION}/{keys.GPU_NODE_PLURAL}"

        async def served() -> bool:
            async with self._session.get(path) as answer:
                return answer.status == 200

        await until(served, within=30, every=0.1)

    async def define(self, definitions: str) -> None:
        """Let there be others' kinds as *definitions* say, though nobody acts upon them."""
        wanted = list(yaml.safe_load_all(definitions))
        for each in wanted:
            await self.apply(each)
        (group,) = {each["spec"]["group"] for each in wanted}
        kinds = {each["spec"]["names"]["kind"] for each in wanted}

        async def served() -> bool:
            async with self._session.get(f"/apis/{group}/v1") as answer:
                found = (await answer.json())["resources"] if answer.status == 200 else ()
                return kinds <= {each["kind"] for each in found}

        await until(served, within=30, every=0.1)

    async def remove(self, manifests: Iterable[Manifest]) -> None:
        """Delete all objects, and what else is in the namespaces of theirs.

        The namespaces stay: they would only go with a controller that does not run here.
        """
        found = list(_own(manifests))
        for each in reversed(found):
            if each["kind"] != "Namespace":
                await self._delete(each)
        for each in found:
            if each["kind"] == "Namespace":
                await self._empty(each["metadata"]["name"])
        for each in found:
            if each["kind"] == "CustomResourceDefinition":
                await until(partial(self._gone, each), within=30, every=0.1)

    async def _delete(self, manifest: Manifest) -> None:
        path = await self._path(manifest)
        async with self._session.delete(path) as answer:
            assert answer.status in (200, 202, 404), f"{path}: {await answer.text()}"

    async def _empty(self, namespace: str) -> None:
        for resource in ("api/v1/{}/pods", "apis/coordination.k8s.io/v1/{}/leases"):
            path = "/" + resource.format(f"namespaces/{namespace}")
            async with self._session.delete(path) as answer:
                assert answer.status == 200, f"{path}: {await answer.text()}"

    async def _gone(self, manifest: Manifest) -> bool:
        async with self._session.get(await self._path(manifest)) as answer:
            return answer.status == 404

    async def try_out(self, manifests: Iterable[Manifest]) -> int:
        """Apply all objects for trial only, strictly; return how many there were."""
        tried = 0
        for each in manifests:
            await self.apply(each, dry_run=True)
            tried += 1
        return tried

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> None:
        """Apply one object, server-side; a field that is not known is an error."""
        status, said, warning = await self._applied(manifest, dry_run=dry_run)
        about = (manifest["kind"], manifest["metadata"]["name"])
        assert status in (200, 201), (about, said)
        assert not warning, (about, warning)

    async def refusal(self, manifest: Manifest) -> str:
        """Return why an object would not be taken, "" if it would."""
        status, said, _ = await self._applied(manifest, dry_run=True)
        return "" if status in (200, 201) else said

    async def _applied(self, manifest: Manifest, *, dry_run: bool) -> tuple[int, str, str]:
        """Return the status of the answer, the answer, and what it warns of."""
        path = await self._path(manifest)
        query = {"fieldManager": "test", "force": "true", "fieldValidation": "Strict"}
        async with self._session.patch(
            path,
            params=query | ({"dryRun": "All"} if dry_run else {}),
            data=json.dumps(manifest),
            headers={"Content-Type": APPLY},
        ) as answer:
            return answer.status, await answer.text(), answer.headers.get("Warning", "")

    async def token(
        self, account: str, pod: str = "", *, namespace: str = keys.SYSTEM_NAMESPACE
    ) -> str:
        """Return a token of an account, bound to a *pod* as the kubelet's are."""
        spec: dict[str, Any] = {}
        home = f"/api/v1/namespaces/{namespace}"
        if pod:
            async with self._session.get(f"{home}/pods/{pod}") as answer:
                uid = (await answer.json())["metadata"]["uid"]
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}
        path = f"{home}/serviceaccounts/{account}/token"
        async with self._session.post(path, json={"spec": spec}) as answer:
            assert answer.status == 201, await answer.text()
            return str((await answer.json())["status"]["token"])

    async def pod(self, name: str, account: str, node: str) -> None:
        """Create a pod of Tangram's on a node."""
        body = {
            "metadata": {"name": name},
            "spec": {
                "nodeName": node,
                "serviceAccountName": account,
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "tangram", "image": "tangram"}],
            },
        }
        path = f"/api/v1/namespaces/{keys.SYSTEM_NAMESPACE}/pods"
        async with self._session.post(path, json=body) as answer:
            assert answer.status == 201, await answer.text()

    async def _path(self, manifest: Manifest) -> str:
        plural, namespaced = await self._resource(manifest["apiVersion"], manifest["kind"])
        name, namespace = manifest["metadata"]["name"], manifest["metadata"].get("namespace", "")
        assert bool(namespace) == namespaced, (manifest["kind"], name)
        return f"{_root(manifest['apiVersion'])}/{_within(namespace)}{plural}/{name}"

    async def _resource(self, api_version: str, kind: str) -> tuple[str, bool]:
        if api_version not in self._plurals:
            async with self._session.get(_root(api_version)) as answer:
                assert answer.status == 200, api_version
                found = (await answer.json())["resources"]
            self._plurals[api_version] = {
                each["kind"]: (each["name"], each["namespaced"])
                for each in found
                if "/" not in each["name"]
            }
        return self._plurals[api_version][kind]


def point_webhook(manifests: list[Manifest], port: int, authority: Path) -> None:
    """Say where the webhook is, and whom to trust there, as cert-manager would."""
    for each in manifests:
        if each["kind"] == "MutatingWebhookConfiguration":
            (hook,) = each["webhooks"]
            path = hook["clientConfig"]["service"]["path"]
            trusted = base64.b64encode(authority.read_bytes()).decode()
            url = f"https://127.0.0.1:{port}{path}"
            hook["clientConfig"] = {"url": url, "caBundle": trusted}


def _own(manifests: Iterable[Manifest]) -> Iterable[Manifest]:
    return (each for each in manifests if not each["apiVersion"].startswith(CERT_MANAGER))


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _within(namespace: str) -> str:
    return f"namespaces/{namespace}/" if namespace else ""
