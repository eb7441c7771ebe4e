"""The agent of a node whose GPUs and files are fakes, as a process: as `tangram-agent run` is.

What follows ``--`` are its container's arguments, read as the agent's own command line reads them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
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
from tests.crash.disk import count_what_is_put_on_disk
from tests.e2e.harvester.endings import CountedApi, EndingAgent
from tests.fakes.nvml.library import STATE_VARIABLE
from tests.fakes.nvml.machine import Machine
from tests.fakes.sysfs.kernel import Kernel
from tests.fakes.sysfs.tree import FakeSysfs


async def run(here: argparse.Namespace, given: Mapping[str, Any]) -> None:
    """Run the agent until told to end."""
    machine = Machine(here.library, here.state)
    os.environ[STATE_VARIABLE] = str(here.state)
    kind = Mode.VGPU_MDEV if here.harvester == "1.7" else Mode.VGPU_VFIO
    sysfs = FakeSysfs(here.home, Kernel(machine), kind)
    kubelet = Path(here.kubelet)
    parts = RealNode(
        nodes=(here.node,),
        mode=Mode(given["mode"]),
        state_dir=here.home / Path(given["state_dir"]).relative_to("/"),
        location=Location(given["library"], given["root"]),
        host_root=here.home,
        places=Places(kubelet / "device-plugins", kubelet / "pod-resources.sock"),
        timing=Timing(poll_seconds=0.2),
        enable_mig=given["enable_mig"],
        enable_sriov=given["enable_sriov"],
        sysfs=lambda root: sysfs,
    )
    parts.check()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    purview = Purview(all_gpus=Manage(given["manage"]) is Manage.ALL)
    if here.steps is None:
        server = RestApi(kubeconfig=here.kubeconfig)
    else:
        ending = EndingAgent(here.steps)
        count_what_is_put_on_disk(ending, str(parts.state_dir))
        server = CountedApi(here.kubeconfig, ending)
    async with (
        server as api,
        parts.assembled(api, purview) as (agent,),
    ):
        working = asyncio.create_task(agent.run(), name="agent")
        ending = asyncio.create_task(ended.wait(), name="ending")
        await asyncio.wait([working, ending], return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working


def main() -> None:
    """Parse the command line, and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--node", required=True)
    parser.add_argument("--harvester", required=True)
    for name in ("--library", "--state", "--home", "--kubelet", "--kubeconfig"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--steps", type=Path, help="end at every step that this file does not have")
    parser.add_argument("arguments", nargs="+")
    here = parser.parse_args()
    command, *arguments = here.arguments
    group: Any = typer.main.get_command(app)
    given = group.commands[command].make_context(command, [*arguments, f"--node={here.node}"])
    log_to_stderr("info")
    asyncio.run(run(here, given.params))


if __name__ == "__main__":
    main()
