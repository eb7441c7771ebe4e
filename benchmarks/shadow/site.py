"""An extender that decides live, in the time of a story, with a shadow beside it.

Filter, prioritize and bind decide by the hooks' own code on the service's own knowledge. What the
rest of a cluster does is done at once: kube-scheduler takes the best node, the agent makes what is
in the plan and takes away what is not, and VMs that wait are asked about again, in the order in
which they came, as soon as the extender would wake them. In a cluster all of that takes a while.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from extender.cluster import KubernetesCluster
from extender.policy import InForce
from extender.replay.making import nodes
from extender.replay.recorded import Recorded
from extender.replay.views import view_of
from extender.request import Request
from extender.service import Service
from extender.service.choosing import Chooser
from extender.service.ports import Feed
from extender.service.seam import Call, Seam
from extender.shadow import Evidence, news
from extender.shadow.hearing import Hearing, standing, told
from extender.shadow.imagined import Imagined
from extender.verbs import bind
from nodeagent.api.gpunode import Assignment, GpuNode, Metadata, Plan, PodRef
from nodeagent.apiserver.memory import InMemoryApi

NAMESPACE = "tenants"
SILENT_SECONDS = 10.0  # after which agents renew their Leases


class Site:
    """Empty nodes with so many GPUs of a model in all, under a policy; ``now`` is in seconds."""

    def __init__(self, policy: InForce, *, model: str, gpus: int, gpus_per_node: int) -> None:
        self.now = 0.0
        self._renewed = float("-inf")
        self._seam = Seam(lambda: self.now)
        self._service = Service(
            KubernetesCluster(InMemoryApi()),
            policy=policy,
            clock=lambda: self.now,
            seam=self._seam,
        )
        self._knowledge = knowledge = self._service.knowledge
        self._chooser = Chooser(knowledge)
        self._waiting: dict[str, Request] = {}
        for feed in Feed:
            knowledge.feed_synced(feed)
        knowledge.namespace(NAMESPACE, {})
        recorded = Recorded(1, "", nodes=tuple(nodes(model, gpus, gpus_per_node)))
        self._names = tuple(each.name for each in recorded.nodes)
        for node in recorded.nodes:
            knowledge.node(node.name, cordoned=False)
        self.turn_to(0.0)
        for node in recorded.nodes:
            knowledge.gpu_node(_next(view_of(recorded, node, policy).node, ()))

    @property
    def knowledge_version(self) -> str:
        """The version of the policy in force."""
        return self._knowledge.in_force.version

    def beside(self, policy: InForce) -> Beside:
        """Let a policy run beside, from here on."""
        hearing = Hearing(lambda: self.now)
        begins = news.Begins(at=self.now, policy=policy, live=self.knowledge_version)
        first = standing(self._knowledge, begins)
        self._seam.join(hearing)
        return Beside(hearing, tuple(first))

    def adopt(self, policy: InForce) -> None:
        """Decide by another policy from here on; what has its place keeps it."""
        self._knowledge.adopt(policy)
        self._knowledge.room.clear()  # who waits is asked about again when somebody leaves

    def turn_to(self, now: float) -> None:
        """Let time pass; agents tell that they live."""
        self.now = now
        if now - self._renewed >= SILENT_SECONDS:
            self._renewed = now
            for name in self._names:
                self._knowledge.lease(name, f"at-{now}")

    def comes(self, uid: str, wanted: Sequence[str]) -> bool:
        """Ask for a VM; tell whether it has its place, else it waits."""
        request = Request(PodRef(NAMESPACE, uid, uid), tuple(sorted(wanted)))
        placed = self._cycle(request)
        if not placed:
            self._waiting[uid] = request
        return placed

    def leaves(self, uid: str) -> list[str]:
        """Let a VM leave, or give up; return who of those that wait has its place by that."""
        knowledge = self._knowledge
        self._waiting.pop(uid, None)
        knowledge.pod_gone(uid)
        for name in tuple(knowledge.assigned.nodes_of(uid)):
            view = knowledge.views[name]
            kept = [each for each in view.node.spec.assignments if each.pod and each.pod.uid != uid]
            knowledge.gpu_node(_next(view.node, kept))
        placed = []
        if knowledge.room.is_set():
            knowledge.room.clear()
            placed = [each for each, request in self._waiting.items() if self._cycle(request)]
            for each in placed:
                del self._waiting[each]
        return placed

    def _cycle(self, request: Request) -> bool:
        """Take a VM through filter, prioritize and bind, as kube-scheduler does."""
        hooks, knowledge, uid = self._service.hooks, self._knowledge, request.pod.uid
        judged = hooks.judge(request, self._names)
        assert not judged.error, judged.error
        if not judged.passed:
            return False
        node = judged.passed[0]
        if len(judged.passed) > 1:
            node = hooks.rank(request, judged.passed).winner
        choice = self._chooser.choose(request, node)
        assert not isinstance(choice, str), choice
        ids = (f"{uid}/{number}" for number in range(len(choice.placed)))
        entries = bind.assignments(request, choice, ids=ids, since="")
        before = knowledge.views[node].node
        knowledge.gpu_node(_next(before, (*before.spec.assignments, *entries)))
        knowledge.confirm(uid)
        knowledge.release(uid)
        return True


class Beside:
    """A shadow of a site, in this process: told all it would be told in its own, line by line."""

    def __init__(self, hearing: Hearing, first: Sequence[news.News]) -> None:
        begins, *rest = (news.read(news.line(each)) for each in first)
        assert isinstance(begins, news.Begins)
        self._hearing = hearing
        self._imagined = Imagined(begins)
        for each in rest:
            self._imagined.take(each)

    def catch_up(self) -> None:
        """Hear of all that has happened."""
        assert self._hearing.over is None, self._hearing.over
        while self._hearing.waiting:
            call = self._hearing.waiting.take()
            assert isinstance(call, Call), "nothing is lost"
            self._imagined.take(news.read(news.line(told(call))))

    def evidence(self) -> Evidence:
        """Return what it shows by now."""
        self.catch_up()
        return self._imagined.evidence()


def _next(node: GpuNode, assignments: Sequence[Assignment]) -> GpuNode:
    """Return a node with another plan, which its agent has carried out."""
    version = node.metadata.generation + 1
    return msgspec.structs.replace(
        node,
        metadata=Metadata(node.name, f"uid-{node.name}", version, str(version)),
        spec=Plan(tuple(assignments)),
        status=msgspec.structs.replace(node.status, observed_generation=version),
    )
