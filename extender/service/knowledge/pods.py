"""What becomes of what is known as pods come and go, and are asked about."""

from __future__ import annotations

import structlog

from extender.request import Request
from extender.service.alike import pod_as_known
from extender.service.enlisted import key
from extender.service.knowledge.known import REMEMBERED, told
from extender.service.knowledge.promised import Promised
from extender.service.ports import PodFacts

log = structlog.get_logger()


class PodsKnown(Promised):
    """Keeps the pods that concern the extender, what they ask for, and who of them has gone."""

    @told
    def pod(self, pod: PodFacts) -> None:
        """Take in a pod, unless it was read to have ended and this is late news of its life."""
        if pod.ref.uid in self.ended and not pod.over:
            return
        before = self.recognize(pod)
        uid = pod.ref.uid  # the very object that is known already
        if pod.not_admitted and uid in self.assigned and not (before and before.not_admitted):
            self.work.not_admitted()
            self.unadmitted.add(pod)
            log.warning("pod_not_admitted", pod=pod.ref.name, node=pod.node)
        self.pods[uid] = pod
        self.arriving.seen(pod)
        self.ending.seen(pod)
        self.unseen.drop(uid)
        self.gone.pop(uid, None)
        if pod.node or pod.over or pod.deleting:
            self.refused.drop(uid)
            self._needs_no_plan(uid)
        elif isinstance(pod.asked, Request) and uid not in self.assigned:
            self.pending.seen(uid)
        if isinstance(pod.asked, Request):
            self.enlisted.enlist(pod.asked)
            if pod.node and (before is None or not before.node):
                self._begun(pod.asked)
        if pod.over or (pod.node and {*self.assigned.nodes_of(uid)} - {pod.node}):
            self._suspect(uid)

    def recognize(self, pod: PodFacts) -> PodFacts | None:
        """Let what was read of a pod refer to what is known of it; return how it was before."""
        before = self.pods.get(pod.ref.uid)
        pod_as_known(pod, before, self._entries_of(pod.ref.uid))
        return before

    def _begun(self, asked: Request) -> None:
        """Let the members that wait for one of their gang to be bound ask again."""
        members = () if asked.gang is None else self.enlisted.members[key(asked.gang)]
        if any(self.refused.get(uid) for uid in members):
            self.room.set()

    @told
    def pod_gone(self, uid: str) -> None:
        """Take in that a pod was deleted, or is no longer labelled as ours."""
        self._left(uid, self.pods.pop(uid, None))
        self._suspect(uid)

    @told
    def read_ended(self, uid: str) -> None:
        """Take in that a pod was read to have ended, or that there is none of this UID."""
        self.ended.add(uid)
        self._left(uid, self.pods.get(uid))

    def _left(self, uid: str, known: PodFacts | None) -> None:
        asked = self.requests.get(uid)
        asked = asked or (known.asked if known and isinstance(known.asked, Request) else None)
        in_gang = asked is not None and asked.gang is not None
        self.gone[uid] = in_gang or self.gone.pop(uid, False)
        self.arriving.gone(uid)
        while len(self.gone) > REMEMBERED:
            del self.gone[next(iter(self.gone))]
        self.unseen.drop(uid)
        self.ending.gone(uid)
        self._forget_pod(uid)

    def _forget_pod(self, uid: str) -> None:
        """Remember nothing that a pod asked for."""
        self.requests.pop(uid, None)
        self.refused.drop(uid)
        self.release(uid)
        self._needs_no_plan(uid)
        self.pending.gone(uid)
        if self.enlisted.leave(uid) in self.enlisted.no_room:
            self.room.set()  # whoever is left of the gang needs less

    def _forget_unseen(self, *, now: float) -> None:
        """Forget the pods that neither kube-scheduler nor the watch has spoken of for long.

        But not one that has a place: that is given back once the pod was read.
        """
        for uid in tuple(self.unseen.over(since=now - self.settings.unseen_pod_seconds)):
            if uid in self.assigned:
                self.unseen.asked(uid, now=now)
            else:
                self._forget_pod(uid)

    def _needs_no_plan(self, uid: str) -> None:
        self.pending.placed(uid)
        if uid in self.ledger.planned:
            kept = {pod: place for pod, place in self.ledger.planned.items() if pod != uid}
            self.ledger = self.ledger.plan(kept)

    def _suspect(self, uid: str) -> None:
        self.suspects.add(uid)
        self.departures.set()

    @told
    def remember(self, request: Request) -> None:
        """Keep a pod's request for its bind."""
        self.requests.pop(request.pod.uid, None)
        self.requests[request.pod.uid] = request
        if request.pod.uid not in self.pods:
            self.unseen.asked(request.pod.uid, now=self.clock())
        self.enlisted.enlist(request)
        while len(self.requests) > REMEMBERED:
            del self.requests[next(iter(self.requests))]
