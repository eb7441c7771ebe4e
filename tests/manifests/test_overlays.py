"""Every overlay builds, is whole, and is what its use needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from nodeagent.__main__ import app as tangram_agent
from nodeagent.api import keys
from tests.e2e.controlplane.certificates import Authority
from tests.manifests.generate import MANIFESTS
from tests.manifests.kustomize import built, combined, overlay, with_certificates
from tests.manifests.parts import container, each_overlay, parsed, pods, serve_options

each_directory = pytest.mark.parametrize(
    "directory",
    sorted(file.parent for file in MANIFESTS.rglob("kustomization.yaml")),
    ids=lambda path: str(path.relative_to(MANIFESTS)),
)


@each_directory
def test_a_kustomization_has_everything_that_is_beside_it(directory: Path) -> None:
    found = yaml.safe_load((directory / "kustomization.yaml").read_text())
    used = [*found.get("resources", ()), *found.get("components", ())]
    for generator in (*found.get("configMapGenerator", ()), *found.get("secretGenerator", ())):
        used += [file.partition("=")[2] or file for file in generator["files"]]
    by_hand = {"permitted-host-devices.yaml", "pod.yaml"}  # as the kustomizations say
    beside = {path.name for path in directory.iterdir() if path.suffix == ".yaml"}

    assert beside - {"kustomization.yaml"} <= {*used, *by_hand}
    assert all((directory / each).exists() for each in used if not each.endswith((".crt", ".key")))


@each_overlay
def test_an_overlay_builds_and_no_object_is_there_twice(name: str) -> None:
    ids = [
        (m["apiVersion"], m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"])
        for m in overlay(name)
    ]

    assert len(ids) == len(set(ids))
    assert ("v1", "Namespace", None, keys.SYSTEM_NAMESPACE) in ids
    assert {n for *_, n, _ in ids} <= {None, keys.SYSTEM_NAMESPACE, "kube-system"}


@each_overlay
def test_whatever_a_pod_refers_to_is_there(name: str) -> None:
    manifests = overlay(name)
    accounts = {m["metadata"]["name"] for m in manifests if m["kind"] == "ServiceAccount"}
    secrets = {m["spec"]["secretName"] for m in manifests if m["kind"] == "Certificate"}
    priorities = {m["metadata"]["name"] for m in manifests if m["kind"] == "PriorityClass"}
    for _, spec in pods(manifests):
        volumes = {volume["name"] for volume in spec.get("volumes", ())}
        mounts = {m["name"] for c in spec["containers"] for m in c.get("volumeMounts", ())}
        wanted = {v["secret"]["secretName"] for v in spec.get("volumes", ()) if "secret" in v}
        assert spec["serviceAccountName"] in accounts
        assert mounts == volumes
        assert wanted <= secrets
        assert spec.get("priorityClassName") in {None, *priorities}


def test_simulated_agents_serve_the_simulated_nodes_and_the_real_ones_are_gone() -> None:
    manifests = overlay("dev")
    options = parsed(tangram_agent, container(manifests, "Deployment", "tangram-simulated-agent"))

    nodes = {m["metadata"]["name"] for m in manifests if m["kind"] == "Node"}
    assert set(options["node"]) == nodes
    assert all(name.startswith("tangram-simulated-") for name in nodes)
    assert not any(m["kind"] == "DaemonSet" for m in manifests)


def test_without_the_webhook_the_rest_is_the_same(copy: Path, tmp_path: Path) -> None:
    with_certificates(copy, Authority(tmp_path))

    for certificates in ("mtls-secrets", "mtls-cert-manager"):
        manifests = combined(copy, certificates)
        assert not any(m["kind"] == "MutatingWebhookConfiguration" for m in manifests)
        assert serve_options(manifests)["admission_port"] is None


def test_every_image_can_be_pinned_by_its_digest_as_the_page_says(copy: Path) -> None:
    (said,) = re.findall(
        r"```yaml\n(images:.*?)```", (MANIFESTS / "README.md").read_text(), re.DOTALL
    )
    digest = "sha256:" + "0" * 64
    images = yaml.safe_load(said.replace("sha256:…", digest).replace("REGISTRY", "mirror.example"))
    file = copy / "overlays/default/kustomization.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | images))

    found = {c["image"] for _, spec in pods(built(file.parent)) for c in spec["containers"]}

    assert found == {f"{each['newName']}@{digest}" for each in images["images"]}
