"""Commands as the manifests' README has them, run word for word on a control plane."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.controlplane.cluster import ControlPlane
from tests.e2e.process import ROOT
from tests.manifests.generate import MANIFESTS
from tests.manifests.kustomize import kubectl

README = MANIFESTS / "README.md"
INSTALL = "On plain Kubernetes, from nothing to the first pod or VM"
UNINSTALL = "Uninstall"
"""Sections of it."""
WITHIN_SECONDS = 120.0


def commands(section: str) -> Sequence[str]:
    """Return the commands for kubectl in a section of the README, in their order."""
    _, found, after = README.read_text().partition(f"\n## {section}\n")
    assert found, section
    text = after.partition("\n## ")[0]
    return [" ".join(each.split()) for each in re.findall(r"`(kubectl [^`]+)`", text)]


def deletions() -> Sequence[str]:
    """Return those that uninstall it: what keeps pods out, its programs, and all else."""
    found = [each for each in commands(UNINSTALL) if " delete " in each]
    assert len(found) == 3, found
    return found


async def ran(plane: ControlPlane, command: str, *, overlay: str, home: Path) -> str:
    """Run a command as an administrator at the repository's root; return what it prints.

    Where it names any *overlay*, it is that one. kubectl has its cache in *home*.
    """
    program, *arguments = shlex.split(command.replace("overlays/…", f"overlays/{overlay}"))
    assert program == "kubectl", command
    process = await asyncio.create_subprocess_exec(
        str(kubectl()),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"KUBECONFIG": str(plane.kubeconfig("admin")), "HOME": str(home)},
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), WITHIN_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, f"{command}: {errors.decode()}"
    return out.decode()
