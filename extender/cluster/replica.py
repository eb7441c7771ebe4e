"""One extender process of several: what it knows, what it does, and its candidacy for the lead."""

from __future__ import annotations

import asyncio
import math
import random
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from extender.cluster.door import KubernetesCluster, OwnPod
from extender.cluster.evictions import ApiEvictor
from extender.cluster.feeds import Feeds
from extender.cluster.fence import Fenced
from extender.cluster.lease import ApiLease
from extender.cluster.node_events import ApiNodeEvents
from extender.cluster.orders import ApiOrders
from extender.cluster.own_events import OwnPodEvents
from extender.cluster.pod_events import ApiPodEvents
from extender.cluster.relocator import KubeVirtRelocator
from extender.cluster.signpost import LabelSignpost
from extender.policy import InForce, Policy, PolicyName
from extender.service import Service
from extender.service.campaign import Campaign
from extender.service.memory import Memory
from extender.service.ports import ClusterUnavailable
from extender.service.reloading import Reloading
from extender.service.seam import Seam, Witness
from extender.service.service import new_assignment_id
from extender.service.telling import Teller
from extender.service.tenure import Tenure
from extender.service.unadmitted import UnadmittedTeller
from extender.settings import LeaseTiming, Settings
from extender.shadow import Shadow
from nodeagent.apiserver.protocol import ApiServer

log = structlog.get_logger()

LAST_BINDS_SECONDS = 5.0  # binds that wait are answered at once, a Binding takes a second at most


class Election(msgspec.Struct, frozen=True):
    """That this process runs for the lead, and as whom; ``identity`` must be its alone."""

    identity: str
    timing: LeaseTiming = LeaseTiming()


class PolicySource(msgspec.Struct, frozen=True):
    """A policy file to be watched, and what it held when it was read first."""

    path: Path
    seen: bytes


class ShadowSource(msgspec.Struct, frozen=True):
    """Where the policy of a shadow is read from: none there is no shadow, until there is one."""

    name: str
    read: Callable[[], bytes]


class Replica:
    """An extender beside an API server; without an *election* it leads, whoever else does.

    With a *policy_file*, it goes by another policy whenever that changes. A *witness* is told of
    all that decisions rest on. With a *shadow_policy* that policy runs beside the one in force.
    """

    def __init__(
        self,
        api: ApiServer,
        settings: Settings | None = None,
        policy: InForce | Policy | PolicyName = PolicyName.DEFAULT,
        *,
        election: Election | None = None,
        own_pod: OwnPod | None = None,
        policy_file: PolicySource | None = None,
        clock: Callable[[], float] = time.monotonic,
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
        new_id: Callable[[], str] = new_assignment_id,
        witness: Witness | None = None,
        shadow_policy: ShadowSource | None = None,
    ) -> None:
        settings = settings or Settings()
        seam = Seam(clock, witness)
        until = math.inf if election is None else -math.inf
        self._tenure = Tenure(seam.clock, until=until, seam=seam)
        self._fenced = Fenced(api, self._tenure, clock)
        cluster = KubernetesCluster(
            self._fenced, own_pod=own_pod, devices_per_pod=settings.devices_per_pod
        )
        name = own_pod.name if own_pod else socket.gethostname()
        events = ApiPodEvents(self._fenced, utc_now, instance=name)
        self.service = Service(
            cluster,
            settings,
            policy,
            tenure=self._tenure,
            clock=clock,
            seam=seam,
            utc_now=utc_now,
            new_id=new_id,
            evictor=ApiEvictor(self._fenced),
            orders=ApiOrders(self._fenced),
            relocator=KubeVirtRelocator(self._fenced),
            events=events,
            node_events=ApiNodeEvents(self._fenced, utc_now, instance=name),
        )
        self._teller = Teller(self.service.knowledge, self.service.explainer, events)
        self._unadmitted = UnadmittedTeller(self.service.knowledge, events)
        self._feeds = Feeds(api, self.service.knowledge)
        self._signpost = LabelSignpost(api, self._fenced, own_pod) if own_pod and election else None
        own_events = None if own_pod is None else OwnPodEvents(api, own_pod, utc_now)
        self.reloading: Reloading | None = None
        if policy_file is not None:
            self.reloading = Reloading(
                self.service.knowledge,
                policy_file.path.read_bytes,
                source=str(policy_file.path),
                seen=policy_file.seen,
                events=own_events,
            )
        self.shadow: Shadow | None = None
        if shadow_policy is not None:
            self.shadow = Shadow(
                self.service.knowledge,
                shadow_policy.read,
                source=shadow_policy.name,
                utc_now=utc_now,
                events=own_events,
            )
            self.service.knowledge.work.shadow.read = self.shadow.figures
        self._campaign: Campaign | None = None
        if election is not None:
            self._campaign = Campaign(
                ApiLease(api, utc_now=utc_now),
                self.service.knowledge,
                identity=election.identity,
                timing=election.timing,
                relist=self._feeds.relist,
                signpost=self._signpost,
                memory=Memory(self.service.knowledge.demand, clock=clock, utc_now=utc_now),
                chance=chance,
            )

    async def run(self, stop: asyncio.Event) -> None:
        """Do all there is to do until *stop* is set, then go in good order.

        The hooks are refused first, and what waits is answered; then nothing is written any more;
        the Lease is given back last, once nothing that was written can still be on its way.
        """
        async with asyncio.TaskGroup() as tasks:
            feeding = tasks.create_task(self._feeds.run(), name="feeds")
            work = [
                tasks.create_task(self.service.run(), name="service"),
                tasks.create_task(self._teller.run(), name="teller"),
                tasks.create_task(self._unadmitted.run(), name="unadmitted"),
            ]
            if self._campaign is not None:
                work.append(tasks.create_task(self._campaign.run(), name="campaign"))
            if self.reloading is not None:
                work.append(tasks.create_task(self.reloading.run(), name="reloading"))
            if self.shadow is not None:
                work.append(tasks.create_task(self.shadow.run(), name="shadow"))
            await stop.wait()
            log.info("stopping")
            await self._answer_the_last()
            for task in work:
                task.cancel()
            await asyncio.wait(work)
            self._tenure.end()
            if self._campaign is not None:
                await self._fenced.settled()
                await self._campaign.release()
            feeding.cancel()

    async def _answer_the_last(self) -> None:
        self.service.stop()
        if self._signpost is not None and self._tenure.seconds_left > 0:
            try:
                await self._signpost.take_down()
            except ClusterUnavailable as error:
                log.warning("signpost_left_behind", error=str(error))
        try:
            async with asyncio.timeout(LAST_BINDS_SECONDS):
                await self.service.binder.underway.idle()
        except TimeoutError:
            log.warning("binds_cut_off")
