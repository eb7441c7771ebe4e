"""A case's directory: everything that a site's processes share."""

from __future__ import annotations

from pathlib import Path

import msgspec

from nodeagent.api.gpunode import Mode
from nodeagent.deviceplugin import Places
from tests.crash.points import Point

NODE = "n1"


class Home(msgspec.Struct, frozen=True):
    """*root* is short, for there are sockets in it; *library* is the fake NVML."""

    root: Path
    mode: Mode
    library: Path

    @property
    def machine(self) -> Path:
        """The fake machine's state."""
        return self.root / "machine"

    @property
    def state(self) -> Path:
        """What the agent keeps on the node's disk."""
        return self.root / "agent"

    @property
    def door(self) -> Path:
        """The API server's socket."""
        return self.root / "api.sock"

    @property
    def crossings(self) -> Path:
        """Where the crossings of all lives are written down."""
        return self.root / "crossings"

    @property
    def log(self) -> Path:
        """What the agents have logged."""
        return self.root / "agent.log"

    @property
    def places(self) -> Places:
        """Where the kubelet and the container runtime look."""
        return Places(self.root / "plugins", self.root / "pod-resources.sock", self.root / "cdi")


class Life(msgspec.Struct, frozen=True):
    """How an agent is to live: where it dies, and after how many passes if not there (0: never)."""

    doom: Point | None = None
    passes: int = 0
