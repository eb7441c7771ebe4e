"""The account of one pass: what is there, what is to be done about it, what came of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from nodeagent.actuate.intent import Intent, Outcome
from nodeagent.api.gpunode import Mode
from nodeagent.driver import CREATE, Host, LiveGpu
from nodeagent.journal import Made
from nodeagent.ownership import Observed, Place, observe, only_unplanned, remembered
from nodeagent.purview import without
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


class Work:
    """How far one pass has come; on *busy* GPUs nothing may be done."""

    def __init__(
        self, host: Host, intent: Intent, made: tuple[Made, ...], *, busy: Collection[str] = ()
    ) -> None:
        self.host = host
        self.stuck: dict[tuple[str, int], str] = {}
        self.failures: dict[str, str] = {}
        self._intent = intent
        self._pods = {each.id: each.pod.uid for each in intent.plan if each.pod}
        # What a layout cut by hand has lent goes back to it.
        self.made = tuple(
            each
            for each in made
            if not each.lent or each.assignment in self._pods or each.assignment in intent.claimed
        )
        wanted = [each for each in intent.plan if each.pod and each.id not in intent.lost]
        self._refused = {each.id: reason for each in wanted if (reason := refusal(each, host))}
        self._desired: dict[str, dict[str, Wanted]] = {gpu.uuid: {} for gpu in host.gpus}
        for each in wanted:
            if each.id not in self._refused:
                barred = intent.barred.get(each.resource, "")
                asked = Wanted(each.profile_id, each.placement, each.resource, barred)
                self._desired[each.gpu][each.id] = asked
        self._observed: dict[str, tuple[Observed, ...]] = {}
        self._destroyed: set[Place] = set()
        self._uncertain: Collection[str] = ()
        self._put_off: set[str] = set()
        self.look_again(host, busy=busy)

    def pod_of(self, assignment: str) -> str:
        """Return the UID of the pod that an assignment is for, "" if it has left the plan."""
        return self._pods.get(assignment, "")

    @property
    def known(self) -> frozenset[str]:
        """The assignments whose GPU instance exists, or may exist unseen."""
        return frozenset(each.assignment for each in self.made)

    def destructions(self) -> dict[str, list[Destroy]]:
        """Return what to destroy on each GPU."""
        return self._todo(Destroy)

    def creations(self) -> dict[str, list[Create]]:
        """Return what to create on each GPU this time."""
        return {
            gpu: now
            for gpu, todo in self._todo(Create).items()
            if (now := [step for step in todo if self._may_be_created(step.assignment)])
        }

    def _may_be_created(self, assignment: str) -> bool:
        """Tell whether to create something for *assignment* in this pass.

        A VM that has lost its GPU instance under it can do nothing with another.
        """
        over = self.host.mode is not Mode.CONTAINER and assignment in self._intent.claimed
        return not over and assignment not in self._intent.postponed

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
        host = _unhealthy(without(host, self._intent.excluded), busy, _BUSY)
        self.made = remembered(self.made, host, destroyed=self._destroyed)
        self._destroyed.clear()
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

    def destroyed(self, gpu: str, step: Destroy) -> None:
        """Note that the driver says so; the next look tells whether it is true."""
        self._destroyed |= {
            (gpu, each.profile_id, each.placement)
            for each in self._observed[gpu]
            if each.gi_id == step.gi_id
        }

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

    def put_off(self, gpu: str, todo: Sequence[Create]) -> None:
        """Leave creations that were journalled for the next pass."""
        self._put_off |= {step.assignment for step in todo}
        for step in todo:
            self.not_ours(gpu, step)

    def verify(self, creations: Mapping[str, Sequence[Create]]) -> None:
        """Judge the creations by what exists, not by what the driver said of them."""
        live = self.live()
        for step in (step for todo in creations.values() for step in todo):
            if step.assignment in live:
                self.failures.pop(step.assignment, None)
            elif step.assignment not in self._put_off and step.assignment not in self.unfinished():
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

    def unfinished(self) -> frozenset[str]:
        """Return the assignments whose GPU instance exists as planned, and has no device yet."""
        return frozenset(
            each.assignment
            for gpu, observed in self._observed.items()
            for each in observed
            if each.unfinished
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
            blocked=sum(isinstance(s, Blocked | Destroy) for s in left)
            + len(self._uncertain)
            + len(self._put_off),
        )

    def _made(self, gpu: str, step: Create) -> Made:
        return Made(step.assignment, gpu, step.profile_id, step.placement, self.host.boot_id)

    def _observe(self) -> None:
        observed = {
            gpu.uuid: observe(
                gpu,
                self.made,
                self.host,
                claimed=self._intent.claimed,
                holders=self._intent.holders,
                unplanned=self._intent.unplanned,
                pods=self._pods,
                stuck={gi_id: why for (at, gi_id), why in self.stuck.items() if at == gpu.uuid},
            )
            for gpu in self.host.gpus
        }
        self._observed = only_unplanned(observed, self._pods)

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
