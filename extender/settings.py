"""The extender's own limits and deadlines, in seconds unless a name says otherwise."""

from __future__ import annotations

import math

import msgspec

JITTER = 0.2  # pauses are longer by up to this, so that replicas do not ask all at once
LEAST_TRIES = 2
LEAST_GAP_SECONDS = 1.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How long things may take and last, and how much is taken in at once."""

    http_timeout_seconds: float = 30.0
    """``httpTimeout`` of the extender in kube-scheduler's configuration: one for every verb."""

    answer_margin_seconds: float = 2.0
    """bind answers this long before ``http_timeout_seconds``, so the scheduler hears it in time."""

    binding_start_margin_seconds: float = 1.5
    """A Binding is started at least this long before bind answers: its 1 s, and half a second in
    which it may be on its way. So long after it was posted it is there, or never will be."""

    binding_timeout_seconds: float = 1.0
    """The server-side timeout of a Binding: the API server commits none it has had for longer."""

    preempts: bool = True
    """Whether pods are evicted for pods of higher priority that wait for want of room."""

    nominates: bool = False
    """Whether kube-scheduler hears on which node a place is being cleared for a pod, so that it
    nominates the pod for that. Only from 1.38 on: before, a node without victims is an error."""

    claim_seconds: float = 600.0
    """How long a preemptor's place is kept while it is being cleared; then it is given up. The time
    that pods take to end does not count, as far as their grace goes: a VM may have hours to shut
    down. Disruption budgets take theirs."""

    preemption_patience_seconds: float = 1.0
    """How long a pod has been refused before others are evicted for it: what is being released,
    and the plan of a burst, come first."""

    eviction_patience_seconds: float = 60.0
    """How long an eviction is asked for again that is refused, or what is leaving anyway is waited
    for; then others are looked at."""

    preemption_pause_seconds: float = 5.0
    """How long after a preemption came to nothing, or none would help, the next is looked for by
    pods that ask for the same; it doubles."""

    preemption_longest_pause_seconds: float = 300.0
    """And to this at most."""

    preemptions_at_once: int = 16
    """The most preemptors whose victims are leaving; the next begins when one has its place, or has
    waited for ``claim_seconds``."""

    move_seconds: float = 900.0
    """How long a VM that is moved may take until its next pod is Ready in the place held for it,
    and a pod that moves were made for to have its own; then the order of moves is given up.
    KubeVirt gives a VM 180 s to shut down."""

    reservation_seconds: float = 120.0
    """An assignment whose pod is not bound, and not tried again, is withdrawn after this long."""

    restart_hold_seconds: float = 120.0
    """The place of a pod that has ended is held for its owner's next pod for this long; 0: never.

    A VM that restarts has its next launcher within seconds; a node that reboots takes minutes."""

    presumption_seconds: float = 5.0
    """How long prioritize's winner keeps its slot from others before bind comes (measured: ms)."""

    presumption_with_volumes_seconds: float = 600.0
    """The same for pods with volume claims: VolumeBinding's default wait before bind."""

    first_retry_seconds: float = 0.05
    """The longest pause before what the API server did not do is tried again; it doubles."""

    longest_retry_seconds: float = 2.0
    """And to this at most. Where the API server asks for more time, it gets that besides."""

    retry_seconds: float = 10.0
    """Background work is tried again for so long before it is put off; a bind, until its answer."""

    avoidance_seconds: float = 60.0
    """A GPU on which an instance could not be created is chosen last for this long, then twice as
    long each time it happens again."""

    avoidance_longest_seconds: float = 900.0
    """And for this long at most; so long without a failure, and one of them is forgotten."""

    circuit_failures: int = 5
    """So many assignments failed in a row, and their node takes nothing new; 0: it always does."""

    circuit_window_seconds: float = 300.0
    """Failures that are older than this do not count."""

    circuit_seconds: float = 30.0
    """For how long; then one assignment is let through, and if that fails, twice as long."""

    circuit_longest_seconds: float = 600.0
    """And for this long at most; so long without a failure, and one of them is forgotten."""

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

    unseen_pod_seconds: float = 360.0
    """How long a pod is remembered that filter asked about and the watch does not show.

    kube-scheduler comes back with an unschedulable pod after 5 minutes at the latest.
    """

    body_limit_bytes: int = 32 * 1024 * 1024
    """The largest request body. Whole-node requests of 1,000 nodes are about 30 MB (measured)."""

    devices_per_pod: int = 16
    """The most GPU instances one pod may ask for; it bounds the work of placing them."""

    plan_burst_pods: int = 8
    """So many pods within ``plan_burst_seconds`` are a burst, whose pods wait to be planned
    together; 0: no pod ever waits. Refused pods are planned together all the same."""

    plan_burst_seconds: float = 1.0
    """How close together the pods of a burst come."""

    plan_settle_seconds: float = 0.05
    """A burst is over when no pod has come for this long, and all that came were filtered."""

    plan_settle_limit_seconds: float = 0.5
    """A burst that does not end is planned as far as it goes after this long."""

    plan_solve_seconds: float = 0.3
    """How long a joint plan is improved; the greedy answer is the least it is."""

    plan_wait_seconds: float = 3.0
    """How long a pod of a burst waits for its plan at most, once: settling, solving, waking."""

    plan_lasts_seconds: float = 5.0
    """How long planned places are kept from others that have another choice."""

    plan_pods: int = 1000
    """The most pods in one plan; the others are planned when their turn comes."""

    @property
    def bind_answer_seconds(self) -> float:
        """How long after its arrival a bind is answered at the latest."""
        return max(
            self.http_timeout_seconds - self.answer_margin_seconds, self.http_timeout_seconds / 2
        )


