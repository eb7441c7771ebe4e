"""The decision log's volume: one for each pod, with room for all files; the key comes as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from extender.decision_log import Limits
from tests.manifests.kustomize import Manifest, combined
from tests.manifests.parts import serve_options

KEY = b"0123456789abcdef0123456789abcdef"
GIB = 1024**3


@pytest.fixture
def manifests(copy: Path) -> list[Manifest]:
    (copy / "components/decision-log/hash.key").write_bytes(KEY)
    return combined(copy, "mtls-cert-manager", "decision-log")


@pytest.fixture
def pod(manifests: list[Manifest]) -> dict[str, Any]:
    (deployment,) = (
        each
        for each in manifests
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", "tangram-extender")
    )
    return dict(deployment["spec"]["template"]["spec"])


def mounted(pod: dict[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a volume, and how it is mounted."""
    (container,) = pod["containers"]
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == name)
    (volume,) = (each for each in pod["volumes"] if each["name"] == name)
    return volume, mount


def test_each_pod_writes_a_folder_of_its_own_that_has_room_for_all_files(
    pod: dict[str, Any], manifests: list[Manifest]
) -> None:
    volume, mount = mounted(pod, "decision-log")
    limit = volume["emptyDir"]["sizeLimit"]

    assert serve_options(manifests)["decision_log"] == Path(mount["mountPath"])
    assert mount["subPathExpr"] == "$(POD_NAME)"
    assert not mount.get("readOnly")
    assert int(limit.removesuffix("Gi")) * GIB >= 2 * Limits().kept_bytes
    assert pod["containers"][0]["resources"]["requests"]["ephemeral-storage"] == limit


def test_the_key_is_read_from_a_file_and_stands_in_no_argument(
    pod: dict[str, Any], manifests: list[Manifest]
) -> None:
    volume, mount = mounted(pod, "decision-log-key")
    (secret,) = (
        each
        for each in manifests
        if each["kind"] == "Secret" and each["metadata"]["name"] == volume["secret"]["secretName"]
    )
    path = Path(serve_options(manifests)["decision_log_hash_key"])

    assert path.parent == Path(mount["mountPath"])
    assert secret["data"].keys() == {path.name}
    assert mount["readOnly"]
    assert volume["secret"]["defaultMode"] == 0o440
    assert KEY.decode() not in str(pod)


def test_another_key_has_the_pods_begin_anew(pod: dict[str, Any]) -> None:
    volume, _ = mounted(pod, "decision-log-key")

    assert volume["secret"]["secretName"].startswith("tangram-decision-log-")
