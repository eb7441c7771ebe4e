"""Explanations of pods, from what is known at a moment: asked for here, worked out in a thread.

One at a time, for they share the interpreter with the hooks, and each is kept for a moment: a page
that is looked at by many asks for the same again and again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import assert_never

from extender.explain import Explanation, Holdings, Situation, explain, explain_none
from extender.explain.explanation import State
from extender.explain.nodes import Roster, roster
from extender.request import Asked, NotOurs, Request, Unanswerable
from extender.service.knowledge import Knowledge
from extender.service.ports import PodFacts
from extender.service.right_of_way import GivingWay

KEPT_SECONDS = 2.0
MOST_KEPT = 64
WITHIN_SECONDS = 10.0
"""For one explanation, with those before it; at 40,000 GPUs one takes a quarter of a second
(``python -m benchmarks.explaining``)."""


class Explainer:
    """Explains what *knowledge* knows."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self._one = asyncio.Lock()
        self._kept: OrderedDict[tuple[str, str], tuple[float, Explanation]] = OrderedDict()

    async def explain(self, namespace: str, pod: str) -> Explanation | None:
        """Return how a pod stands, by its name or its VM's; None if none of ours is known.

        Raises:
            TimeoutError: too many ask.
        """
        clock, key = self._knowledge.clock, (namespace, pod)
        async with asyncio.timeout(WITHIN_SECONDS), self._one:
            known = self._kept.get(key)
            if known is not None and clock() < known[0] + KEPT_SECONDS:
                return known[1]
            found = await self._explained(namespace, pod)
        if found is not None:
            self._kept[key] = clock(), found
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return found

    async def roster(self) -> Roster:
        """Return every node at a glance.

        Raises:
            TimeoutError: too many ask.
        """
        knowledge = self._knowledge
        rules, version = knowledge.in_force.rules, knowledge.in_force.version
        views = GivingWay(dict(knowledge.views), knowledge.way)
        pending = len(knowledge.pending.waiting)
        refused, leader = len(knowledge.refused), knowledge.tenure.leader
        async with asyncio.timeout(WITHIN_SECONDS), self._one:
            return await asyncio.to_thread(
                roster,
                views,
                rules,
                policy=knowledge.in_force.policy.effective.value,
                policy_version=version,
                pending=pending,
                refused=refused,
                leader=leader,
            )

    async def _explained(self, namespace: str, pod: str) -> Explanation | None:
        knowledge = self._knowledge
        await knowledge.way.give_way()
        pods = knowledge.pods.copy()  # in a thread it must not change; of 200,000 it takes 3 ms
        facts = await asyncio.to_thread(_found, pods, namespace, pod)
        asked = facts.asked if facts is not None else self._only_filtered(namespace, pod)
        if asked is None:
            return None
        if not isinstance(asked, Request) or (facts is not None and facts.over):
            return self._told_without_nodes(asked)
        situation = self._situation(asked, pods)
        return await asyncio.to_thread(explain, situation)

    def _told_without_nodes(self, asked: Asked) -> Explanation:
        match asked:
            case Unanswerable(reason=why):
                state, reason = State.NEVER, why
            case NotOurs():
                state, reason = State.NOT_OURS, "it asks for no GPU instance"
            case Request():
                state, reason = State.OVER, "it has ended"
            case unexpected:
                assert_never(unexpected)
        in_force = self._knowledge.in_force
        return explain_none(
            asked.pod,
            state,
            reason,
            dict(self._knowledge.views),
            policy=in_force.policy.effective.value,
            version=in_force.version,
        )

    def _only_filtered(self, namespace: str, pod: str) -> Request | None:
        """Return the request of a pod that kube-scheduler has asked about, and no watch shown."""
        for request in reversed(self._knowledge.requests.values()):
            if request.pod.name == pod and request.pod.namespace == namespace:
                return request
        return None

    def _situation(self, request: Request, pods: Mapping[str, PodFacts]) -> Situation:
        """Return all that the explanation rests on, as of now: nothing is awaited here."""
        knowledge, uid = self._knowledge, request.pod.uid
        waiting, refused = knowledge.pending.waiting.get(uid), knowledge.refused.get(uid)
        bounded = knowledge.bounded(request)
        tenant = None if bounded.bounds is None else bounded.bounds.terms.tenant
        ours = None
        if tenant is not None:
            slices, profiles = knowledge.tenancy.used(tenant.name, knowledge.ledger, request)
            ours = Holdings(slices, dict(profiles))
        return Situation(
            bounded,
            GivingWay(dict(knowledge.views), knowledge.way),
            knowledge.ledger,
            knowledge.in_force.policy.effective.value,
            knowledge.in_force.version,
            pods,
            None if waiting is None else frozenset(waiting.nodes),
            frozenset() if refused is None else refused.codes,
            ours,
            knowledge.decided.get(uid),
        )


def _found(pods: Mapping[str, PodFacts], namespace: str, name: str) -> PodFacts | None:
    """Return the pod of that name, else one of that VM; of several, one that has not ended."""
    found = [each for each in pods.values() if each.ref.name == name]
    found = [each for each in found if each.ref.namespace == namespace]
    if not found:
        here = (each for each in pods.values() if each.ref.namespace == namespace)
        found = [each for each in here if _owned_by(each, name)]
    return min(found, key=lambda each: (each.over, each.deleting), default=None)


def _owned_by(facts: PodFacts, name: str) -> bool:
    asked = facts.asked
    return isinstance(asked, Request) and asked.owner is not None and asked.owner.name == name
