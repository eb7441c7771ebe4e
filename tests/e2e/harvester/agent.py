"""The agent of a node whose GPUs and files are fakes, as a process: as `tangram-agent run` is."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
from pathlib import Path

from nodeagent.api.gpunode import Mode
from nodeagent.apiserver.rest import RestApi
from nodeagent.deviceplugin import Places, Timing
from nodeagent.logs import log_to_stderr
from nodeagent.nvml import Location
from nodeagent.purview import Purview
from nodeagent.real_node import RealNode
from nodeagent.settings import Settings
from tests.fakes.nvml.library import STATE_VARIABLE
from tests.fakes.nvml.machine import Machine
from tests.fakes.sysfs.kernel import Kernel
from tests.fakes.sysfs.tree import FakeSysfs


async def run(options: argparse.Namespace) -> None:
    """Run the agent until told to end."""
    machine = Machine(options.library, options.state)
    os.environ[STATE_VARIABLE] = str(options.state)
    mode = Mode.VGPU_MDEV if options.harvester == "1.7" else Mode.VGPU_VFIO
    sysfs = FakeSysfs(options.home, Kernel(machine), mode)
    kubelet = Path(options.kubelet)
    parts = RealNode(
        nodes=(options.node,),
        mode=Mode.HARVESTER,
        state_dir=options.home / "agent",
        location=Location(options.library),
        host_root=options.home,
        places=Places(kubelet / "device-plugins", kubelet / "pod-resources.sock"),
        timing=Timing(poll_seconds=0.2),
        settings=Settings(),
        enable_sriov=True,
        sysfs=lambda root: sysfs,
    )
    parts.check()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    purview = Purview(all_gpus=options.manage == "all")
    async with (
        RestApi(kubeconfig=options.kubeconfig) as api,
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
    parser.add_argument("--manage", default="all")
    for name in ("--library", "--state", "--home", "--kubelet", "--kubeconfig"):
        parser.add_argument(name, type=Path, required=True)
    log_to_stderr("info")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
