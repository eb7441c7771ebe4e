"""Two pods live their lives on a site, side by side, whatever becomes of the agent meanwhile.

The plan wants a GPU instance of the same profile for each. A pod is bound when its own is said to
be realized. One that the kubelet rejects has failed, and another with an assignment of its own
comes in its place.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from nodeagent.api.gpunode import Assignment
from nodeagent.apiserver.protocol import PODS
from tests.crash.site import GPU, Site
from tests.fakes.kubelet import NotAdmitted, Pod

LOOK_SECONDS = 0.004

Found = TypeVar("Found")


class Tenant:
    """Somebody who wants a pod with a GPU instance that starts at *start*."""

    def __init__(self, site: Site, name: str, start: int, clock: Iterator[int]) -> None:
        self._clock = clock
        self.name = name
        self.start = start
        self.attempts = 0
        self.device = ""
        self._site = site
        self.pod: Pod
        self.assignment: Assignment

    async def apply(self) -> None:
        """Have a new pod, and what is planned for it."""
        self.attempts += 1
        name = f"{self.name}-{self.attempts}"
        self.pod = await self._site.create_pod(name)
        since = f"2026-01-01T00:00:{next(self._clock):02}Z"
        self.assignment = self._site.assignment(name, self.start, since, self.pod.ref)


class Story:
    """The story of a *site*; ``planned`` is whose assignments the plan has now."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.planned: list[Tenant] = []
        self.wrong: list[str] = []
        self.refusals: list[str] = []
        self.ended = False

    async def tell(self) -> None:
        """Live through it all."""
        clock = itertools.count()
        first = Tenant(self.site, "first", 2, clock)
        second = Tenant(self.site, "second", 0, clock)
        for tenant in (first, second):
            await tenant.apply()
        self.planned = [first, second]
        await self._plan()
        while unserved := [each for each in self.planned if not each.device]:
            await self._serve(await self._until(functools.partial(self._realized_of, unserved)))
        for tenant in (first, second):
            await self._leave(tenant)
        self.ended = True

    async def _plan(self) -> None:
        await self.site.plan([tenant.assignment for tenant in self.planned])

    async def _serve(self, tenant: Tenant) -> None:
        """Bind the tenant's pod and have it admitted, or another one planned in its place."""
        await self.site.bind(tenant.pod)
        try:
            await self.site.kubelet.admit(tenant.pod)
        except NotAdmitted as refusal:
            self.refusals.append(str(refusal))
            await self.site.fail(tenant.pod)
            await tenant.apply()
            await self._plan()
        else:
            await self._start(tenant)

    async def _start(self, tenant: Tenant) -> None:
        """Let the pod find its device, which must be the one that was planned for it."""
        try:
            tenant.device = self.site.device_of(tenant.pod)
            found = self.site.gpu_instance_of(tenant.device)
        except LookupError as error:
            self.wrong.append(f"pod {tenant.pod.name} was admitted, but {error}")
            return
        if found.placement != tenant.assignment.placement:
            self.wrong.append(
                f"pod {tenant.pod.name} was given {found.placement},"
                f" not {tenant.assignment.placement}"
            )
        self.site.use(tenant.pod, tenant.device)

    async def _leave(self, tenant: Tenant) -> None:
        """End the pod, take its assignment out of the plan, and wait until that is told of."""
        self.site.use(tenant.pod, tenant.device, opened=False)
        self.site.kubelet.end(tenant.pod)
        await self.site.api.delete(PODS, tenant.pod.name, namespace="default", grace_seconds=0)
        self.planned.remove(tenant)
        await self._plan()
        await self._until(self._is_settled)

    async def _realized_of(self, tenants: Sequence[Tenant]) -> Tenant | None:
        """Return whose pod may be bound: kube-scheduler wants the Node to show the resource."""
        if not self.site.kubelet.allocatable.get(self.site.resource):
            return None
        realized = {each.id for each in (await self.site.gpu_node()).status.realized}
        return next((each for each in tenants if each.assignment.id in realized), None)

    async def _is_settled(self) -> bool:
        node = await self.site.gpu_node()
        told = {each.assignment for gpu in node.status.gpus for each in gpu.instances} - {""}
        return (
            node.status.observed_generation >= node.metadata.generation
            and told == {tenant.assignment.id for tenant in self.planned}
            and len(self.site.machine.gpu_instances(GPU)) == 1 + len(self.planned)
        )

    async def _until(self, found: Callable[[], Awaitable[Found | None]]) -> Found:
        """Wait for something, while the site is going, and return what has been found."""
        while True:
            if not self.site.going.is_set():
                self.site.resting.set()
                await self.site.going.wait()
                self.site.resting.clear()
            if it := await found():
                return it
            await asyncio.sleep(LOOK_SECONDS)
