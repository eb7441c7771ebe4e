"""Write the manifests that follow from the code: ``make crd``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from extender.cli.scheduler_config import SCHEDULER, SERVICE, TLS_DIRECTORY
from extender.kubescheduler import compose
from extender.kubescheduler.compose import Files, Wanted
from extender.kubescheduler.offered import of_models
from extender.server.description import HOOKS
from extender.settings import Settings
from nodeagent.api import crd, resources
from nodeagent.api.catalog import MODELS

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
CRD = MANIFESTS / "base/crd/gpunodes.yaml"
SECOND_SCHEDULER = MANIFESTS / "base/scheduler/scheduler-config.yaml"
HARVESTER_SCHEDULER = MANIFESTS / "overlays/harvester/scheduler-config.yaml"
DEFAULT_SCHEDULER = MANIFESTS / "components/default-scheduler/scheduler-patch.yaml"
PERMITTED = MANIFESTS / "overlays/kubevirt/permitted-host-devices.yaml"


def generated() -> Mapping[Path, str]:
    """Return what each generated manifest should hold."""
    wanted = Wanted(
        url=f"https://{SERVICE}:8443",
        files=Files(*(str(TLS_DIRECTORY / name) for name in ("ca.crt", "tls.crt", "tls.key"))),
        http_timeout_seconds=Settings().http_timeout_seconds,
        verbs=tuple(hook.verb for hook in HOOKS),
        resources=of_models(MODELS.values()),
    )
    on_harvester = msgspec.structs.replace(
        wanted, resources=of_models(MODELS.values(), harvester=True)
    )
    by_command = "`tangram scheduler-config --model all`"
    return {
        CRD: _written("nodeagent/api", crd.definition()),
        SECOND_SCHEDULER: _written(by_command, compose.second_scheduler(wanted, SCHEDULER)),
        HARVESTER_SCHEDULER: _written(
            "the catalog of GPU models", compose.second_scheduler(on_harvester, SCHEDULER)
        ),
        DEFAULT_SCHEDULER: _written(by_command, compose.patch(wanted)),
        PERMITTED: _written("the catalog of GPU models", permitted_host_devices()),
    }


def permitted_host_devices() -> dict[str, Any]:
    """Return the patch of a KubeVirt by which VMs may have every vGPU type of the catalog.

    By ``externalResourceProvider`` KubeVirt makes no device plugin of its own for them, and the
    selector is only a name.
    """
    types = {
        resource: vgpu.name
        for model in MODELS.values()
        for board in model.boards.values()
        for vgpu in board.types
        if vgpu.max_per_instance == 1
        for resource in resources.of_vgpu_type(vgpu.name)
    }
    devices = [
        {"mdevNameSelector": name, "resourceName": resource, "externalResourceProvider": True}
        for resource, name in sorted(types.items())
    ]
    return {"spec": {"configuration": {"permittedHostDevices": {"mediatedDevices": devices}}}}


def _written(source: str, document: dict[str, Any]) -> str:
    header = f"# Generated from {source} by `make crd`; do not edit.\n"
    return header + yaml.safe_dump(document, sort_keys=False, width=100)


def main() -> None:
    for path, text in generated().items():
        path.write_text(text)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
