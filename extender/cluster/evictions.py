"""Evicting pods through the API server's Eviction API, and what their disruption budgets allow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import msgspec

from extender.cluster.outcome import outcome
from extender.policy.selectors import Selector
from extender.service.ports import Budget, EvictionRefused
from nodeagent.api import keys
from nodeagent.api.gpunode import PodRef
from nodeagent.apiserver.protocol import (
    POD_DISRUPTION_BUDGETS,
    PODS,
    ApiServer,
    Conflict,
    Invalid,
    NotFound,
    Page,
    Refused,
    Throttled,
)

_MANAGED = f"{keys.MANAGED_LABEL}=true"
_BAD_REQUEST = 400


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    namespace: str = ""
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

    async def budgets(self, namespaces: Collection[str]) -> Sequence[Budget]:
        """Return the budgets of these namespaces, with those of our pods that each is about.

        Budgets are listed once, pods only where there are budgets.
        """
        within = next(iter(namespaces)) if len(namespaces) == 1 else ""
        with outcome():
            raw = await _all(
                lambda token: self._api.list(
                    POD_DISRUPTION_BUDGETS, namespace=within, continue_token=token
                )
            )
            listed = [_BUDGET.decode(each) for each in raw]
        there: dict[str, Mapping[str, Mapping[str, str]]] = {}
        found = []
        for each in listed:
            namespace, selector = each.metadata.namespace, each.spec.selector
            if selector is None or namespace not in namespaces:
                continue
            if namespace not in there:
                there[namespace] = await self._labels(namespace)
            about = there[namespace].items()
            of = frozenset(uid for uid, labels in about if selector.matches(labels))
            if of:
                found.append(Budget(namespace, each.metadata.name, of, each.allows))
        return found

    async def _labels(self, namespace: str) -> Mapping[str, Mapping[str, str]]:
        """Return the labels of our pods in a namespace, by UID."""
        with outcome():
            raw = await _all(
                lambda token: self._api.list(
                    PODS, namespace=namespace, label_selector=_MANAGED, continue_token=token
                )
            )
            pods = [_POD.decode(each).metadata for each in raw]
        return {each.uid: each.labels for each in pods}

    async def _stays(self, pod: PodRef) -> bool:
        """Tell whether that very pod is there and is not being deleted."""
        try:
            with outcome(NotFound):
                raw = await self._api.get(PODS, pod.name, namespace=pod.namespace)
                found = _POD.decode(raw).metadata
        except NotFound:
            return False
        return found.uid == pod.uid and found.deletion_timestamp is None

    async def rehearse(self, pod: PodRef) -> None:
        """Evict that very pod in a dry run: budgets and webhooks say what they would say.

        KubeVirt's webhook decides by the ``evictionStrategy`` of the VM. Where the API server can
        rehearse nothing, as with a webhook that has side effects, nobody refuses.
        """
        try:
            await self._evict(pod, dry_run=True)
        except EvictionRefused as refusal:
            if refusal.status != _BAD_REQUEST:
                raise

    async def evict(self, pod: PodRef) -> None:
        """Have that very pod end; its UID is a precondition."""
        await self._evict(pod, dry_run=False)

    async def _evict(self, pod: PodRef, *, dry_run: bool) -> None:
        """Post an eviction; one that is gone, or another by that name, is left at that.

        409 is said where the UID is another, and where the pod, or its budget's status, is written
        by others all the time (after 20 tries of the server's own); 404 where the pod is gone, and
        where its budget went in that moment. So after either the pod is looked at: one that stays
        is asked for again. (kubernetes, pkg/registry/core/pod/storage/eviction.go) A 429 of flow
        control is not about the pod.

        Raises:
            EvictionRefused: not now.
            ClusterUnavailable: that is not known; it may have been evicted.
        """
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": pod.namespace},
            "deleteOptions": {"preconditions": {"uid": pod.uid}},
        }
        try:
            with outcome(Conflict, Invalid, NotFound, Refused, Throttled):
                await self._api.create(
                    PODS,
                    body,
                    namespace=pod.namespace,
                    name=pod.name,
                    subresource="eviction",
                    dry_run=dry_run,
                )
        except (Conflict, NotFound) as error:
            if await self._stays(pod):
                raise EvictionRefused(
                    error.message, retry_after=error.retry_after, status=error.status
                ) from error
        except (Invalid, Refused, Throttled) as error:  # by its budget, a webhook, or a policy
            raise EvictionRefused(
                error.message, retry_after=error.retry_after, status=error.status
            ) from error


async def _all(page_at: Callable[[str], Awaitable[Page]]) -> Sequence[bytes]:
    """Return the objects of all pages of a list, of which *page_at* asks for one by its token."""
    page = await page_at("")
    found = list(page.items)
    while page.continue_token:
        page = await page_at(page.continue_token)
        found += page.items
    return found
