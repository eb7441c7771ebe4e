"""Where a kubelet and a container runtime look, and how often and how long we do."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Places(msgspec.Struct, frozen=True):
    """Directories and sockets of the node, as this process sees them."""

    device_plugins: Path = Path("/var/lib/kubelet/device-plugins")
    pod_resources: Path = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
    cdi: Path = Path("/var/run/cdi")

    @property
    def kubelet(self) -> Path:
        """The socket at which plugins register; made anew whenever the kubelet starts."""
        return self.device_plugins / "kubelet.sock"

    @property
    def checkpoint(self) -> Path:
        """What the kubelet remembers of its devices when it restarts."""
        return self.device_plugins / "kubelet_internal_checkpoint"


class Timing(msgspec.Struct, frozen=True):
    """Intervals, in seconds."""

    poll_seconds: float = 1.0
    """How often the kubelet's socket and checkpoint are looked at."""
    audit_seconds: float = 10.0
    """How often the kubelet is asked whether it lists what we offer."""
    call_seconds: float = 5.0
    """How long the kubelet may take for an answer."""
    settle_seconds: float = 2.0
    """How long after an answer to Allocate the kubelet may not tell of it yet: it does after having
    asked for the container's other resources, in milliseconds where all plugins are well."""
    quiet_seconds: float = 0.5
    """How long a resource is left alone between its endpoints. The kubelet learns of an endpoint's
    end by itself, and a new one that has registered before that is taken for the ended one."""
