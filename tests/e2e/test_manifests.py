"""A real API server takes every overlay as it is, field by field."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.bounds import administered
from tests.e2e.installation import (
    CERT_MANAGER_CRDS,
    KUBEVIRT_CRDS,
    PROMETHEUS_OPERATOR_CRDS,
    Installer,
)
from tests.manifests.generate import MANIFESTS
from tests.manifests.kustomize import OVERLAYS, Manifest, combined, overlay, with_certificates
from tests.manifests.parts import find


async def test_every_overlay_is_taken_as_it_is_field_by_field() -> None:
    async with administered() as (_, _, installer):
        await installer.define(CERT_MANAGER_CRDS)
        for name in OVERLAYS:
            manifests = overlay(name)
            await installer.prepare(manifests)
            assert await installer.try_out(manifests) > 30, name
        await what_cert_manager_would_not_take_is_refused(installer, overlay("default"))


async def what_cert_manager_would_not_take_is_refused(
    installer: Installer, manifests: list[Manifest]
) -> None:
    """Misspell each certificate: else nothing would be shown by its being taken."""
    certificates = [each for each in manifests if each["kind"] == "Certificate"]
    assert {each["metadata"]["name"] for each in certificates} == {
        *("tangram-ca", "tangram-extender", "tangram-scheduler")
    }
    for each in certificates:
        for wrong in (
            {"usages": ["server-auth"]},
            {"privateKey": {"algorithm": "EC"}},
            {"renewBeforeExpiry": "1h"},
            {"issuerRef": {"kind": "Issuer"}},
        ):
            refused = await installer.refusal(each | {"spec": each["spec"] | wrong})
            (field,) = wrong
            assert field in refused, (each["metadata"]["name"], refused)


async def test_what_overlays_may_be_made_of_is_taken_too(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(MANIFESTS, tmp_path / "manifests"))
    async with administered() as (plane, _, installer):
        with_certificates(copy, plane.authority)
        await installer.define(PROMETHEUS_OPERATOR_CRDS)
        for others in (
            ("default-scheduler", "policy"),
            ("second-scheduler", "simulated-gpus", "monitoring"),
        ):
            manifests = combined(copy, "admission", "mtls-secrets", *others)
            await installer.prepare(manifests)
            assert not any("cert-manager" in each["apiVersion"] for each in manifests)
            assert await installer.try_out(manifests) == len(manifests)
        await what_the_prometheus_operator_would_not_take_is_refused(installer, manifests)


async def what_the_prometheus_operator_would_not_take_is_refused(
    installer: Installer, manifests: list[Manifest]
) -> None:
    """Misspell the monitor and the alerts, as the certificates are above."""
    monitor = find(manifests, "ServiceMonitor", "tangram-extender")
    (endpoint,) = monitor["spec"]["endpoints"]
    tls = endpoint["tlsConfig"]
    for field, wrong in {
        "scheme": {"scheme": "tls"},
        "interval": {"interval": "often"},
        "bearerToken": {"bearerToken": "x"},
        "servername": {"tlsConfig": tls | {"servername": "x"}},
        "key": {"tlsConfig": tls | {"ca": {"secret": {"name": "x"}}}},
    }.items():
        spec = monitor["spec"] | {"endpoints": [endpoint | wrong]}
        assert field in await installer.refusal(monitor | {"spec": spec}), field
    without = {"endpoints": [endpoint]}
    assert "selector" in await installer.refusal(monitor | {"spec": without})

    rules = find(manifests, "PrometheusRule", "tangram")
    group, *_ = rules["spec"]["groups"]
    rule, *_ = group["rules"]
    for field, change in {
        "for": rule | {"for": "5 minutes"},
        "annotation": rule | {"annotation": rule["annotations"]},
        "labels": rule | {"labels": {"severity": 1}},
        "expr": {"alert": "x"},
    }.items():
        spec = {"groups": [group | {"rules": [change]}]}
        assert field in await installer.refusal(rules | {"spec": spec}), field


async def test_kubevirt_takes_what_it_is_to_permit_and_keeps_all_else_it_was_told() -> None:
    patch = yaml.safe_load(
        (MANIFESTS / "overlays/kubevirt/permitted-host-devices.yaml").read_text()
    )
    wanted = patch["spec"]["configuration"]["permittedHostDevices"]["mediatedDevices"]
    theirs = {"mdevNameSelector": "NVIDIA A10-8Q", "resourceName": "nvidia.com/A10-8Q"}
    disks = [{"pciVendorSelector": "144d:a808", "resourceName": "example.com/disk"}]
    configuration = {
        "developerConfiguration": {"featureGates": ["GPU"]},
        "permittedHostDevices": {"pciHostDevices": disks, "mediatedDevices": [theirs]},
    }
    home = {"name": "kubevirt", "namespace": "kubevirt"}
    async with administered() as (_, session, installer):
        await installer.define(KUBEVIRT_CRDS)
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kubevirt"}}
        await installer.apply(namespace)
        kubevirt = {"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": home}
        await installer.apply(kubevirt | {"spec": {"configuration": configuration}})

        async def patched(body: object) -> tuple[int, dict[str, Any]]:
            """Do what `kubectl patch --type merge` does, strictly."""
            async with session.patch(
                "/apis/kubevirt.io/v1/namespaces/kubevirt/kubevirts/kubevirt",
                params={"fieldValidation": "Strict"},
                data=json.dumps(body),
                headers={"Content-Type": "application/merge-patch+json"},
            ) as answer:
                return answer.status, await answer.json()

        status, made = await patched(patch)
        assert status == 200, made
        found = made["spec"]["configuration"]
        assert found["permittedHostDevices"] == {
            "pciHostDevices": disks,
            "mediatedDevices": wanted,  # in place of theirs, as the page says
        }
        assert found["developerConfiguration"] == configuration["developerConfiguration"]
        for wrong in (
            {"resourceName": "x"},
            {"mdevNameSelector": "x", "resourceName": "x", "external": True},
            {"mdevNameSelector": "x", "resourceName": "x", "externalResourceProvider": "true"},
        ):
            devices = {"permittedHostDevices": {"mediatedDevices": [wrong]}}
            status, said = await patched({"spec": {"configuration": devices}})
            assert status in (400, 422), (wrong, said)


def templates(manifests: list[Manifest]) -> Mapping[str, dict[str, Any]]:
    return {
        m["metadata"]["name"]: m["spec"]["template"]
        for m in manifests
        if "template" in m.get("spec", {})
    }


async def test_all_pods_but_the_agents_meet_the_strictest_security_standard() -> None:
    manifests = overlay("dev") + overlay("default")
    async with administered() as (_, session, installer):
        await installer.prepare(manifests)
        for each in manifests:
            if each["kind"] == "PriorityClass":
                await installer.apply(each)
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        body: dict[str, Any] = {"metadata": {"name": "strict", "labels": labels}}
        async with session.post("/api/v1/namespaces", json=body) as answer:
            assert answer.status == 201
        statuses = {}
        for name, template in templates(manifests).items():
            body = {"metadata": {"name": name}, "spec": template["spec"]}
            path = "/api/v1/namespaces/strict/pods?dryRun=All"
            async with session.post(path, json=body) as answer:
                statuses[name] = answer.status

    assert statuses == {
        "tangram-extender": 201,
        "tangram-scheduler": 201,
        "tangram-simulated-agent": 201,
        "tangram-agent": 403,
    }
