"""Certificates say the names that are asked for, and are where programs and API server look."""

from __future__ import annotations

import base64
import re
from functools import partial
from pathlib import Path

from extender.cli.scheduler_config import SERVICE
from tests.e2e.controlplane.certificates import Authority
from tests.manifests.kustomize import Manifest, combined, overlay, with_certificates
from tests.manifests.parts import (
    EXTENDER,
    SCHEDULER,
    each_overlay,
    find,
    pod,
    serve_options,
    webhook,
)


@each_overlay
def test_certificates_say_the_names_that_are_asked_for(name: str) -> None:
    manifests = overlay(name)
    (allowed,) = serve_options(manifests)["client_name"]
    client = find(manifests, "Certificate", SCHEDULER)["spec"]
    server = find(manifests, "Certificate", EXTENDER)["spec"]

    assert client["commonName"] == allowed
    assert "client auth" in client["usages"]
    assert SERVICE in server["dnsNames"]
    assert called(manifests) in server["dnsNames"]
    assert "server auth" in server["usages"]
    assert client["issuerRef"] == server["issuerRef"]


def hours(duration: str) -> int:
    """Read a duration as ours are written."""
    assert re.fullmatch(r"[0-9]+h", duration)
    return int(duration[:-1])


@each_overlay
def test_certificates_are_as_cert_managers_own_webhook_demands(name: str) -> None:
    """Its definitions do not say it, internal/apis/certmanager/validation/certificate.go does."""
    certificates = [m for m in overlay(name) if m["kind"] == "Certificate"]
    issuers = {m["metadata"]["name"] for m in overlay(name) if m["kind"] == "Issuer"}
    written = [each["spec"]["secretName"] for each in certificates]

    assert len(set(written)) == len(written) == 3
    for spec in (each["spec"] for each in certificates):
        assert 1 <= hours(spec["renewBefore"]) < hours(spec["duration"])
        assert len(spec["commonName"]) <= 64
        assert (
            spec["privateKey"]["size"]
            in {"ECDSA": (256, 384, 521)}[spec["privateKey"]["algorithm"]]
        )
        assert spec["issuerRef"]["name"] in issuers


def called(manifests: list[Manifest]) -> str:
    """Return the name by which the API server calls the webhook."""
    service = webhook(manifests)["clientConfig"]["service"]
    return f"{service['name']}.{service['namespace']}.svc"


def test_certificates_of_ones_own_go_where_the_pods_look(copy: Path, tmp_path: Path) -> None:
    with_certificates(copy, Authority(tmp_path))

    manifests = combined(copy, "admission", "mtls-secrets", "second-scheduler")

    secret = partial(find, manifests, "Secret")
    for name, kind in ((EXTENDER, "Deployment"), (SCHEDULER, "Deployment")):
        volumes = {v["name"]: v for v in pod(manifests, kind, name)["volumes"]}
        found = secret(volumes["tls"]["secret"]["secretName"])
        assert found["data"].keys() == {"ca.crt", "tls.crt", "tls.key"}
    trusted = base64.b64decode(webhook(manifests)["clientConfig"]["caBundle"])
    assert trusted == (copy / "components/mtls-secrets/ca.crt").read_bytes()


@each_overlay
def test_the_api_server_is_told_whom_to_trust_by_the_issuer_of_the_extenders_certificate(
    name: str,
) -> None:
    manifests = overlay(name)
    injected = find(manifests, "MutatingWebhookConfiguration", "tangram-pods")["metadata"]
    certificate = find(manifests, "Certificate", EXTENDER)["metadata"]

    assert injected["annotations"] == {
        "cert-manager.io/inject-ca-from": f"{certificate['namespace']}/{certificate['name']}"
    }
