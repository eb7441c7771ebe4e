"""Bugs in the extender; each function returns what plants one until it is left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from unittest.mock import patch

import msgspec

import extender.cluster.door as door
import extender.planning.gangs as gangs
import extender.service.adoption as adoption
import extender.service.gangs as service_gangs
import extender.service.knowledge.nodes as nodes
import extender.service.underway as underway
import extender.succession as succession
from extender import request, wire
from extender.cluster.door import KubernetesCluster
from extender.cluster.feeds import Feeds
from extender.cluster.fence import Fenced
from extender.ledger import promise
from extender.packing.choose import Choice
from extender.planning import joint
from extender.planning.gangs import Standing
from extender.service.avoidance import Circuit
from extender.service.binding import Binder
from extender.service.ended import Ended
from extender.service.enlisted import key
from extender.service.freshness import Freshness
from extender.service.holds import Holds
from extender.service.hooks import Hooks
from extender.service.placing import Placer
from extender.service.plans import Plans
from extender.service.ports import BindingRefused, ClusterUnavailable
from extender.service.posting import BindFailed, Poster
from extender.service.reclaim import Reclaimer
from extender.service.rendezvous import Rendezvous
from extender.service.reservation import Reservations
from extender.service.tenure import Tenure
from extender.service.underway import Look
from extender.snapshot import NodeView
from extender.verbs import bind as decide
from extender.verbs.record import adoptable
from nodeagent.api import keys, rfc3339
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import LEASES


def without_test() -> Any:
    whole = door.plan_patch

    def plan_patch(*args: Any, **named: Any) -> list[dict[str, Any]]:
        return [each for each in whole(*args, **named) if each["op"] != "test"]

    return patch.object(door, "plan_patch", plan_patch)


def await_before_assume() -> Any:
    async def reserve(
        self: Any, request: Any, node: str, patience: Any, *, unsure: Any = ()
    ) -> Any:
        known, uid = self._knowledge, request.pod.uid
        view = known.views.get(node)
        if view is None:
            raise BindFailed("not there")
        if view.assignments_of(uid):
            return view.assignments_of(uid)
        choice = decide.place(view, known.ledger, request)
        if not isinstance(choice, Choice):
            raise BindFailed("full")
        await asyncio.sleep(0.01)
        known.ledger = known.ledger.assume(uid, promise(node, choice.placed))
        entries = decide.assignments(
            request,
            choice,
            ids=iter(self._new_id, None),
            since=rfc3339.microseconds(self._utc_now()),
        )
        try:
            async with self._plans.turn(node):
                await self._plans.write(known.views[node], add=entries)
        except Exception as error:
            raise BindFailed("again") from error
        finally:
            known.forget(uid)
        return entries

    return patch.object(Placer, "place", reserve)


def forget_on_unknown() -> Any:
    async def post(
        self: Any,
        pod: Any,
        node: str,
        notes: Any,
        answer_by: float,
        *,
        seen: Any,
        ids: Any = (),
        ready: Any = None,
    ) -> None:
        seconds = self._knowledge.settings.binding_timeout_seconds
        try:
            await self._cluster.bind(pod, node, notes, version=seen.version, timeout=seconds)
        except (BindingRefused, ClusterUnavailable) as error:
            await self._plans.withdraw(node, self._plans.ids_of(pod.uid))
            raise BindFailed("not bound, it seems") from error

    return patch.object(Poster, "post", post)


def answer_too_soon() -> Any:
    async def outlast(self: Any, posted: float) -> None: ...

    return patch.object(Poster, "_outlast", outlast)


def binding_after_the_answer() -> Any:
    whole = Binder.bind

    async def bind(self: Any, args: wire.BindingArgs) -> wire.BindingResult:
        task = asyncio.ensure_future(whole(self, args))
        done, _ = await asyncio.wait([task], timeout=1.0)
        return task.result() if done else wire.BindingResult("it takes too long")

    return patch.object(Binder, "bind", bind)


def give_back_at_once() -> Any:
    async def give_back(self: Any, pod: Any, node: str, patience: Any) -> None:
        await self._plans.withdraw(node, self._plans.ids_of(pod.uid))

    return patch.object(Poster, "give_back", give_back)


def not_void() -> Any:
    async def void_bindings(self: Any, pod: Any, ids: Any) -> Any:
        return await self.read_pod(pod.ref.namespace, pod.ref.name)

    return patch.object(KubernetesCluster, "void_bindings", void_bindings)


def gang_ignored() -> Any:
    return patch.object(request, "_gang", lambda pod: None)


def gang_in_part() -> Any:
    judged, reserved = gangs.standing, Reservations.decide

    def standing(members: Any) -> Standing:
        stands = judged(members)
        return Standing.RESERVED if stands is Standing.HALF else stands

    async def decide(
        self: Any, of: Any, waiting: Any, considered: Any, places: Any, **named: Any
    ) -> None:
        found = [each for each in waiting if each.uid in places]
        await reserved(self, of, found, considered, places, **named)

    stack = contextlib.ExitStack()
    stack.enter_context(patch.object(joint, "_gang", lambda request: None))
    stack.enter_context(patch.object(Reservations, "decide", decide))
    stack.enter_context(patch.object(service_gangs, "standing", standing))
    return stack


def gang_exceeded() -> Any:
    waits, comes = Hooks._why_wait_for_gang, Rendezvous.wait

    def one_too_many(hook: Any, request: Any) -> bool:
        stands = hook._gangs.standing(key(request.gang))
        return stands is Standing.RESERVED and request.pod.uid not in hook._knowledge.assigned

    def why_wait(self: Any, request: Any, names: Any, assigned: str) -> Any:
        if one_too_many(self, request):
            return None
        return waits(self, request, names, assigned)

    async def wait(self: Any, request: Any, node: str, answer_by: float) -> str:
        return "" if one_too_many(self, request) else await comes(self, request, node, answer_by)

    stack = contextlib.ExitStack()
    stack.enter_context(patch.object(Hooks, "_why_wait_for_gang", why_wait))
    stack.enter_context(patch.object(Rendezvous, "wait", wait))
    return stack


def without_uid() -> Any:
    """Nor does it say which state of the pod it was decided on, of which no other pod has any."""
    whole = InMemoryApi.create

    async def create(self: Any, kind: Any, body: Any, **named: Any) -> bytes:
        if named.get("subresource") == "binding":
            whose = ("uid", "resourceVersion")
            meta = {k: v for k, v in body["metadata"].items() if k not in whose}
            body = {**body, "metadata": meta}
        return await whole(self, kind, body, **named)

    return patch.object(InMemoryApi, "create", create)


def unread_reclaim() -> Any:
    async def resolve(self: Any, node: str, pod: Any, patience: Any) -> None:
        with contextlib.suppress(ClusterUnavailable):
            await self._plans.withdraw(node, self._plans.ids_of(pod.uid))

    return patch.object(Reclaimer, "_resolve", resolve)


def never_disturbed() -> Any:
    """Act on what was read of a pod, though it may have been bound since."""

    class Undisturbed(Look):
        disturbed = property(lambda self: False, lambda self, told: None)

    return patch.object(underway, "Look", Undisturbed)


def never_settled() -> Any:
    """Rely on an entry that a write on its way may remove."""

    async def settled(self: Any, node: str) -> None: ...

    return patch.object(Plans, "settled", settled)


def reclaim_by_name() -> Any:
    async def resolve(self: Any, node: str, pod: Any, patience: Any) -> None:
        self._read_at[pod.uid] = self._knowledge.clock()
        with contextlib.suppress(ClusterUnavailable):
            facts = await self._cluster.read_pod(pod.namespace, pod.name)
            if facts is None or facts.over or self._unwanted(node, facts):
                await self._plans.withdraw(node, self._plans.ids_of(pod.uid))

    return patch.object(Reclaimer, "_resolve", resolve)


def no_releasing() -> Any:
    whole = succession.successor

    def successor(*args: Any, **named: Any) -> NodeView:
        return msgspec.structs.replace(whole(*args, **named), releasing=())

    return patch.object(nodes, "successor", successor)


def held_to_nobody() -> Any:
    def in_force(self: Any) -> Any:
        return (each for each in self.node.spec.assignments if each.pod is not None)

    return patch.object(NodeView, "in_force", property(in_force))


def held_for_ever() -> Any:
    return patch.object(Holds, "over", lambda self: iter(()))


def never_let_go() -> Any:
    """Leave reservations in plans until something else is written to them."""

    async def stay(self: Any, name: str, patience: Any) -> None:
        pass

    return patch.object(Plans, "let_go", stay)


def held_too_short() -> Any:
    whole = Holds.__init__

    def begin(self: Any, lasts: float, clock: Any, **named: Any) -> None:
        whole(self, lasts / 2, clock, **named)

    return patch.object(Holds, "__init__", begin)


def held_unread() -> Any:
    """Hold the place of a pod that seems to have ended without asking the API server."""

    async def resolve(self: Any, node: str, pod: Any, patience: Any) -> None:
        with contextlib.suppress(ClusterUnavailable):
            if await self._comes_back(node, pod, None, patience):
                await self._plans.withdraw(node, self._plans.ids_of(pod.uid), hold=True)

    return patch.object(Reclaimer, "_resolve", resolve)


def ended_forgotten() -> Any:
    return patch.object(Ended, "__contains__", lambda self, uid: False)


def not_inherited() -> Any:
    return patch.object(decide, "inherited", lambda view, ledger, request: None)


def never_half_open() -> Any:
    return patch.object(Circuit, "refuses", lambda self, *, now: self.open)


def open_fence() -> Any:
    @contextlib.contextmanager
    def admitted(self: Any, timeout: float) -> Iterator[float]:
        yield timeout

    return patch.object(Fenced, "_admitted", admitted)


def lead_for_ever() -> Any:
    def hold(self: Any, *, until: float) -> None:
        self._until = float("inf")

    stack = contextlib.ExitStack()
    stack.enter_context(patch.object(Tenure, "hold", hold))
    stack.enter_context(patch.object(Tenure, "end", lambda self: None))
    return stack


def once_realized() -> Any:
    """Bind to what was realized once, whatever has become of it."""
    known: set[str] = set()
    whole = NodeView.realized

    def realized(self: Any, ids: Any) -> bool:
        wanted = set(ids)
        if whole(self, wanted):
            known.update(wanted)
        return wanted <= known

    return patch.object(NodeView, "realized", realized)


def no_relist() -> Any:
    async def relist(self: Any) -> None: ...

    return patch.object(Feeds, "relist", relist)


def trust_node_time() -> Any:
    written: dict[str, str] = {}
    whole = InMemoryApi.patch

    async def spied(self: Any, kind: Any, name: str, body: Any, **named: Any) -> bytes:
        if kind == LEASES and name.startswith(keys.LEASE_PREFIX):
            written[name.removeprefix(keys.LEASE_PREFIX)] = body["spec"]["renewTime"]
        return await whole(self, kind, name, body, **named)

    def stale(self: Any, node: str) -> bool:
        told = written.get(node)
        if told is None:
            return True
        now = asyncio.get_running_loop().time()
        renewed = datetime.fromisoformat(told.replace("Z", "+00:00")).timestamp()
        return bool(START + now - renewed > self._settings.lease_missed_seconds)

    stack = contextlib.ExitStack()
    stack.enter_context(patch.object(InMemoryApi, "patch", spied))
    stack.enter_context(patch.object(Freshness, "stale", stale))
    return stack


START = datetime.fromisoformat("2026-01-01T00:00:00+00:00").timestamp()


def any_version() -> Any:
    whole = succession.successor

    def successor(view: Any, newer: Any, *, listed: bool = False) -> NodeView:
        return whole(view, newer, listed=True)

    return patch.object(nodes, "successor", successor)


def not_written_again() -> Any:
    """Leave what a plan has said that somebody deleted to whoever tells of it again."""
    return patch.object(nodes, "unwritten", lambda lost, before, now: ())


def lost_is_free() -> Any:
    """Give what is to be written again to whoever comes first."""

    def keep_lost(self: Any, name: str) -> None:
        pass

    return patch.object(nodes.NodesKnown, "_keep_lost", keep_lost)


def not_adopted_again() -> Any:
    """Let the agent tell who has what its plan has lost, and write nothing: but for old VMs."""

    def old(view: NodeView) -> Any:
        return tuple(each for each in adoptable(view) if not each.assignment)

    return patch.object(adoption, "adoptable", old)


def no_read_after_unknown() -> Any:
    async def write(
        self: Any, view: Any, *, add: Any = (), remove: Any = (), hold: Any = (), patience: Any = ()
    ) -> None:
        gone = {*remove, *view.lapsed}
        try:
            node = await self._cluster.write_plan(view.node, add=add, remove=gone, hold=hold)
        except ClusterUnavailable:
            if remove or hold:
                raise
        else:
            self._knowledge.gpu_node(node)

    return patch.object(Plans, "write", write)
