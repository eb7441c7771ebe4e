"""What becomes of what is known as the cluster tells of GpuNodes, Nodes and agents' Leases."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec
import structlog

from extender.ledger import Promise
from extender.occupants import namespace_of
from extender.policy.selectors import Labels
from extender.service.alike import entries_as_pods
from extender.service.knowledge.known import REMEMBERED, Known, told
from extender.service.refusals import improved
from extender.snapshot import NodeView, taken_by
from extender.succession import left_behind, successor, unanswered, unwritten
from nodeagent.api.gpunode import Assignment, GpuNode, version_number
from nodeagent.api.rivals import Rival

log = structlog.get_logger()


class NodesKnown(Known):
    """Keeps a view of each node, and tells all who go by it when it is another."""

    @told
    def gpu_node(self, node: GpuNode, *, listed: bool = False) -> None:
        """Take in a GpuNode as it was at some time, from a watch or from a write's reply.

        One that was *listed* counts even if it looks older than what is known: an API server
        restored from a backup begins its count anew. Were it merely late, the watch that follows
        the list would bring the newer one again. Likewise one that was deleted counts only if it is
        listed again: a reply that was long on its way would stay for ever.
        """
        if listed:
            self.buried.pop(node.metadata.uid, None)
        elif node.metadata.uid in self.buried:
            return
        entries_as_pods(node.spec.assignments, self.pods)
        view = self.views.get(node.name)
        if view is None:
            view = NodeView(
                node,
                self.in_force.policy,
                left_behind(node),
                stale=self.freshness.stale(node.name),
                agent=self.freshness.agent(node.name),
                cordoned=self.nodes.get(node.name, False),
                rival=self.rivals.get(node.name),
                failing=self.avoidance.refuses(node.name),
                unanswered=unanswered(node),
                labels=self._looked_at(node.name),
            )
        else:
            view = successor(view, node, listed=listed)
        self._replace(node.name, view)

    @told
    def gpu_node_deleted(self, name: str, uid: str) -> None:
        """Take in that the API server told of a GpuNode's deletion: it does not come back."""
        self.buried[uid] = None
        while len(self.buried) > REMEMBERED:
            self.buried.popitem(last=False)
        self.gpu_node_gone(name, uid)

    @told
    def gpu_nodes_are(self, uids: Collection[str], version: str) -> None:
        """Take in the UIDs of all GpuNodes as of a *version*.

        One that is known from a reply alone, for the watch was down, may be gone without a word.
        """
        for view in tuple(self.views.values()):
            known = view.node
            if known.metadata.uid not in uids and known.version <= version_number(version):
                self.gpu_node_deleted(known.name, known.metadata.uid)

    @told
    def gpu_node_gone(self, name: str, uid: str) -> None:
        """Take in that a GpuNode was not there; its *uid* tells it from its successor."""
        view = self.views.get(name)
        if view is not None and view.node.metadata.uid == uid:
            self._replace(name, None)

    @told
    def node(
        self,
        name: str,
        *,
        cordoned: bool,
        rival: Rival | None = None,
        labels: Labels | None = None,
    ) -> None:
        """Take in a Node."""
        if name not in self.nodes and name in self.freshness.announced:
            self.arrivals.set()
        self.nodes[name] = cordoned
        if rival is None:
            self.rivals.pop(name, None)
        elif self.rivals.get(name) != rival:
            self.rivals[name] = rival
            if name in self.views or name in self.freshness.announced:
                log.warning("rival_owner", node=name, rival=rival.name, remedy=rival.remedy)
        self._labels[name] = labels or {}
        labels = self._looked_at(name)
        view = self.views.get(name)
        if view is None:
            return
        if view.labels != labels and self.refused:
            self.room.set()  # it may have come into another pool
        if (view.cordoned, view.rival, view.labels) != (cordoned, rival, labels):
            changed = msgspec.structs.replace(view, cordoned=cordoned, rival=rival, labels=labels)
            self._replace(name, changed)

    def _looked_at(self, name: str) -> Labels:
        """Return the labels of a Node that the rules look at: the others change nothing."""
        labels, keys = self._labels.get(name, {}), self.in_force.rules.node_keys
        return {key: labels[key] for key in keys & labels.keys()} if keys else {}

    @property
    def labels(self) -> Mapping[str, Labels]:
        """All labels of each Node."""
        return self._labels

    @told
    def node_gone(self, name: str) -> None:
        """Take in that a Node was deleted."""
        self.nodes.pop(name, None)
        self.rivals.pop(name, None)
        self._labels.pop(name, None)
        if name in self.views:
            self.arrivals.set()

    @told
    def lease(self, node: str, version: str, agent: str = "") -> None:
        """Take in an agent's Lease; *agent* names the process that holds it, if that is known."""
        if self.freshness.renewed(node, version, agent):
            self._refresh_staleness(node)
            view = self.views.get(node)
            if view is not None and view.agent != agent:
                self._replace(node, msgspec.structs.replace(view, agent=agent))
        if node not in self.views:
            self.arrivals.set()

    @told
    def lease_gone(self, node: str) -> None:
        """Take in that an agent's Lease was deleted."""
        self.freshness.withdrawn(node)
        self._refresh_staleness(node)

    @told
    def refresh_failing(self, name: str) -> None:
        """Let decisions see whether a node takes nothing new for its failures."""
        view = self.views.get(name)
        if view is not None and view.failing != (failing := self.avoidance.refuses(name)):
            self._replace(name, msgspec.structs.replace(view, failing=failing))

    def _refresh_staleness(self, name: str) -> None:
        view = self.views.get(name)
        if view is not None and view.stale != (stale := self.freshness.stale(name)):
            log.info("node_stale" if stale else "node_alive", node=name)
            self._replace(name, msgspec.structs.replace(view, stale=stale))

    def _replace(self, name: str, view: NodeView | None) -> None:
        before = self.views.get(name)
        if view is before:
            return
        again = self._note_lost(name, before, view)
        self.assigned.planned(name, () if view is None else view.pods, since=again)
        self.holds.planned(name, before, view)
        self.tenancy.changed(name, before, view)
        self.realizing.changed(name, before, view)
        if view is None:
            del self.views[name]
            self._keep_lost(name)
        else:
            self.views[name] = view
            self._keep_lost(name)
            for uid in view.pods:
                self.pending.placed(uid)
            self._look_for_room(before, view)
        if name in self.holds.claimed:
            self.vacating.set()
        self.fleet.changed(name, before)
        self.behind.set()
        self.changes.tell(name)

    def _note_lost(
        self, name: str, before: NodeView | None, view: NodeView | None
    ) -> Mapping[str, float]:
        """Note what a plan that is gone has said of pods, and no other says yet.

        Return the pods of which this one says it again, by UID, with since when they have had it.
        """
        known = self.lost.get(name, {})
        lost = tuple(unwritten(tuple(known), before, view))
        if lost == tuple(known):
            return {}
        fresh = [each for each in lost if each not in known]
        if lost:
            had = {each: self.assigned.since(_pod_of(each), name) for each in fresh}
            self.lost[name] = {each: (known if each in known else had)[each] for each in lost}
        else:
            del self.lost[name]
        if fresh:
            log.warning("assignments_lost", node=name, ids=[each.id for each in fresh])
            self.arrivals.set()
        planned = {each.id for each in view.node.spec.assignments} if view else ()
        return {_pod_of(each): since for each, since in known.items() if each.id in planned}

    @told
    def forget_lost(self, name: str, uid: str) -> None:
        """Have nothing written again for a pod on that node, whatever it has on others."""
        known = self.lost.get(name, {})
        left = {each: since for each, since in known.items() if _pod_of(each) != uid}
        if left:
            self.lost[name] = left
        else:
            self.lost.pop(name, None)
        self._keep_lost(name)
        self.changes.tell(name)

    def _keep_lost(self, name: str) -> None:
        """Keep from all but its pods what they have lost, where there is a plan to be given it in.

        What is not kept any more may be room for somebody, unless it is in the plan again.
        """
        before, view = self.ledger.lost_on(name), self.views.get(name)
        lost = self.lost.get(name, {}) if view is not None else {}
        if not (before or lost):
            return  # nearly always
        promises = ((_pod_of(each), _promised(name, each)) for each in lost)
        self.ledger = self.ledger.lose(name, promises)
        if view is None or {*before} <= {*self.ledger.lost_on(name), *view.taken}:
            return
        if self.refused or self.gangs_wait_for_room:
            self.room.set()
        if name in self.holds.claimed:
            self.vacating.set()

    def _look_for_room(self, before: NodeView | None, view: NodeView) -> None:
        """Ask for a wake-up if a refused pod fits now where it did not before."""
        if not self.room.is_set() and (
            (self.gangs_wait_for_room and (before is None or improved(before, view)))
            or (self.tenancy.rules and self.refused and (before is None or improved(before, view)))
            or self.refused.fit_now(before, view, self.ledger.assumed_on(view.name))
        ):
            self.room.set()


def _promised(node: str, entry: Assignment) -> Promise:
    return Promise(node, (taken_by(entry),), namespace_of(entry))


def _pod_of(entry: Assignment) -> str:
    """Return the UID of the pod that an entry of a plan that was deleted is for."""
    return entry.pod.uid if entry.pod else ""
