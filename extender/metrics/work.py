"""What one extender process does: counted and timed as it happens.

Labels are closed choices of ours: no pod, node, tenant or resource is ever one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import StrEnum
from functools import cached_property

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from extender.metrics.causes import Cause
from extender.metrics.decisions import DecisionLogs
from extender.metrics.fleet import Fleet
from extender.metrics.moving import Moves
from extender.metrics.preempting import Preemptions
from extender.metrics.shadow import Shadows
from extender.verbs.verdicts import Code

HOOK_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Filter answers for 5,000 nodes in some 3 ms (measured)."""

PHASE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""A plan's write takes some 2 ms, a GPU instance with its vGPU up to seconds, a scheduler's
httpTimeout is usually 30 s."""

PLAN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 5.0)
"""Joint plans have 0.3 s unless a policy gives them more."""


class Verb(StrEnum):
    """A hook of kube-scheduler's."""

    FILTER = "filter"
    PRIORITIZE = "prioritize"
    PREEMPT = "preempt"
    BIND = "bind"


class Outcome(StrEnum):
    """How a hook was answered.

    ``REFUSED``: with reasons, on every node. ``ERROR``: kube-scheduler is to try again.
    """

    ANSWERED = "answered"
    REFUSED = "refused"
    ERROR = "error"


class Phase(StrEnum):
    """What a bind does, in this order."""

    PLAN = "plan"
    REALIZE = "realize"
    POST = "post"


class Reload(StrEnum):
    """What became of a policy file that had changed; ``SAME``: it says what is in force anyway."""

    ADOPTED = "adopted"
    REFUSED = "refused"
    SAME = "same"


