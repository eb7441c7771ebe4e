"""The scheduler asks the extender where it is, by its own Lease, in a version that fits."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from extender.cli.scheduler_config import SERVICE
from extender.kubescheduler import compose
from extender.kubescheduler.compose import Wanted
from extender.kubescheduler.configuration import read
from tests.e2e.controlplane.binaries import Versions
from tests.manifests.generate import MANIFESTS
from tests.manifests.kustomize import built, combined, overlay
from tests.manifests.parts import (
    EXTENDER,
    SCHEDULER,
    container,
    each_overlay,
    find,
    pod,
    scheduler_configuration,
    serve_options,
)

WANTED = Wanted(
    url=f"https://{SERVICE}:8443",
    files=None,
    http_timeout_seconds=30.0,
    verbs=("filter",),
    resources={"nvidia.com/mig-1g.10gb": False},
)


@each_overlay
def test_scheduler_and_extender_agree(name: str) -> None:
    manifests = overlay(name)
    options = serve_options(manifests)
    (port,) = find(manifests, "Service", EXTENDER)["spec"]["ports"]
    (entry,) = scheduler_configuration(manifests).extenders or ()
    spec = pod(manifests, "Deployment", SCHEDULER)
    mounts = {m["name"]: m["mountPath"] for m in spec["containers"][0]["volumeMounts"]}

    assert entry.url_prefix == f"https://{SERVICE}:{port['port']}{options['prefix']}"
    assert entry.http_timeout == f"{options['http_timeout']:g}s"
    assert entry.tls_config is not None
    assert {
        Path(file).parent
        for file in (
            entry.tls_config.ca_file,
            entry.tls_config.cert_file,
            entry.tls_config.key_file,
        )
    } == {Path(mounts["tls"])}


@each_overlay
def test_the_second_scheduler_has_the_lease_that_its_role_allows(name: str) -> None:
    manifests = overlay(name)
    election = scheduler_configuration(manifests).leader_election
    role = find(manifests, "Role", SCHEDULER)

    assert election is not None
    assert election.resource_namespace == role["metadata"]["namespace"]
    assert [rule.get("resourceNames") for rule in role["rules"]] == [
        None,
        [election.resource_name],
    ]


def test_the_scheduler_is_of_the_version_that_is_tried() -> None:
    image = container(overlay("default"), "Deployment", SCHEDULER)["image"]

    assert image == f"registry.k8s.io/kube-scheduler:{Versions.read().kubernetes}"


def test_the_scheduler_for_harvester_is_no_newer_than_its_api_servers() -> None:
    image = container(overlay("harvester"), "Deployment", SCHEDULER)["image"]
    name, _, tag = image.partition(":v")
    minor = int(tag.split(".")[1])

    assert name == "registry.k8s.io/kube-scheduler"
    for of_harvester in (34, 35):  # 1.7's Kubernetes, and 1.8's
        assert of_harvester - 1 <= minor <= of_harvester


def test_an_overlay_of_ones_own_replaces_the_configuration_as_the_readme_says(copy: Path) -> None:
    """The file that is generated stays as it is, and the scheduler is replaced."""
    block = re.search(
        r"^```yaml\n([^`]*behavior: replace[^`]*)```$",
        (MANIFESTS / "README.md").read_text(),
        re.MULTILINE,
    )
    assert block is not None
    own = copy.parent / "own"
    own.mkdir()
    (own / "kustomization.yaml").write_text(block[1])
    shipped = find(overlay("default"), "Deployment", SCHEDULER)
    (own / "scheduler-config.yaml").write_text(
        yaml.safe_dump(compose.second_scheduler(WANTED, "tangram"))
    )

    manifests = built(own)

    (entry,) = scheduler_configuration(manifests).extenders or ()
    assert [each.name for each in entry.managed_resources or ()] == list(WANTED.resources)
    assert len([each for each in manifests if each["kind"] == "ConfigMap"]) == 1
    assert find(manifests, "Deployment", SCHEDULER)["spec"] != shipped["spec"]


def test_the_default_scheduler_is_given_a_patch_and_no_other_scheduler_comes(copy: Path) -> None:
    manifests = combined(copy, "mtls-cert-manager", "default-scheduler")

    (text,) = find(manifests, "ConfigMap", "tangram-scheduler-patch")["data"].values()
    assert read(text.encode()).profiles is None
    assert not any(
        m["metadata"]["name"] == SCHEDULER for m in manifests if m["kind"] == "Deployment"
    )
