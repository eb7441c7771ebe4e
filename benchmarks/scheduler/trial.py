"""One turn of the comparison: a scheduler with one kind of extender, and the pods sent through it.

Agents are simulated, in the benchmark's own process; all else are processes of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import populated, residents
from benchmarks.fleet import RESOURCE, TYPES
from benchmarks.http import quantile_ms
from benchmarks.populated import GPUS, MODEL, NAMESPACE, RESOURCES, Vm
from benchmarks.processes import PASSTHROUGH, TANGRAM, Extender
from benchmarks.scheduler.meter import Meter, Row
from extender.kubescheduler import compose
from extender.kubescheduler.compose import Wanted
from nodeagent.api import keys
from nodeagent.apiserver.protocol import GPU_NODES, PODS
from nodeagent.apiserver.reflector import Object, Replaced, Upserted, reflect
from nodeagent.apiserver.rest import RestApi
from tests.e2e.controlplane.cluster import ControlPlane
from tests.e2e.stack import install

OWN_POD = "extender"
MODES: Mapping[str, Sequence[str]] = {
    "tangram": (*TANGRAM, "--own-pod", f"{keys.SYSTEM_NAMESPACE}/{OWN_POD}"),
    "passthrough": PASSTHROUGH,
    "none": (),
}
WEIGHTS = (8, 3, 4, 3, 1, 1)  # of TYPES: most VMs want little
HTTP_TIMEOUT_SECONDS = 30.0
AT_ONCE = 64  # pods created, or deleted
WARMING = 20  # pods after which the scheduler's and the extender's caches are warm
WITHIN_SECONDS = 300.0
BACKLOG_EVERY_SECONDS = 0.25


class _PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""


class _Pod(msgspec.Struct, frozen=True):
    spec: _PodSpec = _PodSpec()


_POD = msgspec.json.Decoder(_Pod)


class Load(msgspec.Struct, frozen=True):
    """What is sent: *pods* in each batch, and *per_second* of them for so many *seconds*."""

    pods: int
    seconds: float
    per_second: float


class Bench:
    """A control plane with GPU nodes; *say* is told how far it is."""

    def __init__(
        self,
        plane: ControlPlane,
        api: RestApi,
        directory: Path,
        *,
        seed: int,
        say: Callable[[str], None],
    ) -> None:
        self._plane = plane
        self._api = api
        self._directory = directory
        self._chance = random.Random(seed)
        self._say = say
        self._numbers = itertools.count()
        self._bound: dict[str, float] = {}
        self._changed = asyncio.Event()

    async def prepare(self, nodes: int) -> Sequence[str]:
        """Make the nodes, empty, and the extender's own pod; return the nodes' names."""
        await install(self._plane)
        site = populated.drawn(nodes, 0, pending=0, seed=1)
        site.cordoned.clear()
        site.leaseless.clear()
        slots = {
            resource: str(MODEL.geometry.by_id[id].fits_at_once * GPUS)
            for id, resource in RESOURCES.items()
        }
        room = {"cpu": "128", "memory": "1Ti", "pods": "250"}
        await residents.create(self._api, site, offers=slots | room)
        names = tuple(site.nodes)
        own = {"containers": [{"name": "extender", "image": "tangram"}], "nodeName": names[0]}
        body = {"metadata": {"name": OWN_POD}, "spec": own}
        await self._api.create(PODS, body, namespace=keys.SYSTEM_NAMESPACE)
        return names

    async def follow(self) -> None:
        """Note when each pod was seen to be bound, until cancelled."""
        changes = reflect(self._api, PODS, namespace=NAMESPACE, read=_node_of)
        async with contextlib.aclosing(changes):
            async for change in changes:
                objects: Sequence[Object] = ()
                if isinstance(change, Replaced):
                    objects = change.objects
                elif isinstance(change, Upserted):
                    objects = (change.object,)
                for each in objects:
                    if each.read:
                        self._bound.setdefault(each.name, time.perf_counter())
                self._changed.set()

    async def in_mode(self, mode: str, load: Load) -> Row:
        """Run all scenarios with one kind of extender."""
        directory = self._directory / f"{mode}-{next(self._numbers)}"
        directory.mkdir()
        async with contextlib.AsyncExitStack() as stack:
            configuration: Mapping[str, Any] = {"percentageOfNodesToScore": compose.ALL_NODES}
            extender = None
            if MODES[mode]:
                extender = Extender(directory, self._plane.kubeconfig("admin"), MODES[mode])
                await stack.enter_async_context(extender.running())
                await extender.ready(WITHIN_SECONDS)
                configuration = compose.patch(_wanted(extender.url))
            stack.push_async_callback(self._plane.stop_scheduler)
            meter = Meter(self._plane, extender)
            await self._plane.start_scheduler(configuration)
            await self._batch(WARMING, meter, _wants_nothing)
            await meter.at_rest()
            self._say("plain")
            found = {"plain": await self._batch(load.pods, meter, _wants_nothing)}
            self._say("saturated")
            found["saturated"] = await self._saturated(load.pods, meter, configuration)
            self._say("sustained")
            found["sustained"] = await self._paced(load, meter)
            return found

    def _wants(self) -> str:
        (vgpu,) = self._chance.choices(TYPES, WEIGHTS)
        return RESOURCE.format(vgpu)

    async def _batch(self, count: int, meter: Meter, wants: Callable[[], str]) -> Row:
        names = self._names(count)
        async with meter.measured(count) as row:
            began = time.perf_counter()
            await self._create(names, wants)
            await self._all_bound(names)
            row["pods_per_s"] = self._rate(names, began)
        await self._clear(names)
        return row

    async def _saturated(self, count: int, meter: Meter, configuration: Mapping[str, Any]) -> Row:
        """Let the scheduler begin when all pods are there: how soon they were made is no matter."""
        names = self._names(count)
        await self._plane.stop_scheduler()
        await self._create(names, self._wants)
        async with meter.measured(count) as row:
            await self._plane.start_scheduler(configuration)
            began = time.perf_counter()
            await self._all_bound(names)
            row["pods_per_s"] = self._rate(names, began)
        await self._clear(names)
        return row

    def _rate(self, names: Sequence[str], began: float) -> float:
        """Return pods a second from the beginning, or the first that was bound, to the last."""
        seen = [self._bound[name] for name in names]
        return round(len(names) / (max(seen) - min(began, *seen)), 1)

    async def _paced(self, load: Load, meter: Meter) -> Row:
        names = self._names(round(load.seconds * load.per_second))
        created: dict[str, float] = {}
        backlog: list[int] = []

        async def create(name: str) -> None:
            await self._api.create(PODS, _pod(name, self._wants()), namespace=NAMESPACE)
            created[name] = time.perf_counter()

        async def look() -> None:
            while True:
                backlog.append(len(created.keys() - self._bound.keys()))
                await asyncio.sleep(BACKLOG_EVERY_SECONDS)

        async with meter.measured(len(names)) as row:
            looking = asyncio.create_task(look(), name="backlog")
            began = time.perf_counter()
            async with asyncio.TaskGroup() as tasks:
                for index, name in enumerate(names):
                    due = began + index / load.per_second
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    tasks.create_task(create(name), name=f"create-{name}")
            row["created_per_s"] = round(len(names) / (time.perf_counter() - began), 1)
            looking.cancel()
            await self._all_bound(names)
            row["pods_per_s"] = self._rate(names, began)
        half = len(backlog) // 2
        waited = sorted(max(0.0, self._bound[name] - created[name]) for name in names)
        row |= {
            "backlog_first": max(backlog[:half], default=0),
            "backlog_second": max(backlog[half:], default=0),
            "bound_p50_ms": quantile_ms(waited, 0.5),
            "bound_p99_ms": quantile_ms(waited, 0.99),
        }
        await self._clear(names)
        return row

    def _names(self, count: int) -> Sequence[str]:
        return [f"vm-{next(self._numbers):06}" for _ in range(count)]

    async def _create(self, names: Sequence[str], wants: Callable[[], str]) -> None:
        async def create(name: str) -> None:
            await self._api.create(PODS, _pod(name, wants()), namespace=NAMESPACE)

        await _each(names, create)

    async def _all_bound(self, names: Sequence[str]) -> None:
        left = set(names)
        async with asyncio.timeout(WITHIN_SECONDS):
            while left := left - self._bound.keys():
                self._changed.clear()
                await self._changed.wait()

    async def _clear(self, names: Sequence[str]) -> None:
        """Delete the pods, and wait until no plan has anything of them."""

        async def delete(name: str) -> None:
            await self._api.delete(PODS, name, namespace=NAMESPACE, grace_seconds=0)

        await _each(names, delete)
        async with asyncio.timeout(WITHIN_SECONDS):
            token = ""
            while True:
                page = await self._api.list(GPU_NODES, continue_token=token)
                if any(b'"assignments":[{' in raw for raw in page.items):
                    await asyncio.sleep(0.5)
                    token = ""  # from the first page: the others stay as they were by then
                    continue
                token = page.continue_token
                if not token:
                    return


async def _each(names: Sequence[str], do: Callable[[str], Any]) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> None:
        async with gate:
            await do(name)

    await asyncio.gather(*map(one, names))


def _node_of(current: Object) -> Object:
    node = _POD.decode(current.raw).spec.node_name
    return msgspec.structs.replace(current, raw=b"", read=node)


def _wanted(url: str) -> Wanted:
    return Wanted(
        url=url,
        http_timeout_seconds=HTTP_TIMEOUT_SECONDS,
        verbs=("filter", "prioritize", "bind"),
        resources=dict.fromkeys(RESOURCES.values(), False),
    )


def _wants_nothing() -> str:
    return ""


def _pod(name: str, resource: str) -> Mapping[str, Any]:
    body = residents.pod(Vm(name, wanted=resource))
    if not resource:
        body["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m"}}
    return body


@contextlib.asynccontextmanager
async def following(bench: Bench) -> AsyncIterator[None]:
    """Note when pods are bound until the block ends."""
    task = asyncio.create_task(bench.follow(), name="follow")
    try:
        yield
    finally:
        task.cancel()
