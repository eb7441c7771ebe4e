"""Posting Bindings, and knowing when one that was posted can no longer be on its way.

Nothing is posted after bind's answer is due, and no place is given back before the pod was read
past the end of any Binding under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from extender.service.knowledge import Knowledge
from extender.service.patience import Patience
from extender.service.plans import Plans
from extender.service.ports import BindingRefused, Cluster, ClusterUnavailable, PodFacts
from extender.service.unbound import read_past_bindings
from nodeagent.api.gpunode import PodRef

LONGEST_TEXT = 500  # of what an event of the pod shows; Kubernetes cuts it at 1,024


class BindFailed(Exception):
    """The pod is not bound; the message is for the person reading its events."""


class NotBound(BindFailed):
    """It is certain that no Binding of the pod has come through, nor will."""


class Poster:
    """Posts Bindings, and takes back the places of pods that have certainly got none."""

    def __init__(self, knowledge: Knowledge, plans: Plans, cluster: Cluster) -> None:
        self._knowledge = knowledge
        self._plans = plans
        self._cluster = cluster
        # A predecessor killed just now may have posted a Binding for any pod.
        self._started = knowledge.clock()
        self._posted: dict[str, float] = {}

    async def post(
        self,
        pod: PodRef,
        node: str,
        annotations: Mapping[str, str],
        answer_by: float,
        *,
        seen: PodFacts,
        ids: Collection[str] = (),
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        """Post the Binding, unless it could outlive the answer; resolve an unknown outcome.

        It is for the pod as the watch has it or, failing that, as it was *seen*. ``answer_by`` is
        when bind must be answered, on the monotonic clock. *ready* tells whether the pod's place is
        still what it was: much may happen from one try to the next.

        Raises:
            NotBound: the pod is not bound to *node*, as was read after the last try; or its entries
                of these *ids* are about to be taken back.
            BindFailed: none was made, or it is bound elsewhere.
            ClusterUnavailable: whether it is, could not be read.
        """
        settings, clock = self._knowledge.settings, self._knowledge.clock
        last_start = answer_by - settings.binding_start_margin_seconds
        patience, failures = Patience(self._knowledge, until=last_start), 0
        watched = self._knowledge.pods.get(pod.uid)
        seen = watched if watched is not None and watched.version else seen
        while (now := clock()) <= last_start:
            if not ready():
                failed = NotBound if failures else BindFailed
                raise failed("vGPU: the place is no longer ready, it stays reserved")
            if not set(ids).isdisjoint(seen.giving_back):
                # What was posted before that is refused.
                raise NotBound("vGPU: the place was being given back, it is made sure of anew")
            self._begins(pod, now)
            try:
                await self._cluster.bind(
                    pod,
                    node,
                    annotations,
                    version=seen.version,
                    timeout=settings.binding_timeout_seconds,
                )
            except (BindingRefused, ClusterUnavailable) as error:
                if isinstance(error, ClusterUnavailable) and not error.undone:
                    await self._outlast(now)
                unbound = await self._unbound(pod, node, error, patience)
                if unbound is None:
                    break
                if isinstance(error, BindingRefused):
                    if unbound.version == seen.version:
                        await self._refused(pod, node, error, patience)
                        break
                    error = ClusterUnavailable(str(error), undone=True)  # of another version
                seen, failures = unbound, failures + 1
                await self._try_again(error, patience, failures)
            else:
                break
        else:
            failed = NotBound if failures else BindFailed
            raise failed("vGPU: too late to bind in this attempt, the place stays reserved")
        self._posted.pop(pod.uid, None)

    async def give_back(self, pod: PodRef, node: str, patience: Patience) -> None:
        """Withdraw the pod's places on *node*, unless a Binding to it came through after all.

        Raises:
            BindFailed: one did.
            ClusterUnavailable: that could not be read, or the plan not be changed.
        """
        posted = self._posted.get(pod.uid, self._started)
        settled = posted + self._knowledge.settings.binding_start_margin_seconds
        await asyncio.sleep(max(0.0, settled - self._knowledge.clock()))
        ids = self._plans.ids_of(pod.uid, node)
        facts = await read_past_bindings(self._cluster, pod, ids, patience)
        self._posted.pop(pod.uid, None)
        if facts is not None and facts.node == node:
            raise BindFailed("vGPU: the pod is bound to another node")
        await self._plans.withdraw(node, ids, patience=patience)

    def _begins(self, pod: PodRef, now: float) -> None:
        """Note a Binding that is about to be posted, and forget those long settled."""
        settled = now - self._knowledge.settings.binding_start_margin_seconds
        self._posted = {uid: at for uid, at in self._posted.items() if at > settled}
        self._posted[pod.uid] = now

    async def _unbound(
        self, pod: PodRef, node: str, error: BindingRefused | ClusterUnavailable, patience: Patience
    ) -> PodFacts | None:
        """Read what an *error* has left: the pod bound to no node, or None: to *node* after all.

        Raises:
            NotBound: the pod is gone.
            BindFailed: it is bound elsewhere.
            ClusterUnavailable: it could not be read.
        """
        facts = await patience.again(lambda: self._cluster.read_pod(pod.namespace, pod.name))
        if facts is None or facts.ref.uid != pod.uid:
            raise NotBound("vGPU: the pod is gone") from error
        if facts.node:
            if facts.node != node:
                raise BindFailed(_text(error)) from error
            return None
        return facts

    async def _refused(
        self, pod: PodRef, node: str, error: BindingRefused, patience: Patience
    ) -> None:
        """Give the place back: a pod that has not changed will be refused again.

        Raises:
            NotBound: unless an earlier try has come through meanwhile.
        """
        ids = self._plans.ids_of(pod.uid, node)
        if not ids:  # it has none, and may be no pod of ours at all
            raise _not_bound(error) from error
        facts = await read_past_bindings(self._cluster, pod, ids, patience)
        if facts is not None and facts.node == node:
            return
        await self._plans.withdraw(node, ids, patience=patience)
        raise _not_bound(error) from error

    async def _try_again(
        self, error: ClusterUnavailable, patience: Patience, failures: int
    ) -> None:
        try:
            await patience.pause(error, failures)
        except ClusterUnavailable:
            raise _not_bound(error) from error

    async def _outlast(self, posted: float) -> None:
        """Wait until a Binding *posted* then is either there or will never be.

        Its time counts from when it has come to the API server, which may be a while after that.
        The scheduler hears nothing of it before: it would take the pod for unbound, and have it
        bound a moment later.
        """
        until = posted + self._knowledge.settings.binding_start_margin_seconds
        await asyncio.sleep(max(0.0, until - self._knowledge.clock()))


def _not_bound(error: Exception) -> NotBound:
    return NotBound(_text(error))


def _text(error: Exception) -> str:
    return f"vGPU: the pod could not be bound: {error}"[:LONGEST_TEXT]
