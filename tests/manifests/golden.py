"""The overlays as text, for people to review: ``make golden`` writes them, a test compares.

What is itself generated, and long, is left to the manifest it comes from: the schema of the CRD and
the scheduler's configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.manifests.generate import ROOT
from tests.manifests.kustomize import OVERLAYS, Manifest, overlay

GOLDEN = Path(__file__).parent / "golden"
HEADER = "# What `kubectl kustomize manifests/overlays/{}` gives; written by `make golden`.\n"
ELSEWHERE = {
    "CustomResourceDefinition": ("spec", "versions", "manifests/base/crd/gpunodes.yaml"),
    "ConfigMap": ("data", None, "the scheduler-config.yaml beside the kustomization"),
}
"""Kind to the field, the field in it or all, and where that is to be read."""


def golden(name: str) -> Path:
    """Return the file of an overlay."""
    return GOLDEN / f"{name}.yaml"


def text(name: str) -> str:
    """Return an overlay as it is reviewed."""
    return HEADER.format(name) + yaml.safe_dump_all(
        map(_reviewed, overlay(name)), sort_keys=False, width=100
    )


def stale() -> Iterator[Path]:
    """Yield the files of overlays that are no more."""
    for file in GOLDEN.glob("*.yaml"):
        if file.stem not in OVERLAYS:
            yield file


def _reviewed(manifest: Manifest) -> Manifest:
    if manifest["kind"] not in ELSEWHERE:
        return manifest
    field, inner, where = ELSEWHERE[manifest["kind"]]
    content: dict[str, Any] = manifest[field]
    kept = {key: f"(see {where})" if inner in (None, key) else content[key] for key in content}
    return manifest | {field: kept}


def main() -> None:
    """Write them all."""
    GOLDEN.mkdir(exist_ok=True)
    for file in stale():
        file.unlink()
    for name in OVERLAYS:
        golden(name).write_text(text(name))
        print(golden(name).relative_to(ROOT))


if __name__ == "__main__":
    main()
