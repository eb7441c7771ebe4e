"""Builds kustomizations with the kubectl of the tests' control plane."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.controlplane.binaries import Missing, locate
from tests.e2e.controlplane.required import REQUIRED
from tests.manifests.generate import MANIFESTS

OVERLAYS = tuple(sorted(path.name for path in (MANIFESTS / "overlays").iterdir()))

Manifest = dict[str, Any]
"""An object as it is applied."""


def overlay(name: str) -> list[Manifest]:
    """Return the objects of an overlay; skip the test where nothing can build it."""
    return built(MANIFESTS / "overlays" / name)


@functools.cache
def built(directory: Path) -> list[Manifest]:
    """Return the objects of a kustomization; skip the test where nothing can build it."""
    command = [str(_kubectl()), "kustomize", str(directory)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr, ended.stderr
    return [each for each in yaml.safe_load_all(ended.stdout) if each is not None]


def _kubectl() -> Path:
    found = locate()
    kubectl = None if isinstance(found, Missing) else found.kubectl
    if kubectl is None:
        reason = found.reason if isinstance(found, Missing) else "no kubectl: `make ci-tools`"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return kubectl
