"""The API server's in-memory twin: what Tangram relies on, as a kube-apiserver does it.

It passes the same exam (``tests/contracts/apiserver``). Left out: namespaces, schemas and
admission, finalizers, managedFields, every verb Tangram does not use. For one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from nodeagent.api import rfc3339
from nodeagent.apiserver import evictions, patches, protocol, semantics
from nodeagent.apiserver.history import Key, Start
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    ApiError,
    Body,
    Conflict,
    Kind,
    NotFound,
    Page,
    PatchType,
    Refused,
    Unavailable,
    WatchEvent,
)
from nodeagent.apiserver.selectors import Selector
from nodeagent.apiserver.store import Store, Witness

KEEP_WRITES = 10_000
BOOKMARK_EVERY_SECONDS = 60.0  # as a kube-apiserver does
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # generated names: no vowels, hence no words


class Call(msgspec.Struct, frozen=True):
    """One call of a verb, before it took effect or, when ``done``, before it is answered.

    One of a ``dry_run`` takes none.
    """

    verb: str
    kind: Kind
    name: str = ""
    subresource: str = ""
    done: bool = False
    dry_run: bool = False


Disturbance = Callable[[Call], Awaitable[None]]
"""What a test does to calls: raise an :class:`ApiError`, wait, or interfere."""


class InMemoryApi:
    """An :class:`~nodeagent.apiserver.protocol.ApiServer` without a server.

    ``disturbance`` is awaited before and after whatever a call does; an error it raises after tells
    the caller nothing about a write that was made. *clock* dates objects; *chance* makes UIDs.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: random.Random | None = None,
        keep_writes: int = KEEP_WRITES,
        bookmark_every: float = BOOKMARK_EVERY_SECONDS,
    ) -> None:
        self.disturbance: Disturbance | None = None
        self._clock = clock
        self._chance = chance or random.Random()
        self._store = Store(keep_writes, bookmark_every)
        self._rules = dict(semantics.RULES)
        for kind in self._rules:
            self._store.serve(kind)
        self.register(GPU_NODES)

    def register(self, kind: Kind, *, status_subresource: bool = True) -> None:
        """Serve *kind* too, as a CustomResourceDefinition makes a kube-apiserver do."""
        self._rules[kind] = semantics.Rules(status_subresource=status_subresource)
        self._store.serve(kind)

    def witnessed_by(self, witness: Witness) -> None:
        """Have *witness* see each write at the moment it is made."""
        self._store.witness = witness

    def compact(self) -> None:
        """Forget the past: older watches, and lists between two pages, are Gone."""
        self._store.compact()

    def drop_watches(self, error: ApiError | None = None) -> None:
        """End every watch, as a server going down does, or with *error*."""
        self._store.end_watches(error)

    def send_bookmarks(self) -> None:
        """Let every watch have a bookmark as soon as it has told all that happened."""
        self._store.owe_bookmarks()

    async def get(
        self, kind: Kind, name: str, *, namespace: str = "", timeout: float = 10.0
    ) -> bytes:
        """Return the object's JSON."""
        async with self._called(timeout, Call("get", kind, name)):
            return self._store.existing(kind, (namespace, name)).raw

    async def list(
        self,
        kind: Kind,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 500,
        continue_token: str = "",
        timeout: float = 30.0,
    ) -> Page:
        """Return one page, as of the version of the first one."""
        async with self._called(timeout, Call("list", kind)):
            selector = self._selector(kind, label_selector, field_selector)
            fresh = Start(self._store.version)
            start = Start.of(continue_token) if continue_token else fresh
            return self._store.history(kind).page(start, namespace, selector, limit=limit)

    async def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        timeout: float = 300.0,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield what changes after *resource_version*, bookmarks included, until *timeout*."""
        async with self._called(timeout, Call("watch", kind)):
            selector = self._selector(kind, label_selector, field_selector)
        events = self._store.watch(kind, resource_version, namespace, selector, timeout=timeout)
        async with contextlib.aclosing(events):
            async for event in events:
                yield event

    async def create(
        self,
        kind: Kind,
        body: Body,
        *,
        namespace: str = "",
        name: str = "",
        subresource: str = "",
        dry_run: bool = False,
        timeout: float = 10.0,
    ) -> bytes:
        """Create an object and return it, or bind or evict the pod *name*."""
        call = Call("create", kind, name, subresource, dry_run=dry_run)
        async with self._called(timeout, call):
            given = _copied(body)
            if subresource:
                return self._posted(kind, (namespace, name), subresource, given, dry_run)
            if kind.namespaced != bool(namespace):
                raise Refused(
                    405, "the server does not allow this method on the requested resource"
                )
            made = semantics.created(
                kind,
                self._rules_of(kind),
                given,
                namespace=namespace,
                suffix="".join(self._chance.choices(_SUFFIX_ALPHABET, k=5)),
                uid=str(uuid.UUID(int=self._chance.getrandbits(128), version=4)),
                now=rfc3339.seconds(self._clock()),
            )
            key = (namespace, made["metadata"]["name"])
            if self._store.history(kind).get(key):
                raise Conflict(409, f'{kind.plural} "{key[1]}" already exists')
            return msgspec.json.encode(made) if dry_run else self._store.write(kind, key, made)

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Body | Sequence[Body],
        *,
        patch_type: PatchType,
        namespace: str = "",
        subresource: str = "",
        timeout: float = 10.0,
    ) -> bytes:
        """Patch an object and return it; a patch that changes nothing writes nothing."""
        async with self._called(timeout, Call("patch", kind, name, subresource)):
            rules, key = self._rules_of(kind), (namespace, name)
            if subresource not in ("", semantics.STATUS) or (
                subresource and not rules.status_subresource
            ):
                raise NotFound(404, f"{kind.plural} have no such subresource: {subresource}")
            revision = self._store.existing(kind, key)
            before, change = revision.value(), _copied(patch)
            match patch_type, change:
                case PatchType.JSON, list():
                    patched = patches.json_patched(before, change)
                case PatchType.MERGE, dict():
                    patched = patches.merge_patched(before, change)
                case _:
                    raise Refused(400, f"not a patch of type {patch_type}")
            after = semantics.updated(rules, before, patched, subresource=subresource)
            return (
                revision.raw if patches.same(before, after) else self._store.write(kind, key, after)
            )

    async def delete(
        self,
        kind: Kind,
        name: str,
        *,
        namespace: str = "",
        uid: str = "",
        resource_version: str = "",
        grace_seconds: int | None = None,
        timeout: float = 10.0,
    ) -> None:
        """Delete an object, or mark a pod that its kubelet has yet to end."""
        async with self._called(timeout, Call("delete", kind, name)):
            key = (namespace, name)
            revision = self._store.existing(kind, key)
            if uid and uid != revision.uid:
                raise Conflict(409, f"precondition failed: UID is {revision.uid}, not {uid}")
            value = revision.value()
            version = value["metadata"]["resourceVersion"]
            if resource_version not in ("", version):
                raise Conflict(409, f"precondition failed: resourceVersion is {version}")
            self._delete(kind, key, value, grace_seconds)

    def _delete(self, kind: Kind, key: Key, value: dict[str, Any], asked: int | None) -> None:
        grace = semantics.grace_period(kind, value, asked)
        if not grace:
            self._store.remove(kind, key)
            return
        deadline = rfc3339.seconds(self._clock() + timedelta(seconds=grace))
        after = semantics.marked(value, grace_seconds=grace, deadline=deadline)
        if not patches.same(self._store.existing(kind, key).value(), after):
            self._store.write(kind, key, after)

    def _posted(
        self, kind: Kind, key: Key, subresource: str, given: dict[str, Any], dry_run: bool
    ) -> bytes:
        pod = self._store.existing(kind, key).value()
        match kind, subresource:
            case (protocol.PODS, semantics.BINDING):
                bound = semantics.bound(pod, key[1], given)
                if not dry_run:
                    self._store.write(kind, key, bound)
            case (protocol.PODS, evictions.EVICTION):
                self._evict(key, pod, given, dry_run)
            case _:
                raise NotFound(404, f"{kind.plural} have no such subresource: {subresource}")
        return msgspec.json.encode({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _evict(
        self, key: Key, pod: dict[str, Any], eviction: dict[str, Any], dry_run: bool
    ) -> None:
        history = self._store.history(POD_DISRUPTION_BUDGETS)
        page = history.page(Start(self._store.version), key[0], Selector(), limit=0)
        budgets = [msgspec.json.decode(raw) for raw in page.items]
        lessened = evictions.admitted(pod, key[1], eviction, budgets)
        if dry_run:
            return
        if lessened is not None:
            name = lessened["metadata"]["name"]
            self._store.write(POD_DISRUPTION_BUDGETS, (key[0], name), lessened)
        if "deletionTimestamp" not in pod["metadata"]:
            self._store.write(PODS, key, evictions.marked(pod))
        grace = (eviction.get("deleteOptions") or {}).get("gracePeriodSeconds")
        self._delete(PODS, key, self._store.existing(PODS, key).value(), grace)

    def _selector(self, kind: Kind, label_selector: str, field_selector: str) -> Selector:
        known = self._rules_of(kind).selectable
        return Selector.parse(label_selector, field_selector, known=known)

    def _rules_of(self, kind: Kind) -> semantics.Rules:
        self._store.history(kind)  # raises if the kind is not served
        return self._rules[kind]

    def _called(self, timeout: float, call: Call) -> contextlib.AbstractAsyncContextManager[None]:
        disturbance = self.disturbance
        return _TURN if disturbance is None else self._disturbed(timeout, call, disturbance)

    @contextlib.asynccontextmanager
    async def _disturbed(
        self, timeout: float, call: Call, disturbance: Disturbance
    ) -> AsyncIterator[None]:
        await _TURN.__aenter__()
        try:
            async with asyncio.timeout(timeout):
                await disturbance(call)
                yield
                if self.disturbance:
                    await self.disturbance(msgspec.structs.replace(call, done=True))
        except TimeoutError as error:
            raise Unavailable(0, f"no answer within {timeout:g} s") from error


class _Turn(contextlib.AbstractAsyncContextManager[None]):
    """No answer comes at once: others have their turn first."""

    async def __aenter__(self) -> None:
        await asyncio.sleep(0)

    async def __aexit__(self, *ended: object) -> None:
        pass


_TURN = _Turn()


def _copied(body: Any) -> Any:
    """Take *body* out of its owner's reach."""
    return msgspec.json.decode(msgspec.json.encode(body))
