"""The agent of a node whose GPUs and files are fakes, as a process: as `tangram-agent run` is.

What follows ``--`` are its container's arguments, read as the agent's own command line reads them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
from pathlib import Path

from nodeagent.api.gpunode import Mode
from nodeagent.apiserver.rest import RestApi
from nodeagent.deviceplugin import Timing
from nodeagent.logs import log_to_stderr
from tests.crash.disk import count_what_is_put_on_disk
from tests.e2e.harvester.endings import CountedApi, EndingAgent
from tests.e2e.vgpu_agent import Given, given, purview, real_node
from tests.fakes.nvml.library import STATE_VARIABLE
from tests.fakes.nvml.machine import Machine


async def run(here: argparse.Namespace, options: Given) -> None:
    """Run the agent until told to end."""
    os.environ[STATE_VARIABLE] = str(here.state)
    parts = real_node(
        options,
        Machine(here.library, here.state),
        Mode.VGPU_MDEV if here.harvester == "1.7" else Mode.VGPU_VFIO,
        Timing(poll_seconds=0.2),
    )
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    if here.steps is None:
        server = RestApi(kubeconfig=here.kubeconfig)
    else:
        ending = EndingAgent(here.steps)
        count_what_is_put_on_disk(ending, str(parts.state_dir))
        server = CountedApi(here.kubeconfig, ending)
    async with (
        server as api,
        parts.assembled(api, purview(options)) as (agent,),
    ):
        working = asyncio.create_task(agent.run(), name="agent")
        told = asyncio.create_task(ended.wait(), name="told to end")
        await asyncio.wait([working, told], return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
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
    options = given([*here.arguments, f"--node={here.node}"])
    there = {
        "state_dir": here.home / options["state_dir"].relative_to("/"),
        "host_root": here.home,
        "kubelet_dir": here.kubelet / "device-plugins",
        "pod_resources": here.kubelet / "pod-resources.sock",
    }
    log_to_stderr("info")
    asyncio.run(run(here, {**options, **there}))


if __name__ == "__main__":
    main()
