"""Bugs that are planted to see whether the judge catches them; each is one that people write."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any
from unittest.mock import patch

import msgspec

import extender.cluster.door as door
import extender.service.knowledge as knowledge
import nodeagent.actuate.work as work
import nodeagent.ownership as ownership
from extender import wire
from extender.cluster.feeds import Feeds
from extender.cluster.fence import Fenced
from extender.ledger import promise
from extender.service.avoidance import Circuit
from extender.service.binding import Binder
from extender.service.freshness import Freshness
from extender.service.holds import Holds
from extender.service.plans import Plans
from extender.service.ports import BindingRefused, ClusterUnavailable
from extender.service.posting import BindFailed, Poster
from extender.service.reclaim import Reclaimer
from extender.service.tenure import Tenure
from extender.snapshot import NodeView
from extender.verbs import bind as decide
from nodeagent import slots
from nodeagent.actuate import Actuator
from nodeagent.agent.handout import Handout
from nodeagent.agent.passes import Passes
from nodeagent.api import keys, rfc3339
from nodeagent.api.gpunode import Realized
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import LEASES

Planting = Callable[[], contextlib.AbstractContextManager[Any]]


class Mutant(msgspec.Struct, frozen=True):
    """A bug: its *name* for the command line, what it does wrong, and how it is *planted*."""

    name: str
    says: str
    planted: Planting


def _without_test() -> Any:
    whole = door.plan_patch

    def plan_patch(*args: Any, **named: Any) -> list[dict[str, Any]]:
        return [each for each in whole(*args, **named) if each["op"] != "test"]

    return patch.object(door, "plan_patch", plan_patch)


def _await_before_assume() -> Any:
    async def reserve(self: Any, request: Any, node: str, patience: Any) -> Any:
        known, uid = self._knowledge, request.pod.uid
        view = known.views.get(node)
        if view is None:
            raise BindFailed("not there")
        if view.assignments_of(uid):
            return view.assignments_of(uid)
        choice = decide.place(view, known.ledger, request)
        if not hasattr(choice, "placed"):
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

    return patch.object(Binder, "_reserve", reserve)


def _forget_on_unknown() -> Any:
    async def post(
        self: Any, pod: Any, node: str, notes: Any, answer_by: float, *, ready: Any = None
    ) -> None:
        limits = self._knowledge.settings
        try:
            await self._cluster.bind(pod, node, notes, timeout=limits.binding_timeout_seconds)
        except (BindingRefused, ClusterUnavailable) as error:
            await self._plans.withdraw_pod(node, pod.uid)
            raise BindFailed("not bound, it seems") from error

    return patch.object(Poster, "post", post)


def _answer_too_soon() -> Any:
    async def outlast(self: Any, posted: float) -> None: ...

    return patch.object(Poster, "_outlast", outlast)


def _binding_after_the_answer() -> Any:
    whole = Binder.bind

    async def bind(self: Any, args: wire.BindingArgs) -> wire.BindingResult:
        task = asyncio.ensure_future(whole(self, args))
        done, _ = await asyncio.wait([task], timeout=1.0)
        return task.result() if done else wire.BindingResult("it takes too long")

    return patch.object(Binder, "bind", bind)


def _give_back_at_once() -> Any:
    async def give_back(self: Any, pod: Any, node: str, patience: Any) -> None:
        await self._plans.withdraw_pod(node, pod.uid)

    return patch.object(Poster, "give_back", give_back)


def _without_uid() -> Any:
    whole = InMemoryApi.create

    async def create(self: Any, kind: Any, body: Any, **named: Any) -> bytes:
        if named.get("subresource") == "binding":
            meta = {k: v for k, v in body["metadata"].items() if k != "uid"}
            body = {**body, "metadata": meta}
        return await whole(self, kind, body, **named)

    return patch.object(InMemoryApi, "create", create)


def _unread_reclaim() -> Any:
    async def resolve(self: Any, node: str, pod: Any, patience: Any) -> None:
        with contextlib.suppress(ClusterUnavailable):
            await self._plans.withdraw_pod(node, pod.uid)

    return patch.object(Reclaimer, "_resolve", resolve)


def _reclaim_by_name() -> Any:
    async def resolve(self: Any, node: str, pod: Any, patience: Any) -> None:
        self._read_at[pod.uid] = self._knowledge.clock()
        with contextlib.suppress(ClusterUnavailable):
            facts = await self._cluster.read_pod(pod.namespace, pod.name)
            if facts is None or facts.over or self._unwanted(node, facts):
                await self._plans.withdraw_pod(node, pod.uid)

    return patch.object(Reclaimer, "_resolve", resolve)


def _no_releasing() -> Any:
    whole = knowledge.successor

    def successor(*args: Any, **named: Any) -> NodeView:
        return msgspec.structs.replace(whole(*args, **named), releasing=())

    return patch.object(knowledge, "successor", successor)


def _held_to_nobody() -> Any:
    def in_force(self: Any) -> Any:
        return (each for each in self.node.spec.assignments if each.pod is not None)

    return patch.object(NodeView, "in_force", property(in_force))


def _held_for_ever() -> Any:
    return patch.object(Holds, "over", lambda self: iter(()))


def _held_too_short() -> Any:
    whole = Holds.__init__

    def begin(self: Any, lasts: float, clock: Any) -> None:
        whole(self, lasts / 2, clock)

    return patch.object(Holds, "__init__", begin)


def _held_unread() -> Any:
    """Hold the place of a pod that seems to have ended without asking the API server."""

    async def resolve(self: Any, node: str, pod: Any, patience: Any) -> None:
        with contextlib.suppress(ClusterUnavailable):
            if await self._comes_back(node, pod, None, patience):
                await self._plans.withdraw_pod(node, pod.uid, hold=True)

    return patch.object(Reclaimer, "_resolve", resolve)


def _never_half_open() -> Any:
    return patch.object(Circuit, "refuses", lambda self, *, now: self.open)


def _open_fence() -> Any:
    @contextlib.contextmanager
    def admitted(self: Any, timeout: float) -> Iterator[float]:
        yield timeout

    return patch.object(Fenced, "_admitted", admitted)


def _lead_for_ever() -> Any:
    def hold(self: Any, *, until: float) -> None:
        self._until = float("inf")

    stack = contextlib.ExitStack()
    stack.enter_context(patch.object(Tenure, "hold", hold))
    stack.enter_context(patch.object(Tenure, "end", lambda self: None))
    return stack


def _no_relist() -> Any:
    async def relist(self: Any) -> None: ...

    return patch.object(Feeds, "relist", relist)


def _trust_node_time() -> Any:
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


def _use_unchecked() -> Any:
    whole = work.observe

    def observe(*args: Any, **named: Any) -> tuple[Any, ...]:
        found = whole(*args, **named)
        return tuple(msgspec.structs.replace(each, held="") for each in found)

    return patch.object(work, "observe", observe)


def _claims_ignored() -> Any:
    return patch.object(Handout, "claimed", lambda self, host, made: frozenset())


def _gi_id_as_identity() -> Any:
    """Remember for which assignment an id was given out, and believe it for ever."""
    known: dict[tuple[str, int], Any] = {}
    whole = ownership._is

    def same(live: Any, gpu: Any, made: Any) -> bool:
        key = (gpu.uuid, live.gi_id)
        if whole(live, gpu, made):
            known[key] = made.assignment
        return bool(known.get(key) == made.assignment)

    @contextlib.contextmanager
    def planted() -> Iterator[None]:
        with patch.object(ownership, "_is", same):
            yield

    return planted()


def _all_is_ours() -> Any:
    def same(live: Any, gpu: Any, made: Any) -> bool:
        return bool(gpu.uuid == made.gpu and live.placement.mask & made.placement.mask)

    return patch.object(ownership, "_is", same)


def _journal_afterwards() -> Any:
    saved = Actuator._saved

    async def late(self: Any, made: Any) -> bool:
        new = set(made) - set(self._journal.made)
        if new and not self.__dict__.pop("_put_off", False):
            self.__dict__["_put_off"] = True  # the save after the creation will do
            return True
        return bool(await saved(self, made))

    return patch.object(Actuator, "_saved", late)


def _old_boot() -> Any:
    """Take what the journal has for ours, whichever boot it is from, and never forget it."""

    def remembered(made: Any, host: Any) -> Any:
        return tuple(msgspec.structs.replace(each, boot_id=host.boot_id) for each in made)

    return patch.object(work, "remembered", remembered)


def _two_at_once() -> Any:
    def tied(ties: Any, plan: Any, claims: Any, *, live: Any, capacity: Any) -> Any:
        made, last = list(ties.ties), dict(ties.last)
        have = {tie.assignment for tie in made}
        for uid, entries in slots._pods(plan):
            missing = [e for e in entries if e.id not in have and e.id in live]
            taken = {tie.slot for tie in made} | claims.keys()
            for each, slot in slots._chosen(missing, taken, last, capacity):
                made.insert(0, slots.Tie(each.id, uid, each.resource, slot))
        return slots.Ties(tuple(made), last)

    return patch.object(slots, "tied", tied)


def _told_too_soon() -> Any:
    def realized(self: Any, planned: Any) -> list[Realized]:
        return [Realized(id) for id in sorted(planned)]

    return patch.object(Passes, "_realized", realized)


def _no_withdrawal() -> Any:
    """Destroy while the kubelet may still hand the slot out."""

    async def withdraw(self: Any, realized: Any, plan: Any) -> None:
        self.rivals = await self._answer(self._kubelet.rivals())
        self.holders = await self._answer(self._kubelet.holders())
        claims: Mapping[str, str] = await self._answer(self._kubelet.claims())
        before = self._known or slots.recovered(realized, plan, claims)
        self._claims = claims
        self._known = before

    return patch.object(Handout, "withdraw", withdraw)


def _any_version() -> Any:
    whole = knowledge.successor

    def successor(view: Any, newer: Any, *, listed: bool = False) -> NodeView:
        return whole(view, newer, listed=True)

    return patch.object(knowledge, "successor", successor)


def _no_read_after_unknown() -> Any:
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


MUTANTS = (
    Mutant("no-test", "the plan's patch has no test operation", _without_test),
    Mutant("await-first", "a place is chosen, awaited, then assumed", _await_before_assume),
    Mutant("forget-unknown", "an unknown Binding's place is given back", _forget_on_unknown),
    Mutant("answer-early", "an unknown Binding is read before its time is over", _answer_too_soon),
    Mutant("late-binding", "bind goes on after its answer", _binding_after_the_answer),
    Mutant("no-uid", "the Binding has no UID", _without_uid),
    Mutant("unread-reclaim", "reclaim does not read the pod", _unread_reclaim),
    Mutant("reclaim-by-name", "reclaim goes by the pod's name", _reclaim_by_name),
    Mutant("no-releasing", "slices are free once their entry is gone", _no_releasing),
    Mutant("held-to-nobody", "a held place is given to whoever comes", _held_to_nobody),
    Mutant("held-for-ever", "what is held is never let go", _held_for_ever),
    Mutant("held-too-short", "what is held is let go too soon", _held_too_short),
    Mutant("held-unread", "a place is held without reading its pod", _held_unread),
    Mutant("never-half-open", "a node that failed is never tried again", _never_half_open),
    Mutant("open-fence", "a write has all the time it wants", _open_fence),
    Mutant("lead-for-ever", "the leader never steps down", _lead_for_ever),
    Mutant("node-time", "staleness goes by the agent's own time", _trust_node_time),
    Mutant("in-use", "destroyed without asking whether it is in use", _use_unchecked),
    Mutant("gi-id", "a GPU instance's id is its identity", _gi_id_as_identity),
    Mutant("all-ours", "what overlaps the journal's is ours", _all_is_ours),
    Mutant("journal-late", "the journal is written after the creation", _journal_afterwards),
    Mutant("old-boot", "the journal never forgets", _old_boot),
    Mutant("two-ties", "two pods are tied at once", _two_at_once),
    Mutant("told-early", "realized is told before it is", _told_too_soon),
    Mutant("no-withdrawal", "ties are not withdrawn before destroying", _no_withdrawal),
)

MASKED = (
    Mutant("give-back", "a place is given back without reading the pod", _give_back_at_once),
    Mutant("no-relist", "a new leader lists nothing anew", _no_relist),
    Mutant("any-version", "an older state replaces a newer one", _any_version),
    Mutant("assume-written", "an unknown write of the plan counts as done", _no_read_after_unknown),
    Mutant("no-claims", "the kubelet's claims are ignored", _claims_ignored),
)
"""Bugs that no history of 120 has shown: another line of defence stands behind each.

Compare-and-swap behind the plans, the driver's own refusal behind the claims, and a Binding that is
outlasted before it is answered behind the reading. They can be planted by name.
"""
