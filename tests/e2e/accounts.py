"""What keeps accounts in bounds: roles, and policies where these end."""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from tests.e2e.installation import Installer
from tests.manifests.generate import MANIFESTS
from tests.manifests.kustomize import Manifest, built

BOUNDS = frozenset(
    {
        *("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
        *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
    }
)


def bounds(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Return the accounts among *manifests*, their roles, and the policies."""
    return [each for each in manifests if each["kind"] in BOUNDS]


async def confine(installer: Installer) -> None:
    """Let the extender, and agents with simulated GPUs, do what they may, and nothing else.

    VMs may be moved. There is neither webhook nor second scheduler with it.
    """
    for each in bounds(_of_the_base_and_components()):
        await installer.apply(each)


def _of_the_base_and_components() -> list[Manifest]:
    components = MANIFESTS / "components"
    added = (
        each
        for name in ("simulated-gpus/rbac.yaml", "simulated-gpus/admission.yaml", "moves/rbac.yaml")
        for each in yaml.safe_load_all((components / name).read_text())
    )
    return [*built(MANIFESTS / "base"), *added]
