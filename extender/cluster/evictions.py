"""Evicting pods through the API server's Eviction API, and what their disruption budgets allow."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from extender.cluster.outcome import outcome
from extender.policy.selectors import Selector
from extender.service.ports import Budget, EvictionRefused
from nodeagent.api.gpunode import PodRef
from nodeagent.apiserver.protocol import (
    POD_DISRUPTION_BUDGETS,
    PODS,
    ApiServer,
    Conflict,
    NotFound,
    Refused,
    Throttled,
)


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    uid: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    deletion_timestamp: str | None = None


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Metadata


class _Spec(msgspec.Struct, frozen=True):
    selector: Selector | None = None


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    disruptions_allowed: int = 0
    observed_generation: int = 0


class _Budget(msgspec.Struct, frozen=True):
    metadata: _Metadata
    spec: _Spec = _Spec()
    status: _Status = _Status()

    @property
    def allows(self) -> int:
        """How many pods may go; none before its controller has looked at it as it is now."""
        seen = self.status.observed_generation >= self.metadata.generation
        return self.status.disruptions_allowed if seen else 0


_POD = msgspec.json.Decoder(_Pod)
_BUDGET = msgspec.json.Decoder(_Budget)


class ApiEvictor:
    """The service's :class:`~extender.service.ports.Evictor` over an API server."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api

    async def budgets(self, pods: Collection[PodRef]) -> Sequence[Budget]:
        """Return the budgets that are about any of these pods, with which of them."""
        found = []
        for namespace in sorted({pod.namespace for pod in pods}):
            with outcome():
                budgets = await self._listed(namespace)
            there = [pod for pod in pods if pod.namespace == namespace] if budgets else []
            labels = {pod.uid: await self._labels(pod) for pod in there}
            for each in budgets:
                selector = each.spec.selector
                if selector is None:
                    continue
                of = frozenset(uid for uid, its in labels.items() if selector.matches(its))
                if of:
                    found.append(Budget(namespace, each.metadata.name, of, each.allows))
        return found

    async def _listed(self, namespace: str) -> Sequence[_Budget]:
        found: list[_Budget] = []
        token = ""
        while True:
            page = await self._api.list(
                POD_DISRUPTION_BUDGETS, namespace=namespace, continue_token=token
            )
            found += [_BUDGET.decode(raw) for raw in page.items]
            token = page.continue_token
            if not token:
                return found

    async def _labels(self, pod: PodRef) -> dict[str, str]:
        """Return a pod's labels, none if it is gone."""
        found = await self._read(pod)
        return {} if found is None else found.labels

    async def _read(self, pod: PodRef) -> _Metadata | None:
        """Return that very pod's metadata, None if it is gone or another has its name."""
        try:
            with outcome(NotFound):
                raw = await self._api.get(PODS, pod.name, namespace=pod.namespace)
                found = _POD.decode(raw).metadata
        except NotFound:
            return None
        return found if found.uid == pod.uid else None

    async def evict(self, pod: PodRef) -> None:
        """Have that very pod end; its UID is a precondition.

        409 is said where the UID is another, and where the pod, or its budget's status, is written
        by others all the time (after 20 tries of the server's own); 404 where the pod is gone, and
        where its budget went in that moment. So after either the pod is looked at: one that stays
        is asked for again. (kubernetes, pkg/registry/core/pod/storage/eviction.go)
        """
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": pod.namespace},
            "deleteOptions": {"preconditions": {"uid": pod.uid}},
        }
        try:
            with outcome(Conflict, NotFound, Refused, Throttled):
                await self._api.create(
                    PODS, body, namespace=pod.namespace, name=pod.name, subresource="eviction"
                )
        except (Conflict, NotFound) as error:
            found = await self._read(pod)
            if found is not None and found.deletion_timestamp is None:
                raise EvictionRefused(error.message, retry_after=error.retry_after) from error
        except (Refused, Throttled) as error:  # by its budget, or by an admission webhook
            raise EvictionRefused(error.message, retry_after=error.retry_after) from error
