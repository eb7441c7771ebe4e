"""What must hold in the end, when nothing more goes wrong and all has come to rest.

* ``left behind``: a pod is still being deleted.
* ``starved``: a pod is pending that has a place, or would find one; or its gang would.
* ``lost``: a bound pod does not run, or not on what was decided.
* ``leaked``: an entry is for nobody, a GPU instance is explained by nothing, or a place is held
  though its time, or its order of moves, is over.
* ``unfinished``: an order of moves is not over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nodeagent.api.gpunode import Assignment
from tests.chaos.judge import Judge, sits_at
from tests.chaos.pods import Pod
from tests.chaos.room import Room

LATE_SECONDS = 3.0  # after a hold's time is over it may still count for so long


def unsettled(judge: Judge) -> Iterator[str]:
    """Yield what is not as it should be."""
    planned = {
        entry.id: (name, entry)
        for name in judge.plans
        for entry in judge.entries(name)
        if entry.pod is not None
    }
    yield from _pods(judge, planned)
    for name, entry in planned.values():
        owner = judge.pods.get(entry.pod.uid) if entry.pod else None
        if owner is None or owner.over or owner.node != name:
            yield f"leaked: {entry.id} on {name} is planned for nobody"
    for name in judge.plans:
        for entry in judge.entries(name):
            if not judge.holds.in_force(entry, give=LATE_SECONDS):
                yield f"leaked: {entry.id} on {name} is held though its time is over"
            if judge.moves.stray(entry):
                yield f"leaked: {entry.id} on {name} is held though its order is over"
    if judge.moves.under_way:
        yield f"unfinished: {judge.moves.order}"
    # While a pod lives whose claim has lost its plan, any of its kind may be behind the claim.
    unexplained = {
        (pod.node, each.profile_id)
        for pod in judge.pods.values()
        if not pod.over
        for each in pod.decisions
        if judge.upheavals.covers(each.id)
    }
    for name, node in judge.hardware.items():
        for gpu in node.gpus:
            for gi_id, there in gpu.instances.items():
                known = (gpu.uuid, gi_id) in judge.foreign
                known = known or (name, there.profile_id) in unexplained
                if not known and not any(
                    sits_at(entry, gpu.uuid, there) for _, entry in planned.values()
                ):
                    yield f"leaked: GPU instance {gi_id} of {gpu.uuid}"


def _pods(judge: Judge, planned: Mapping[str, tuple[str, Assignment]]) -> Iterator[str]:
    placed = {entry.pod.uid for _, entry in planned.values() if entry.pod}
    for pod in judge.pods.values():
        if pod.deleting:
            yield f"left behind: {pod.name} is still being deleted"
        elif not pod.node:
            if not pod.over and pod.uid in placed:
                yield f"starved: {pod.name} has a place and is pending"
            elif not pod.over and _fits(judge, _with_its_gang(judge, pod)):
                yield f"starved: {pod.name} would fit and is pending"
        elif not pod.over:
            yield from _not_at_rest(judge, pod, planned)
        elif pod.phase == "Failed" and not (
            judge.upheavals.touched(pod, at=pod.failed_at)
            or any(judge.forsaken(pod, each) for each in pod.decisions)
        ):
            yield f"lost: {pod.name} was bound, and its kubelet could not run it"


def _not_at_rest(
    judge: Judge, pod: Pod, planned: Mapping[str, tuple[str, Assignment]]
) -> Iterator[str]:
    if pod.phase != "Running":
        yield f"lost: {pod.name} is bound and does not run"
    places = {
        (entry.gpu, entry.start)
        for _, entry in planned.values()
        if entry.pod and entry.pod.uid == pod.uid
    }
    for each in pod.decisions:
        # By whatever id: a deleted plan is written anew.
        if (each.gpu, each.start) not in places and not judge.forsaken(pod, each):
            yield f"lost: {pod.name} is bound, and {each.id} is not planned"
    for fault in judge.faults(pod):
        yield f"lost: {pod.name} is bound, but {fault}"


def _with_its_gang(judge: Judge, pod: Pod) -> Sequence[Pod]:
    """Return the pods that must be placed for *pod* to be; none, if nobody need find their places.

    That is so if its gang is not complete, or plans are greedy.
    """
    if not pod.gang:
        return (pod,)
    alive = [each for each in judge.pods.values() if each.gang == pod.gang and each.alive]
    if any(each.node for each in alive):
        return (pod,)
    return alive if len(alive) >= pod.size and not judge.greedy else ()


def _fits(judge: Judge, pods: Sequence[Pod]) -> bool:
    if not pods:
        return False

    def counting(name: str) -> list[Assignment]:
        return [e for e in judge.entries(name) if judge.holds.in_force(e, give=LATE_SECONDS)]

    # An agent that has had no answer creates nothing more on that GPU: what it asked for may come.
    closed = {
        gpu.uuid
        for plan in judge.plans.values()
        for gpu in plan.status.gpus
        if "never answered" in gpu.unhealthy
    }
    room = Room(judge.hardware, judge.foreign, closed=closed)
    return room.fit([each.wants for each in pods], room.taken(counting, judge.plans.keys()))
