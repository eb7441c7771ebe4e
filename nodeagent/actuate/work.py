"""The account of one pass: what is there, what is to be done about it, what came of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from nodeagent.api.gpunode import Assignment
from nodeagent.driver import CREATE, Host, LiveGpu
from nodeagent.journal import Made
from nodeagent.ownership import Observed, observe, remembered
from nodeagent.reconcile import (
    Blocked,
    Create,
    Destroy,
    Impossible,
    Step,
    Wanted,
    closed,
    is_as_wanted,
    refusal,
    steps,
)

_Step = TypeVar("_Step", Destroy, Create)

_NOT_THERE = f"{CREATE}: reported success, but the GPU instance is not there"

# The texts are stable: the extender tells them to the scheduler.
_BUSY = "a call of the driver has not ended yet; nothing is done here before it has"
_UNANSWERED = (
    f"{CREATE}: never answered; nothing is created here before its GPU instance appears,"
    " or the node reboots"
)


class Intent(msgspec.Struct, frozen=True):
    """What a pass shall bring about.

    ``claimed`` assignments keep their GPU instance whatever the plan says; for ``postponed`` ones
    nothing is created this time; ``lost`` ones are over and get none again.
    """

    plan: Sequence[Assignment]
    claimed: Collection[str] = ()
    postponed: Collection[str] = ()
    lost: Collection[str] = ()


class Outcome(msgspec.Struct, frozen=True):
    """What a pass came to.

    ``impossible`` follows from what is and what is planned; ``failures`` are creations the driver
    (or the journal) refused, which may succeed later. ``blocked`` counts GPU instances that
    should go, and GPUs on which nothing can be created before something has become of a call.
    """

    host: Host
    observed: Mapping[str, tuple[Observed, ...]]
    live: frozenset[str]
    impossible: Mapping[str, str]
    failures: Mapping[str, str]
    blocked: int


class Work:
    """How far one pass has come; on *busy* GPUs nothing may be done."""

    def __init__(
        self, host: Host, intent: Intent, made: tuple[Made, ...], *, busy: Collection[str] = ()
    ) -> None:
        self.host = host
        self.made = made
        self.stuck: dict[tuple[str, int], str] = {}
        self.failures: dict[str, str] = {}
        self._intent = intent
        wanted = [each for each in intent.plan if each.pod and each.id not in intent.lost]
        self._refused = {each.id: reason for each in wanted if (reason := refusal(each, host))}
        self._desired: dict[str, dict[str, Wanted]] = {gpu.uuid: {} for gpu in host.gpus}
        for each in wanted:
            if each.id not in self._refused:
                asked = Wanted(each.profile_id, each.placement, each.resource)
                self._desired[each.gpu][each.id] = asked
        self._observed: dict[str, tuple[Observed, ...]] = {}
        self._uncertain: Collection[str] = ()
        self.look_again(host, busy=busy)

    def destructions(self) -> dict[str, list[Destroy]]:
        """Return what to destroy on each GPU."""
        return self._todo(Destroy)

    def creations(self) -> dict[str, list[Create]]:
        """Return what to create on each GPU this time."""
        return {
            gpu: now
            for gpu, todo in self._todo(Create).items()
            if (now := [step for step in todo if step.assignment not in self._intent.postponed])
        }

    def with_intended(self, creations: Mapping[str, Sequence[Create]]) -> tuple[Made, ...]:
        """Return what the journal must hold before these creations."""
        intended = (self._made(gpu, step) for gpu, todo in creations.items() for step in todo)
        return tuple(dict.fromkeys((*self.made, *intended)))

    def not_ours(self, gpu: str, step: Create) -> None:
        """Forget what was journalled for a creation that certainly made nothing."""
        nothing = self._made(gpu, step)
        self.made = tuple(each for each in self.made if each != nothing)

    def unanswered(self, gpu: str, step: Create) -> None:
        """Remember a creation of which nobody knows whether it will yet make something."""
        unknown = self._made(gpu, step)
        self.made = tuple(
            msgspec.structs.replace(each, unanswered=True) if each == unknown else each
            for each in self.made
        )

    def look_again(self, host: Host, *, busy: Collection[str]) -> None:
        """Go on from what is on the node now.

        A GPU on which a call may still do something is as good as unhealthy.
        """
        host = _unhealthy(host, busy, _BUSY)
        self.made = remembered(self.made, host)
        unanswered = {each.gpu for each in self.made if each.unanswered}
        self.host = _unhealthy(host, unanswered, _UNANSWERED)
        self.stuck |= {
            (gpu.uuid, each.gi_id): _BUSY
            for gpu in host.gpus
            if gpu.uuid in busy
            for each in gpu.instances
        }
        self._uncertain = unanswered.union(busy)
        self._observe()

    def give_up_destroying(self) -> None:
        """Count what is still there as held: nothing is created in its place in this pass."""
        for gpu, todo in self.destructions().items():
            self.stuck |= {(gpu, step.gi_id): "it is still there" for step in todo}
        self._observe()

    def give_up(self, creations: Mapping[str, Sequence[Create]], reason: str) -> None:
        """Report creations that were not even tried."""
        self.failures |= {s.assignment: reason for todo in creations.values() for s in todo}

    def leave_out(self, gpu: str, todo: Sequence[Create], reason: str) -> None:
        """Report creations that were journalled and then not tried."""
        self.give_up({gpu: todo}, reason)
        for step in todo:
            self.not_ours(gpu, step)

    def verify(self, creations: Mapping[str, Sequence[Create]]) -> None:
        """Judge the creations by what exists, not by what the driver said of them."""
        live = self.live()
        for step in (step for todo in creations.values() for step in todo):
            if step.assignment in live:
                self.failures.pop(step.assignment, None)
            else:
                self.failures.setdefault(step.assignment, _NOT_THERE)

    def live(self) -> frozenset[str]:
        """Return the assignments whose GPU instance exists as planned, with its device."""
        return frozenset(
            each.assignment
            for gpu, observed in self._observed.items()
            for each in observed
            if each.device is not None
            and (wanted := self._desired_on(gpu).get(each.assignment)) is not None
            and is_as_wanted(each, wanted)
        )

    def outcome(self) -> Outcome:
        """Return what the pass came to."""
        left = [step for gpu in self.host.gpus for step in self._steps(gpu)]
        impossible = {s.assignment: s.reason for s in left if isinstance(s, Impossible)}
        return Outcome(
            host=self.host,
            observed=self._observed,
            live=self.live(),
            impossible=self._refused | impossible,
            failures=self.failures,
            blocked=sum(isinstance(s, Blocked | Destroy) for s in left) + len(self._uncertain),
        )

    def _made(self, gpu: str, step: Create) -> Made:
        return Made(step.assignment, gpu, step.profile_id, step.placement, self.host.boot_id)

    def _observe(self) -> None:
        self._observed = {
            gpu.uuid: observe(
                gpu,
                self.made,
                boot_id=self.host.boot_id,
                claimed=self._intent.claimed,
                stuck={gi_id: why for (at, gi_id), why in self.stuck.items() if at == gpu.uuid},
            )
            for gpu in self.host.gpus
        }

    def _todo(self, kind: type[_Step]) -> dict[str, list[_Step]]:
        found = {
            gpu.uuid: [step for step in self._steps(gpu) if isinstance(step, kind)]
            for gpu in self.host.gpus
        }
        return {gpu: todo for gpu, todo in found.items() if todo}

    def _steps(self, gpu: LiveGpu) -> Iterator[Step]:
        return steps(self._observed[gpu.uuid], self._desired_on(gpu.uuid), closed=closed(gpu))

    def _desired_on(self, gpu: str) -> Mapping[str, Wanted]:
        return self._desired.get(gpu, {})  # none on a GPU that has only just appeared


def _unhealthy(host: Host, gpus: Collection[str], reason: str) -> Host:
    """Return *host* with those of its *gpus* that were healthy unhealthy for that *reason*."""
    return msgspec.structs.replace(
        host,
        gpus=tuple(
            msgspec.structs.replace(gpu, unhealthy=gpu.unhealthy or reason)
            if gpu.uuid in gpus
            else gpu
            for gpu in host.gpus
        ),
    )
