"""Extender and agent on one Harvester node, with a scheduler that calls the hooks."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from extender.cluster import KubernetesCluster, OwnPod, feed
from extender.service import Service
from extender.settings import Settings
from nodeagent.api import keys
from nodeagent.apiserver.protocol import PODS, VIRTUAL_MACHINES, PatchType
from tests.fakes.pcidevices.log import REFUSED, traps
from tests.fakes.world import bind_args, filter_args
from tests.unit.harvester.station import BIG, NAME, SMALL, Station
from tests.waiting import until

SOON = Settings(
    http_timeout_seconds=5.0,
    answer_margin_seconds=0.2,
    binding_start_margin_seconds=0.1,
    binding_timeout_seconds=0.1,
    sweep_interval_seconds=0.02,
    wake_interval_seconds=0.01,
)


class Together:
    """The station, driven by a task of its own, and an extender that places its VMs."""

    def __init__(self, station: Station, service: Service) -> None:
        self.station = station
        self.service = service
        self._scheduled: set[str] = set()

    async def drive(self) -> None:
        """Let everybody work, and schedule what is pending, until cancelled."""
        async with asyncio.TaskGroup() as binds:
            while True:
                await self.station.turn()
                for pod in await self.station.launchers():
                    uid = pod["metadata"]["uid"]
                    if not pod["spec"].get("nodeName") and uid not in self._scheduled:
                        self._scheduled.add(uid)
                        binds.create_task(self._schedule(pod))
                await asyncio.sleep(0.002)

    async def _schedule(self, pod: dict[str, Any]) -> None:
        """Do with a pod what kube-scheduler does, and Tangram's webhook before it."""
        metadata = pod["metadata"]
        label = {"metadata": {"labels": {keys.MANAGED_LABEL: "true"}}}
        raw = await self.station.cluster.api.patch(
            PODS,
            metadata["name"],
            label,
            patch_type=PatchType.MERGE,
            namespace=metadata["namespace"],
        )
        pod = msgspec.json.decode(raw)
        while True:
            passed = self.service.hooks.filter(filter_args(pod, NAME)).node_names
            if passed:
                answer = await self.service.binder.bind(bind_args(pod, NAME))
                if not answer.error:
                    return
            await asyncio.sleep(0.01)

    async def run(self, name: str, profile: int) -> None:
        await self.station.create(name, self.station.resource(profile))
        await self.running(name)

    async def running(self, name: str) -> None:
        async def runs() -> bool:
            return await self.station.phase(name) == "Running" and await self.station.noted(name)

        await until(runs, within=30.0)

    async def stop(self, name: str) -> None:
        await self.station.change(VIRTUAL_MACHINES, name, "default", runStrategy="Halted")
        await until(lambda: self._has_no_pod(name), within=30.0)

    async def start(self, name: str) -> None:
        await self.station.change(VIRTUAL_MACHINES, name, "default", runStrategy="Always")
        await self.running(name)

    async def delete(self, name: str) -> None:
        await self.station.cluster.api.delete(VIRTUAL_MACHINES, name, namespace="default")
        await until(lambda: self._has_no_pod(name), within=30.0)

    async def _has_no_pod(self, name: str) -> bool:
        return not await self.station.phase(name)

    async def as_planned(self) -> bool:
        """Tell whether the plan says of every VM that runs where it really is, and of no other."""
        planned = {
            each.pod.uid: (self.station.machine.uuids.index(each.gpu), each.start)
            for each in (await self.station.gpu_node()).spec.assignments
            if each.pod is not None
        }
        real = {
            pod["metadata"]["uid"]: places[0]
            for pod in await self.station.launchers()
            if (places := self.station.places_of(pod["metadata"]["uid"]))
        }
        return planned == real


@contextlib.asynccontextmanager
async def together(station: Station) -> AsyncIterator[Together]:
    own = OwnPod(keys.SYSTEM_NAMESPACE, "extender-0")
    api = station.cluster.api
    body = {"metadata": {"name": own.name}, "spec": {"containers": [], "nodeName": "elsewhere"}}
    await api.create(PODS, body, namespace=own.namespace)
    service = Service(KubernetesCluster(api, own_pod=own), SOON)
    async with station.agent(), asyncio.TaskGroup() as tasks:
        both = Together(station, service)
        work = [
            tasks.create_task(feed(api, service.knowledge)),
            tasks.create_task(service.run()),
            tasks.create_task(both.drive()),
        ]
        try:
            await until(lambda: ready(station, service), within=30.0)
            yield both
        finally:
            for task in work:
                task.cancel()


def ready(station: Station, service: Service) -> bool:
    view = service.knowledge.views.get(NAME)
    return (
        not service.knowledge.not_ready()
        and view is not None
        and view.takes_new
        and bool(view.usable)
    )


async def test_vms_come_stop_start_and_go_and_the_plan_says_where_each_is(
    station: Station,
) -> None:
    async with together(station) as both:
        for name, profile in (("vm-1", SMALL), ("vm-2", SMALL), ("vm-3", BIG), ("vm-4", SMALL)):
            await both.run(name, profile)
        await until(both.as_planned, within=20.0)
        instances = station.starts()
        for name in ("vm-1", "vm-2", "vm-4"):
            await both.stop(name)
        assert station.starts() == instances  # they are kept
        for name in ("vm-4", "vm-1", "vm-2"):
            await both.start(name)
        await until(both.as_planned, within=20.0)
        assert len(station.starts()) <= len(instances)  # no VM had a second one made

        for n in random.Random(1).sample(range(1, 5), 4):
            await both.delete(f"vm-{n}")
        await until(lambda: station.starts() == [], within=30.0)
        assert await station.enabled() == []
    assert list(traps(station.cluster.log.entries)) == []
    assert not [each for each in station.cluster.log.of(REFUSED) if each.actor == "agent"]