class Work:
    """The counters and histograms of one process, in a registry with its fleet's gauges."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.fleet = Fleet()
        self._registry.register(self.fleet)
        self.decision_log = DecisionLogs()
        self._registry.register(self.decision_log)
        self.shadow = Shadows()
        self._registry.register(self.shadow)
        self.preemptions = Preemptions(self._registry)
        self.moves = Moves(self._registry)
        self._hooks = Histogram(
            "tangram_hook_duration_seconds",
            "Time from a hook's decoded request to its answer.",
            ("verb", "outcome"),
            buckets=HOOK_SECONDS,
            registry=self._registry,
        )
        self._binds = Histogram(
            "tangram_bind_duration_seconds",
            "Time from a bind's decoded request to its answer.",
            ("outcome",),
            buckets=PHASE_SECONDS,
            registry=self._registry,
        )
        self._phases = Histogram(
            "tangram_bind_phase_duration_seconds",
            "Time of each phase of a bind that completed it: the plan's write, the agent's"
            " realization, the Binding.",
            ("phase",),
            buckets=PHASE_SECONDS,
            registry=self._registry,
        )
        self._refusals = Counter(
            "tangram_refusals",
            "Times a pod was refused on every node, by each reason a node gave.",
            ("code",),
            registry=self._registry,
        )
        self._causes = Counter(
            "tangram_refusals_no_room",
            "Times a pod was refused where nothing but room was missing: for want of capacity, or"
            " for fragmentation, if it would fit were all instances moved at will.",
            ("cause",),
            registry=self._registry,
        )
        self._conflicts = Counter(
            "tangram_plan_conflicts",
            "Writes of a plan that found it changed by somebody else.",
            registry=self._registry,
        )
        self._plans = Histogram(
            "tangram_joint_plan_duration_seconds",
            "Time of a joint plan, by what is known of its quality; failed where it was given up,"
            " or its solution refuted.",
            ("status",),
            buckets=PLAN_SECONDS,
            registry=self._registry,
        )
        self._planned = Counter(
            "tangram_joint_plan_pods",
            "Pods considered in joint plans, by whether they were placed.",
            ("placed",),
            registry=self._registry,
        )
        self._gap = Gauge(
            "tangram_joint_plan_gap",
            "How far the last joint plan may be from the best, on each level of its objective, as a"
            " share of the proven bound; 0 is proven optimal, +Inf without a bound.",
            ("level",),
            registry=self._registry,
        )
        self._realizations = Histogram(
            "tangram_realization_duration_seconds",
            "Time from a place in the plan to the agent's word that it is there.",
            buckets=PHASE_SECONDS,
            registry=self._registry,
        )
        self._releases = Histogram(
            "tangram_release_duration_seconds",
            "Time from a place taken out of the plan to the agent's word that its slices are free.",
            buckets=PHASE_SECONDS,
            registry=self._registry,
        )
        self._failures = Counter(
            "tangram_realizations_failed",
            "Places given back because an agent could not realize them.",
            registry=self._registry,
        )
        self._not_admitted = Counter(
            "tangram_pods_not_admitted",
            "Bound pods that their node's kubelet refused for want of a device.",
            registry=self._registry,
        )
        self._wakes = Counter(
            "tangram_wakes",
            "Times rejected pods were woken because room had appeared.",
            registry=self._registry,
        )
        self._reloads = Counter(
            "tangram_policy_reloads",
            "Changes of the policy file, by what became of them.",
            ("outcome",),
            registry=self._registry,
        )
        self._refused_policy = Gauge(
            "tangram_policy_refused",
            "1 while the policy file has a fault, and the policy before it stays in force.",
            registry=self._registry,
        )

    @cached_property
    def registry(self) -> CollectorRegistry:
        """All there is to tell, what never happened included: its rate is 0, not absent.

        Those hundreds of series are made when somebody asks, not while a process starts.
        """
        for code in Code:
            self._refusals.labels(code.value)
        for cause in Cause:
            self._causes.labels(cause.value)
        for outcome in Reload:
            self._reloads.labels(outcome.value)
        for each in Outcome:
            self._binds.labels(each.value)
            for verb in Verb:
                if verb is not Verb.BIND:
                    self._hooks.labels(verb.value, each.value)
        return self._registry

    def hook(self, verb: Verb, outcome: Outcome, seconds: float) -> None:
        """Note an answered hook."""
        if verb is Verb.BIND:
            self._binds.labels(outcome.value).observe(seconds)
        else:
            self._hooks.labels(verb.value, outcome.value).observe(seconds)

    def refused(self, codes: Collection[Code]) -> None:
        """Note a pod that no node takes."""
        for code in codes:
            self._refusals.labels(code.value).inc()

    def no_room(self, cause: Cause, times: int = 1) -> None:
        """Note why there was no room for pods so many *times*."""
        self._causes.labels(cause.value).inc(times)

    @contextlib.contextmanager
    def phase(self, phase: Phase, clock: Callable[[], float]) -> Iterator[None]:
        """Time a phase of a bind, if it completes."""
        started = clock()
        yield
        self._phases.labels(phase.value).observe(clock() - started)

    def conflict(self) -> None:
        """Note a plan that somebody else has changed."""
        self._conflicts.inc()

    def planned(
        self,
        status: str,
        seconds: float,
        *,
        placed: int,
        left_out: int,
        gaps: Mapping[str, float],
    ) -> None:
        """Note a joint plan; *status* is one of the solver's, *gaps* are by level."""
        self._plans.labels(status).observe(seconds)
        for level, gap in gaps.items():
            self._gap.labels(level).set(gap)
        self._planned.labels("yes").inc(placed)
        self._planned.labels("no").inc(left_out)

    def planning_failed(self, seconds: float) -> None:
        """Note a joint plan that came to nothing; its pods are placed one by one."""
        self._plans.labels("failed").observe(seconds)

    def realized(self, seconds: float) -> None:
        """Note how long an agent took for a place in its plan."""
        self._realizations.observe(seconds)

    def released(self, seconds: float) -> None:
        """Note how long an agent took to free what had left its plan."""
        self._releases.observe(seconds)

    def reloaded(self, outcome: Reload) -> None:
        """Note what became of a policy file that had changed."""
        self._reloads.labels(outcome.value).inc()
        self._refused_policy.set(outcome is Reload.REFUSED)

    def not_realized(self) -> None:
        """Note a place that an agent could not make."""
        self._failures.inc()

    def not_admitted(self) -> None:
        """Note a bound pod that its node's kubelet has refused."""
        self._not_admitted.inc()

    def woke(self) -> None:
        """Note that rejected pods were woken."""
        self._wakes.inc()
