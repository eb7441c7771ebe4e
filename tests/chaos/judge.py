"""The judge: locks on intervals of slices, followed through the writes and the driver's calls.

It knows nothing of the extender's ledger or the agent's journal. A plan's entry takes the lock on
its slices, a changed one anew. The lock is given back when the entry has left the plan and the GPU
instance made for it is gone, whoever took it away.

Broken promises are told at the moment they are broken:

* ``promised twice``: an entry is written for slices that somebody else still has.
* ``lost``: the GPU instance of a bound pod is destroyed, or the pod runs on another; its entry
  leaves the plan; or an extender deletes a GpuNode that is not empty.
* ``foreign destroyed``: an agent destroys what no agent made.
* ``half bound``: a pod is bound without its decision, or the decision is not in the plan.
* ``bound after the answer``: a Binding is written that nobody waits for any more, and that was not
  long on its way.
* ``crashed``: a process ends in an error, or answers a call with one.

What holds for whoever leads says ``leads``, for places on their way out ``releases``, for those
that are held ``holds``, for those that are waited for ``claims``, for whom kube-scheduler would
evict ``proposals``, for orders of moves ``moves``, for gangs ``gangs``, in the end ``rest``.

What a GPU reset, a reboot or somebody with nvidia-smi has ended (``upheavals``), or somebody with
kubectl (``excuses``), nobody can keep: what was promised by then, and only that, is excused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from nodeagent.api import gpunode, keys
from nodeagent.api.gpunode import Assignment, Decision, GpuNode, Instance, Inventory, PodRef
from nodeagent.apiserver.history import Write
from nodeagent.apiserver.protocol import (
    CONFIG_MAPS,
    GPU_NODES,
    LEASES,
    MIGRATIONS,
    PODS,
    VIRTUAL_MACHINE_INSTANCES,
    Kind,
)
from nodeagent.simulated.hardware import Hardware, SimulatedGpu
from tests.chaos.claims import Claims, is_claim
from tests.chaos.excuses import Excuses
from tests.chaos.gangs import Gangs
from tests.chaos.holds import Holds
from tests.chaos.leads import Leads
from tests.chaos.moves import Leaves, Moves, Running
from tests.chaos.obstacles import Obstacles
from tests.chaos.pods import Pod, decisions
from tests.chaos.proposals import Proposals, Proposed
from tests.chaos.releases import Releases, fresh, place
from tests.chaos.reports import Reports
from tests.chaos.said import Said
from tests.chaos.upheavals import Upheavals


class Judge:
    """Follows one history; *waited_for* tells whether somebody waits for a pod's bind.

    *greedy* tells whether nobody has the time to plan but greedily, which need not find places for
    a whole gang. *knew* tells when a process came to know of a GpuNode, by UID, that it was deleted
    at a time; *read* what it has read of a node's GpuNode by a time, as
    :class:`~tests.chaos.said.Said` takes it; *replicas* which extenders there are that have read
    GpuNodes. For the others see :class:`~tests.chaos.leads.Leads`.
    """

    def __init__(
        self,
        hardware: Mapping[str, Hardware],
        *,
        clock: Callable[[], float],
        waited_for: Callable[[str], bool],
        writer: Callable[[], str],
        hold_seconds: float,
        listed: Callable[[str, Kind], float],
        greedy: bool = False,
        lead_seconds: float = float("inf"),
        sent: Callable[[], float] = lambda: 0.0,
        late: Callable[[], bool] = lambda: False,
        knew: Callable[[str, str, float], float] = lambda process, uid, deleted: deleted,
        read: Callable[[str, str, float], tuple[int, float]] = lambda process, node, by: (0, by),
        replicas: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        self.violations: list[str] = []
        self.pods: dict[str, Pod] = {}
        self.plans: dict[str, GpuNode] = {}
        self._reports = Reports()
        self._said = Said()
        self._releases = Releases(self._is_next)
        self.leads = Leads(
            clock, writer=writer, sent=sent, late=late, listed=listed, lasts=lead_seconds
        )
        self.foreign: set[tuple[str, int]] = set()
        self.made_for: dict[tuple[str, int], str] = {}
        self._half_made: set[tuple[str, int]] = set()
        self.hardware = hardware
        self.greedy = greedy
        self._clock = clock
        self._waited_for = waited_for
        self._late = late
        self._writer = writer
        self.excuses = Excuses(clock)
        self.upheavals = Upheavals(clock)
        self.gangs = Gangs(clock, waited_for=waited_for)
        self._obstacles = Obstacles(ours=self._ours)
        self._placed: frozenset[str] = frozenset()
        self._deleted: list[tuple[GpuNode, float]] = []
        self._removed: dict[str, Assignment] = {}
        self._came: dict[str, tuple[int, float, str]] = {}
        self._sent = sent
        self._knew = knew
        self._read = read
        self._replicas = replicas
        self._gpus = {gpu.uuid: gpu for node in hardware.values() for gpu in node.gpus}
        self.claims = Claims(self.pods, clock)
        self.moves = Moves(self.pods, self.plans, clock)
        self.claims.waits_for = self.moves.waits_for
        self.proposals = Proposals(self.plans, self.pods, hardware, clock=clock, read=read)
        self.holds = Holds(
            hold_seconds,
            clock,
            alive=self._alive,
            clear=self._clear,
            together=self.gangs.counts,
            given_way=self.claims.given_way,
            ordered=self.moves.answers_for,
            lasting=self.moves.lasts,
        )

    # What is seen.

    def wrote(self, kind: Kind, write: Write) -> None:
        """See a write of the API server."""
        if kind == GPU_NODES:
            self._wrote_plan(write)
            every = (entry for name in self.plans for entry in self.entries(name))
            before = self._placed
            self._placed = frozenset(entry.pod.uid for entry in every if entry.pod)
            if self._placed != before:
                self.gangs.look(self.pods.values(), self._placed)
        elif kind == PODS and write.key[0] != keys.SYSTEM_NAMESPACE:
            gone = self.pods.get(write.before.uid) if write.before else None
            now = self._wrote_pod(write) or gone
            if now is not None and now.gang:
                self.gangs.look(self.pods.values(), self._placed)
        elif kind == LEASES and write.key[1] == keys.LEADER_LEASE:
            self.leads.wrote(write)
        elif kind == CONFIG_MAPS and write.key[1] == keys.ORDER_CONFIG_MAP and write.after:
            self._must_lead("has kept an order of moves")
            for fault in self.moves.kept(write.after.raw, self._sent()):
                self._broken(fault)
        elif kind == MIGRATIONS and write.before is None and write.after:
            self._made_to_leave(write.after.value()["spec"]["vmiName"], "live-migration")
        elif kind == VIRTUAL_MACHINE_INSTANCES and write.after is None:
            assert write.before is not None  # or nothing could have been deleted
            self._made_to_leave(Running(write.key[1], write.before.uid), "restart")

    def created(self, node: str, gpu: str, gi_id: int) -> None:
        """See an agent make a GPU instance."""
        made = self._gpus[gpu].instances[gi_id]
        entry = next((e for e in self.entries(node) if sits_at(e, gpu, made)), None)
        self.made_for[gpu, gi_id] = entry.id if entry else "an assignment withdrawn meanwhile"
        self._half_made.discard((gpu, gi_id))  # another had that id
        if entry:
            self.upheavals.made(entry.id)

    def half_made(self, gpu: str, gi_id: int) -> None:
        """See an agent told that it could not make a GPU instance of which something is there.

        Until it says that an entry is realized by that all the same, it may make another instead.
        """
        self._half_made.add((gpu, gi_id))

    def looked(self, node: str) -> None:
        """See an agent look at its GPUs."""
        self.upheavals.looked(node)

    def destroying(self, node: str, gpu: str, gi_id: int) -> None:
        """See an agent destroy a GPU instance, or try to."""
        instance = self._gpus[gpu].instances.get(gi_id)
        if instance is None:
            return
        if (gpu, gi_id) in self.foreign:
            self._broken(f"foreign destroyed: GPU instance {gi_id} of {gpu}")
        half, realized = (gpu, gi_id) in self._half_made, self._reports.realized(node)
        for pod in self.pods.values():
            if pod.node == node and not pod.over:
                for each in pod.decisions:
                    its = each.gpu == gpu and _same(each, instance)
                    again = half and each.id not in realized and not self._has(pod, each)
                    excused = self.upheavals.covers(each.id) or self._undone(pod, each)
                    if its and not (again or excused):
                        self._broken(f"lost: the GPU instance of {pod.name}, which is bound")
        users = self._gpus[gpu].clients.get(gi_id)
        if users:
            self._broken(f"lost: a GPU instance in use by {users} was to be destroyed")
        else:
            self.made_for.pop((gpu, gi_id), None)

    @contextlib.contextmanager
    def upheaval(self, *gpus: SimulatedGpu) -> Iterator[None]:
        """See what on these GPUs goes meanwhile, or is lost with one, by no fault of ours."""
        there = [(gpu, gi_id, each) for gpu in gpus for gi_id, each in gpu.instances.items()]
        users = {(gpu.uuid, gi_id): {*gpu.clients.get(gi_id, ())} for gpu, gi_id, _ in there}
        yield
        taken = [each for each in there if each[0].lost or each[1] not in each[0].instances]
        gone, had = set[str](), set[str]()
        for gpu, gi_id, instance in taken:
            for id, uid in self._for(gpu.uuid, instance):
                gone.add(id)
                if uid in users[gpu.uuid, gi_id]:
                    had.add(id)
            if gi_id not in gpu.instances:
                self.foreign.discard((gpu.uuid, gi_id))
                self.made_for.pop((gpu.uuid, gi_id), None)
        self.upheavals.upset([gpu.uuid for gpu in gpus], gone, had)

    def _for(self, gpu: str, there: Any) -> Iterator[tuple[str, str]]:
        """Yield what a GPU instance is planned or decided for: ids, each with its pod's UID."""
        for entry in (entry for name in self.plans for entry in self.entries(name)):
            if entry.pod and sits_at(entry, gpu, there):
                yield entry.id, entry.pod.uid
        for pod in self.pods.values():
            for each in pod.decisions:
                if each.gpu == gpu and _same(each, there):
                    yield each.id, pod.uid

    def vetted(
        self, process: str, pod: Pod, asked: Proposed, kept: Proposed, *, promised: bool
    ) -> None:
        """See what is kept of what was proposed for a pod, and whether anything was *promised*."""
        if promised:
            self._broken(f"promised unasked: by {process}, asked whom to evict for {pod.name}")
        for fault in self.proposals.answered(process, pod, asked, kept):
            self._broken(fault)

    def crashed(self, process: object, error: BaseException) -> None:
        """See that *process*, or an answer of it, ended in an *error*."""
        self._broken(f"crashed: {process}: {error!r}")

    # What must hold.

    def _wrote_plan(self, write: Write) -> None:
        name, writer = write.key[1], self._writer()
        before = self.plans.get(name)
        if write.after is None:
            self._said.wrote(name, write.version, Inventory(), now=self._clock())
            self._deleted_plan(name)
            return
        node = self.plans[name] = gpunode.decode(write.after.raw)
        self._said.wrote(name, write.version, node.status, now=self._clock())
        self._reports.hear(name, node.status)
        if before is None or before.status != node.status:
            self.upheavals.told(name, node.status, self._sent())
        self.excuses.planned([each.id for each in node.spec.assignments])
        self._take_for_made(node)
        if node.status.observed_generation >= node.metadata.generation:
            self.excuses.seen(
                [each.id for each in node.spec.assignments],
                realized={each.id for each in node.status.realized},
            )
        faults = [*self._releases.wrote(before, node)]
        if before is not None and before.metadata.generation == node.metadata.generation:
            self._obstacles.also(node)
            return
        self.excuses.written(name, writer, anew=before is None)
        kept = {e.id for e in node.spec.assignments}
        had = before.spec.assignments if before else ()
        self._removed.update({e.id: e for e in had if e.id not in kept})
        if writer:
            self._must_lead(f"wrote the plan of {name}")
            self._must_have_listed()
        for entry in fresh(before, node):
            self._came.setdefault(entry.id, (write.version, self._clock(), writer))
            if not is_claim(entry):
                self._take_lock(node, entry)
        faults += [
            *self._left_the_plan(had, node),
            *self.holds.wrote(before, node, writer),
            *self.claims.wrote(before, node),
            *self.moves.wrote(before, node, self._sent()),
        ]
        for fault in faults:
            self._broken(fault)
        self._obstacles.anew(node)

    def _take_for_made(self, node: GpuNode) -> None:
        """See what is told of a node: what is realized is not half made any more."""
        if not self._half_made:
            return
        realized = self._reports.realized(node.name)
        for entry in (each for each in node.spec.assignments if each.id in realized):
            there = self._gpus[entry.gpu].instances.items()
            made = {gi_id for gi_id, each in there if sits_at(entry, entry.gpu, each)}
            self._half_made -= {(entry.gpu, gi_id) for gi_id in made}

    def _deleted_plan(self, name: str) -> None:
        """See a GpuNode deleted; an extender may, of a node that has nothing of anybody's."""
        gone = self.plans.pop(name, None)
        self._reports.forget(name)
        self._releases.forget(name)
        if gone is None:
            return
        for entry in gone.spec.assignments:
            self._removed.pop(entry.id, None)
        if not self._writer():
            self._deleted.append((gone, self._clock()))
            for id in (e.id for e in gone.spec.assignments if e.pod):
                knew = {each for each in self._replicas() if self._has_read(each, name, id)}
                self.excuses.plan_deleted(name, gone.metadata.uid, [id], knew)
            return
        self._must_lead(f"has deleted the GpuNode of {name}")
        if any(entry.pod for entry in gone.spec.assignments):
            self._broken(f"lost: the plan of {name} was deleted, and pods are in it")
        if any(gpu.instances for gpu in gone.status.gpus):
            self._broken(f"lost: {name} was forgotten, and it has GPU instances")

    def _has_read(self, replica: str, node: str, id: str) -> bool:
        """Tell whether a replica has written an entry, or been told of a plan that had it.

        One that was frozen, or cut off, since before that was written has not.
        """
        came, at, by = self._came.get(id, (0, 0.0, ""))
        version, asked = self._read(replica, node, self._clock())
        return replica == by or version >= came or asked >= at

    def _left_the_plan(self, had: Iterable[Assignment], node: GpuNode) -> Iterator[str]:
        """Yield what bound pods, that have not ended, do not have in their node's plan any more.

        No reset and no reboot excuses that: what was promised stays so until the pod has ended.
        """
        kept = {(place(e), e.pod.uid) for e in node.spec.assignments if e.pod}
        for last in had:
            pod = self.pods.get(last.pod.uid) if last.pod else None
            if pod is None or pod.over or pod.node != node.name:
                continue
            if (place(last), pod.uid) not in kept and any(
                (each.gpu, each.start) == (last.gpu, last.start) for each in pod.decisions
            ):
                yield f"lost: {last.id} of {pod.name}, which is bound, left the plan"

    def _must_lead(self, what: str) -> None:
        for fault in self.leads.must_lead(what):
            self._broken(fault)

    def _must_have_listed(self) -> None:
        for fault in self.leads.must_have_listed():
            self._broken(fault)

    def _made_to_leave(self, whom: Leaves, kind: str) -> None:
        self._must_lead(f"has had {whom} leave by {kind}")
        self._must_have_listed()
        for fault in self.moves.departs(whom, kind, self._writer(), self._sent()):
            self._broken(fault)

    def _take_lock(self, node: GpuNode, entry: Assignment) -> None:
        mask = entry.placement.mask
        for other in node.spec.assignments:
            if other.id == entry.id or is_claim(other):
                continue
            if other.gpu == entry.gpu and other.placement.mask & mask:
                self._broken(f"promised twice: {entry.id} and {other.id} on {entry.gpu}")
        uid = entry.pod.uid if entry.pod else ""
        by = self._came[entry.id][2]  # who writes again what a plan has lost promises nothing
        for pod in self.pods.values():
            if pod.uid == uid or not pod.node or pod.over:
                continue
            for each in pod.decisions:
                meets = each.gpu == entry.gpu and _mask(each) & mask
                if meets and not self._unknown(pod, each, by):
                    self._broken(f"promised twice: {entry.id} where {pod.name} is bound")
        for gi_id, there in self._gpus[entry.gpu].instances.items():
            owner = self.made_for.get((entry.gpu, gi_id))
            if (
                owner in self._removed
                and there.placement.mask & mask
                and not self._is_next(entry, self._removed[owner])
            ):
                self._broken(f"promised twice: {entry.id} where the instance of {owner} is left")

    def _is_next(self, entry: Assignment, last: Assignment) -> bool:
        """Tell whether an entry is for the very pod that had *last*, or the next it was held for.

        Or is held by an order for the VM that has left what is still there, or for its next pod,
        which takes that. The agent destroys first, as it does for any hold. What somebody else has
        left may be held, too: nobody is given that before it is free.
        """
        same = entry.pod is not None and entry.pod == last.pod
        if same or self.holds.succeeds(entry, last.id):
            return True
        if not self.moves.leads_back(entry):
            return False
        return last.owner == entry.owner or entry.pod is None

    def _wrote_pod(self, write: Write) -> Pod | None:
        """See a pod written, and return it, None if it is gone."""
        if write.after is None:
            if write.before is not None:
                gone = self.pods.pop(write.before.uid, None)
                if gone is not None:
                    self.claims.ended(gone)
                    self.moves.ended(gone)
            return None
        value = write.after.value()
        meta, spec, status = value["metadata"], value["spec"], value["status"]
        pod = self.pods.get(meta["uid"])
        if pod is None:
            pod = self.pods[meta["uid"]] = Pod.created(value)
        newly_bound = not pod.node and "nodeName" in spec
        pod.node = spec.get("nodeName", "")
        phase, pod.phase = pod.phase, status["phase"]
        if pod.phase == "Failed" != phase:
            self.excuses.failed([each.id for each in pod.decisions])
        pod.deleting = "deletionTimestamp" in meta
        conditions = status.get("conditions", ())
        ready = any((c["type"], c.get("status")) == ("Ready", "True") for c in conditions)
        if ready and not pod.ready:
            pod.ready, pod.ready_at = True, self._clock()
        target = any(c["type"] == "DisruptionTarget" for c in conditions)
        if target and not pod.evicted:
            pod.evicted = True
            self._evicted(pod)
        if newly_bound:
            self._bound(pod, meta)
        if pod.phase == "Failed" != phase:
            pod.failed_at = self._sent()
        pod.ended = pod.ended or pod.phase == "Succeeded"
        if pod.phase == "Running" != phase and not pod.over:
            for fault in self.faults(pod):
                self._broken(f"lost: {pod.name} runs, but {fault}")
        return pod

    def _evicted(self, pod: Pod) -> None:
        faults = tuple(self.claims.evicts(pod, self._believed()))
        if faults and self.moves.concerns(pod.uid):
            self._made_to_leave(PodRef("default", pod.name, pod.uid), "eviction")
            return
        self._must_lead(f"has evicted {pod.name}")
        self._must_have_listed()
        for fault in faults:
            self._broken(fault)

    def _believed(self) -> Iterator[GpuNode]:
        """Yield the plans, and those deleted by hand of which the writer had yet to hear that."""
        yield from self.plans.values()
        writer, sent = self._writer(), self._sent()
        for plan, at in self._deleted:
            if sent <= self._knew(writer, plan.metadata.uid, at):
                yield plan

    def _bound(self, pod: Pod, meta: Mapping[str, Any]) -> None:
        pod.bound_at = self._clock()
        pod.decisions = decisions(meta)
        for fault in self.gangs.bound(pod, self.pods.values()) if pod.gang else ():
            self._broken(fault)
        if sorted(each.resource for each in pod.decisions) != list(pod.wants):
            self._broken(f"half bound: {pod.name} without a decision for each {pod.wants}")
        if not self._waited_for(pod.uid) and not self._late():
            self._broken(f"bound after the answer: {pod.name}")
        self._must_lead(f"has bound {pod.name}")
        self._must_have_listed()
        writer, sent = self._writer(), self._sent()
        if self.excuses.in_good_faith(pod, sent, partial(self._knew, writer)):
            return
        entries = {e.id: e for e in self.entries(pod.node) if e.pod and e.pod.uid == pod.uid}
        realized = self._reports.realized(pod.node)
        for each in pod.decisions:
            entry = entries.get(each.id)
            if entry is None or (entry.gpu, entry.start) != (each.gpu, each.start):
                self._broken(f"half bound: {pod.name} has {each.id}, which is not planned")
            elif each.id not in realized and not (
                self.upheavals.covers(each.id)
                and self._said.may_be_realized(
                    each.id, pod.node, read=self._read(writer, pod.node, sent), sent=sent
                )
            ):
                self._broken(f"half bound: {pod.name} has {each.id}, which is not realized")

    def faults(self, pod: Pod) -> Iterator[str]:
        """Yield what a running pod does not have of what was decided."""
        for each in pod.decisions:
            if not self._has(pod, each) and not self.upheavals.covers(each.id):
                yield f"it does not hold {each.id}"

    def _has(self, pod: Pod, decision: Decision) -> bool:
        """Tell whether a pod has a GPU instance that was decided for it."""
        gpu = self._gpus[decision.gpu]
        return any(
            _same(decision, there) and pod.uid in gpu.clients.get(gi_id, ())
            for gi_id, there in gpu.instances.items()
        )

    def forsaken(self, pod: Pod, decision: Decision) -> bool:
        """Tell whether nobody stands by what was decided for a pod, and it has nothing of it.

        Somebody has deleted the plan, and who has written the next, or leads, had never read it.
        """
        if self._unknown(pod, decision, self.leads.holder):
            return True
        return self.excuses.forsaken(decision.id) and not self._has(pod, decision)

    def _unknown(self, pod: Pod, decision: Decision, by: str) -> bool:
        """Tell whether a replica never knew what was decided for a pod that has nothing of it."""
        return self.excuses.unknown(decision.id, by) and not self._has(pod, decision)

    def _undone(self, pod: Pod, decision: Decision) -> bool:
        """Tell whether an agent need not know what was decided for a pod that has nothing of it."""
        return self.excuses.undone(decision.id) and not self._has(pod, decision)

    def _alive(self, uid: str) -> bool:
        return uid in self.pods and not self.pods[uid].over

    def _ours(self, gpu: str, told: Instance) -> bool:
        """Tell whether what was told is there and was made by an agent; ids are given again."""
        there = self._gpus[gpu].instances.get(told.gi_id)
        same = there is not None and (there.profile_id, there.placement) == (
            told.profile_id,
            told.placement,
        )
        return same and (gpu, told.gi_id) in self.made_for

    def _clear(self, entry: Assignment) -> bool:
        gpu = self._gpus[entry.gpu]
        there = gpu.instances.items()
        foreign = (i for gi_id, i in there if (entry.gpu, gi_id) in self.foreign)
        return (
            not gpu.lost
            and self.upheavals.calm(entry.gpu)
            and not self._obstacles.bar(entry)
            and not any(
                i.profile_id == entry.profile_id or i.placement.mask & entry.placement.mask
                for i in foreign
            )
        )

    def entries(self, name: str) -> tuple[Assignment, ...]:
        """Return what a node's plan has."""
        node = self.plans.get(name)
        return node.spec.assignments if node else ()

    def _broken(self, what: str) -> None:
        self.violations.append(f"{self._clock():.3f} s: {what}")


def _mask(decision: Decision) -> int:
    return ((1 << decision.size) - 1) << decision.start


def _same(decision: Decision, there: Any) -> bool:
    return (decision.profile_id, decision.start) == (there.profile_id, there.placement.start)


def sits_at(entry: Assignment, gpu: str, there: Any) -> bool:
    return (entry.gpu, entry.profile_id, entry.start) == (
        gpu,
        there.profile_id,
        there.placement.start,
    )
