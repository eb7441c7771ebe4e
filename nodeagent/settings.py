"""How often the agent looks, how long it waits, how soon it tries again."""

from __future__ import annotations

import msgspec


class Settings(msgspec.Struct, frozen=True):
    """The agent's intervals, in seconds."""

    rescan_seconds: float = 30.0
    """At the latest, everything is looked at anew after this."""
    lease_renew_seconds: float = 10.0
    lease_missed_renewals: int = 4
    """So many missed renewals make a node stale; the Lease's duration tells it."""
    api_timeout_seconds: float = 8.0
    driver_timeout_seconds: float = 60.0
    prepare_timeout_seconds: float = 600.0
    """Enabling virtual functions unbinds a GPU from its driver, which may take minutes."""
    kubelet_timeout_seconds: float = 10.0
    drain_seconds: float = 20.0
    """How long the agent, told to end, waits for tied pods; Kubernetes gives it 30 s by default."""
    first_retry_seconds: float = 1.0
    longest_retry_seconds: float = 60.0

    def retry_after(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row, at least one."""
        return min(self.longest_retry_seconds, self.first_retry_seconds * 2.0 ** (failures - 1))
