"""The extender's own limits and deadlines, in seconds unless a name says otherwise."""

from __future__ import annotations

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How long things may take and last, and how much is taken in at once."""

    http_timeout_seconds: float = 30.0
    """``httpTimeout`` of the extender in kube-scheduler's configuration: one for every verb."""

    answer_margin_seconds: float = 2.0
    """bind answers this long before ``http_timeout_seconds``, so the scheduler hears it in time."""

    binding_start_margin_seconds: float = 1.5
    """A Binding is started at least this long before bind answers: its 1 s and some slack."""

    binding_timeout_seconds: float = 1.0
    """The server-side timeout of a Binding; past it the API server will not commit it."""

    reservation_seconds: float = 120.0
    """An assignment whose pod is not bound, and not tried again, is withdrawn after this long."""

    presumption_seconds: float = 5.0
    """How long prioritize's winner keeps its slot from others before bind comes (measured: ms)."""

    presumption_with_volumes_seconds: float = 600.0
    """The same for pods with volume claims: VolumeBinding's default wait before bind."""

    lease_missed_seconds: float = 40.0
    """A node whose agent has not renewed for this long (4 renewals of 10 s) is stale."""

    snapshot_age_seconds: float = 40.0
    """Without a working watch, decisions go on with the last snapshot for this long at most."""

    wake_interval_seconds: float = 1.0
    """Rejected pods are woken at most once in this time."""

    sweep_interval_seconds: float = 1.0
    """How often expiry and staleness are looked at."""

    unseen_pod_recheck_seconds: float = 30.0
    """How often a pod is read by name that has an assignment but is not in the pod watch."""

    body_limit_bytes: int = 32 * 1024 * 1024
    """The largest request body. Whole-node requests of 1,000 nodes are about 30 MB (measured)."""

    devices_per_pod: int = 16
    """The most GPU instances one pod may ask for; it bounds the search for their places."""

    @property
    def bind_answer_seconds(self) -> float:
        """How long after its arrival a bind is answered at the latest."""
        return max(
            self.http_timeout_seconds - self.answer_margin_seconds, self.http_timeout_seconds / 2
        )
