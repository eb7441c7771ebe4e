"""Builds kustomizations with the kubectl of the tests' control plane."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.controlplane.binaries import Missing, locate
from tests.e2e.controlplane.certificates import Authority
from tests.e2e.controlplane.required import REQUIRED
from tests.manifests.generate import MANIFESTS

OVERLAYS = tuple(sorted(path.name for path in (MANIFESTS / "overlays").iterdir()))

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML was built with it: six times as fast."""

Manifest = dict[str, Any]
"""An object as it is applied."""


def overlay(name: str) -> list[Manifest]:
    """Return the objects of an overlay; skip the test where nothing can build it."""
    return built(MANIFESTS / "overlays" / name)


@functools.cache
def built(directory: Path) -> list[Manifest]:
    """Return the objects of a kustomization; skip the test where nothing can build it."""
    command = [str(kubectl()), "kustomize", str(directory)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr, ended.stderr
    return [each for each in yaml.load_all(ended.stdout, LOADER) if each is not None]


def combined(copy: Path, *components: str) -> list[Manifest]:
    """Return the base with *components*, of a *copy* of the manifests."""
    directory = copy / "overlays" / "-".join(("own", *components))
    directory.mkdir()
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../../base"],
        "components": [f"../../components/{name}" for name in components],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return built(directory)


def with_certificates(copy: Path, authority: Authority) -> None:
    """Put certificates beside the component that has them from files."""
    here = copy / "components/mtls-secrets"
    shutil.copy(authority.file, here / "ca.crt")
    for name in ("extender", "scheduler"):
        pair = authority.issue(name)
        shutil.copy(pair.public, here / f"{name}.crt")
        shutil.copy(pair.key, here / f"{name}.key")


def kubectl() -> Path:
    """Return the program; skip the test where there is none, or fail it where it is required."""
    found = locate()
    kubectl = None if isinstance(found, Missing) else found.kubectl
    if kubectl is None:
        reason = found.reason if isinstance(found, Missing) else "no kubectl: `make ci-tools`"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return kubectl