class InvalidTiming(ValueError):
    """The times of the election do not fit together; the message says what to change."""


class LeaseTiming(msgspec.Struct, frozen=True, kw_only=True):
    """When the lead is renewed, given up, and up for election; the defaults are Kubernetes' own.

    Between ``renew_deadline_seconds`` and ``lease_duration_seconds`` nobody leads. That gap is what
    may go wrong unseen: clocks of different rates (a fifth, by default) and writes on their way.

    Raises:
        InvalidTiming: the times do not fit together.
    """

    lease_duration_seconds: int = 15
    """A Lease that has not changed for this long is up for election."""

    renew_deadline_seconds: float = 10.0
    """A leader that could not renew for this long answers and writes no more."""

    retry_period_seconds: float = 2.0
    """How often the Lease is renewed, or looked at; up to a fifth more, by chance."""

    def __post_init__(self) -> None:
        if self.retry_period_seconds <= 0:
            raise InvalidTiming("the retry period must be above 0: the default is 2")
        if self.renew_deadline_seconds < LEAST_TRIES * self.longest_pause_seconds:
            least = LEAST_TRIES * self.longest_pause_seconds
            raise InvalidTiming(
                f"the renew deadline is {self.renew_deadline_seconds:g} s, too short for"
                f" {LEAST_TRIES} tries: raise it to {least:g}, or lower the retry period"
            )
        if self.lease_duration_seconds < self.renew_deadline_seconds + LEAST_GAP_SECONDS:
            least = math.ceil(self.renew_deadline_seconds + LEAST_GAP_SECONDS)
            raise InvalidTiming(
                f"the lease duration is {self.lease_duration_seconds} s, which leaves no time"
                f" between one leader and the next: raise it to {least}, or lower the renew"
                " deadline"
            )

    @property
    def longest_pause_seconds(self) -> float:
        """The longest time between two looks."""
        return self.retry_period_seconds * (1 + JITTER)

    @property
    def attempt_seconds(self) -> float:
        """How long one request for the Lease may take: a slow one leaves time for others."""
        return self.renew_deadline_seconds / 4
