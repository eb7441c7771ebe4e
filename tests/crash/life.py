"""One life of the agent: a process that is the whole of what ``tangram-agent run`` puts together.

It is not stopped, it is killed: by itself at a crossing or after its passes, by the fake library
inside a call, or by the site.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path, PurePosixPath
from typing import Any
from unittest.mock import patch

import structlog

from nodeagent.agent.passes import Passes
from nodeagent.deviceplugin import Timing
from nodeagent.nvml import Location
from nodeagent.purview import Purview
from nodeagent.real_node import RealNode
from nodeagent.settings import Settings
from tests.crash.disk import count_what_is_put_on_disk
from tests.crash.door import RemoteApi
from tests.crash.home import NODE, Home, Life
from tests.crash.points import API, SYSFS, Crossings
from tests.fakes.nvml.library import STATE_VARIABLE
from tests.fakes.nvml.machine import Machine
from tests.fakes.sysfs.kernel import Kernel
from tests.fakes.sysfs.tree import FakeSysfs

TIMING = Timing(poll_seconds=0.03, audit_seconds=0.2, settle_seconds=0.3, quiet_seconds=0.1)
SETTINGS = Settings(first_retry_seconds=0.02, longest_retry_seconds=0.1)
LIVED = 0
"""The exit code of an agent that has made all its passes."""


class CountedSysfs(FakeSysfs):
    """The fake tree, each write to which is a crossing."""

    crossings: Crossings

    def _deliver(self, path: PurePosixPath, text: str) -> None:
        name = "clear_vgpu_type" if text.strip() == "0" else path.name
        self.crossings.cross(SYSFS, name, "before")
        super()._deliver(path, text)
        self.crossings.cross(SYSFS, name, "after")


def live(home: Home, life: Life) -> None:
    """Be an agent until killed; this process is of no other use any more."""
    log = os.open(home.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=True),
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.WriteLoggerFactory(os.fdopen(log, "w", buffering=1)),
        cache_logger_on_first_use=False,
    )
    structlog.get_logger().info("LIFE", doom=str(life.doom), passes=life.passes)
    os.environ[STATE_VARIABLE] = str(home.machine)
    crossings = Crossings(home.crossings, life.doom)
    count_what_is_put_on_disk(crossings, str(home.state), str(home.places.cdi))
    if life.passes:
        _die_after(life.passes)
    asyncio.run(_agent(home, crossings))


async def _agent(home: Home, crossings: Crossings) -> None:
    def tree(root: Path) -> CountedSysfs:
        made = CountedSysfs(home.root, Kernel(Machine(home.library, home.machine)), home.mode)
        made.crossings = crossings
        return made

    api = RemoteApi(home.door, lambda name, when: crossings.cross(API, name, when))
    parts = RealNode(
        nodes=(NODE,),
        mode=home.mode,
        state_dir=home.state,
        location=Location(home.library),
        host_root=home.root,
        places=home.places,
        timing=TIMING,
        settings=SETTINGS,
        sysfs=tree,
    )
    parts.check()
    async with parts.assembled(api, Purview()) as agents:
        await agents[0].run()


def _die_after(passes: int) -> None:
    """Let this process end when it has made so many passes, as abruptly as one that is killed."""
    make, left = Passes.make, [passes]

    async def counted(self: Passes, *args: Any) -> float:
        try:
            await make(self, *args)
        finally:
            left[0] -= 1
            if not left[0]:
                os._exit(LIVED)
        return 0.0  # the next one follows at once

    patch.object(Passes, "make", counted).start()
