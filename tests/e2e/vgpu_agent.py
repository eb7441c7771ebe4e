"""``tangram-agent run`` on a node whose kernel files of vGPUs are fakes, as NVML is.

NVML's fake is a library that any process can load; these files are none that a process could have
to itself, so the program is put together here, of its own parts and by its own command line.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from nodeagent.__main__ import Manage, app
from nodeagent.api.gpunode import Mode
from nodeagent.apiserver.rest import RestApi
from nodeagent.deviceplugin import Places, Timing
from nodeagent.logs import log_to_stderr
from nodeagent.nvml import Location
from nodeagent.purview import Purview
from nodeagent.real_node import RealNode
from nodeagent.serving import serve
from tests.fakes.nvml.library import STATE_VARIABLE
from tests.fakes.nvml.machine import Machine
from tests.fakes.sysfs.kernel import Kernel
from tests.fakes.sysfs.tree import FakeSysfs

Given = Mapping[str, Any]
"""The values of the options of ``tangram-agent run``, by their names."""


def given(arguments: Sequence[str]) -> Given:
    """Read a command line as the program itself does."""
    group: Any = typer.main.get_command(app)
    command, *rest = arguments
    params: Given = group.commands[command].make_context(command, rest).params
    return params


def real_node(
    options: Given, machine: Machine, interface: Mode, timing: Timing | None = None
) -> RealNode:
    """Return what runs on the node of *machine*, whose kernel has that *interface* for vGPUs."""
    files = FakeSysfs(options["host_root"], Kernel(machine), interface)
    parts = RealNode(
        nodes=tuple(options["node"]),
        mode=Mode(options["mode"]),
        state_dir=options["state_dir"],
        location=Location(options["library"], options["root"]),
        host_root=options["host_root"],
        places=Places(options["kubelet_dir"], options["pod_resources"], options["cdi_dir"]),
        timing=timing or Timing(),
        enable_mig=options["enable_mig"],
        enable_sriov=options["enable_sriov"],
        sysfs=lambda root: files,
    )
    parts.check()
    return parts


def purview(options: Given) -> Purview:
    """Return what the agent may use, and hand out."""
    return Purview(
        all_gpus=Manage(options["manage"]) is Manage.ALL,
        resources=frozenset(options["resource"] or ()),
    )


async def _run(options: Given) -> None:
    machine = Machine(options["library"], Path(os.environ[STATE_VARIABLE]))
    parts = real_node(options, machine, Mode(options["mode"]))
    async with (
        RestApi(kubeconfig=options["kubeconfig"], connections=parts.connections) as api,
        parts.assembled(api, purview(options)) as agents,
    ):
        await serve(agents, options["alive_file"])


if __name__ == "__main__":
    log_to_stderr("info")
    asyncio.run(_run(given(sys.argv[1:])))
