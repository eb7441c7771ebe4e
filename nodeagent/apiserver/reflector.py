"""Keep a list current: list once, watch from there, and begin anew when that is impossible.

Whoever follows the changes knows, at every moment, all that the API server has told and whether it
is still telling::

    Interrupted ──▶ Interrupted …          from here on the known objects grow old
         │
         ├──▶ Replaced                     they were listed anew: all others are gone
         └──▶ Confirmed                    the watch goes on where it broke off, nothing was missed

Each change but :class:`Interrupted` means that the API server was heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import assert_never

import msgspec

from nodeagent.apiserver.protocol import (
    ApiError,
    ApiServer,
    EventType,
    Gone,
    Kind,
    Page,
    Unavailable,
    WatchEvent,
)


class Object(msgspec.Struct, frozen=True, gc=False):
    """One object, and what tells it from all others, even where the rest cannot be read.

    ``raw`` is its JSON; where it was given to be *read*, what came of that may be kept instead.
    """

    namespace: str
    name: str
    uid: str
    raw: bytes
    read: object = None


class Replaced(msgspec.Struct, frozen=True):
    """These are all the objects there are, as of *resource_version*."""

    objects: tuple[Object, ...]
    resource_version: str


class Upserted(msgspec.Struct, frozen=True):
    """The object was created or changed, or began to match the selectors."""

    object: Object


class Deleted(msgspec.Struct, frozen=True):
    """The object is gone or no longer matches the selectors; this is how it last was."""

    object: Object


class Confirmed(msgspec.Struct, frozen=True):
    """Nothing else happened up to *resource_version*."""

    resource_version: str


class Interrupted(msgspec.Struct, frozen=True):
    """The API server cannot be heard; what is known grows old until the next other change."""

    error: ApiError


Change = Replaced | Upserted | Deleted | Confirmed | Interrupted


class Pace(msgspec.Struct, frozen=True):
    """How long a watch lasts and how soon it is tried again, in seconds.

    Pauses grow from *first_pause* to *longest_pause* and are drawn from the whole range between 0
    and that ("full jitter"), so that a thousand agents do not come back at once. They grow with all
    that has been paused, and so no API server that was away for seconds is let be for half a minute
    because the first draws were short. After *patience*
    watches that were accepted and then silent, the objects are listed anew: an API server restored
    from a backup accepts watches from versions it never had, and has nothing to say to them.
    """

    watch: float = 300.0
    first_pause: float = 0.25
    longest_pause: float = 30.0
    patience: int = 3
    page_size: int = 500


DEFAULT_PACE = Pace()


async def reflect(
    api: ApiServer,
    kind: Kind,
    *,
    namespace: str = "",
    label_selector: str = "",
    field_selector: str = "",
    read: Callable[[Object], Object] | None = None,
    pace: Pace = DEFAULT_PACE,
    chance: Callable[[], float] = random.random,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncGenerator[Change, None]:
    """Yield all that becomes of the selected objects, for ever.

    Close it (``contextlib.aclosing``), for it holds a connection. *chance* draws from [0, 1). With
    *read* the JSON of a list need never be all in memory: it tells, as a page comes, what is to be
    kept of each object.
    """
    selection = _Selection(kind, namespace, label_selector, field_selector)

    def object_of(raw: bytes) -> Object:
        return _object(raw) if read is None else _object(raw, read)

    version = ""  # the last one heard of; "" when the next step is to list
    failures = silent = 0  # since a watch last told something
    paused = 0.0
    while True:
        error: ApiError | None = None
        failures += 1
        try:
            if not version:
                listed = await _listed(api, selection, pace.page_size, object_of)
                version = listed.resource_version
                yield listed
                del listed  # or it would be in memory for as long as the watch lasts
            watch = selection.watch(api, version, timeout=pace.watch * (1 + chance()))
            async with contextlib.aclosing(watch) as events:
                yield await _accepted(events)
                silent += 1
                async for event in events:
                    change = _change(event, object_of)
                    failures = silent = 0
                    paused = 0.0
                    version = event.resource_version
                    yield change
        except ApiError as raised:
            error = raised
            yield Interrupted(error)
        if isinstance(error, Gone) or silent >= pace.patience:
            version, silent = "", 0
        if error or failures:
            pause = _pause(pace, failures, paused, error, chance())
            paused += pause
            await sleep(pause)


class _Selection(msgspec.Struct, frozen=True):
    """What is asked for, in every list and watch alike."""

    kind: Kind
    namespace: str
    label_selector: str
    field_selector: str

    async def page(self, api: ApiServer, limit: int, continue_token: str) -> Page:
        return await api.list(
            self.kind,
            namespace=self.namespace,
            label_selector=self.label_selector,
            field_selector=self.field_selector,
            limit=limit,
            continue_token=continue_token,
        )

    def watch(
        self, api: ApiServer, version: str, *, timeout: float
    ) -> AsyncGenerator[WatchEvent, None]:
        return api.watch(
            self.kind,
            resource_version=version,
            namespace=self.namespace,
            label_selector=self.label_selector,
            field_selector=self.field_selector,
            timeout=timeout,
        )


class _Metadata(msgspec.Struct):
    name: str
    namespace: str = ""
    uid: str = ""


class _Head(msgspec.Struct):
    metadata: _Metadata


_HEAD = msgspec.json.Decoder(_Head)

_ObjectOf = Callable[[bytes], Object]


async def _listed(
    api: ApiServer, selection: _Selection, page_size: int, object_of: _ObjectOf
) -> Replaced:
    page = await selection.page(api, page_size, "")
    objects = [object_of(raw) for raw in page.items]
    while page.continue_token:
        page = await selection.page(api, page_size, page.continue_token)
        objects += (object_of(raw) for raw in page.items)
    return Replaced(tuple(objects), page.resource_version)


async def _accepted(events: AsyncGenerator[WatchEvent, None]) -> Confirmed:
    opening = await anext(events, None)
    if opening is None:
        raise Unavailable(0, "the watch ended before it was accepted")
    return Confirmed(opening.resource_version)


def _change(event: WatchEvent, object_of: _ObjectOf) -> Change:
    match event.type:
        case EventType.ADDED | EventType.MODIFIED:
            return Upserted(object_of(event.object))
        case EventType.DELETED:
            return Deleted(_object(event.object))
        case EventType.BOOKMARK:
            return Confirmed(event.resource_version)
        case _:
            assert_never(event.type)


def _object(raw: bytes, read: Callable[[Object], Object] | None = None) -> Object:
    try:
        metadata = _HEAD.decode(raw).metadata
    except msgspec.MsgspecError as error:
        raise Unavailable(0, f"not an object: {error}") from error
    # Hundreds of thousands of pods are in a few namespaces.
    namespace = sys.intern(metadata.namespace)
    made = Object(namespace, metadata.name, metadata.uid, raw)
    return made if read is None else read(made)


def _pause(pace: Pace, failures: int, paused: float, error: ApiError | None, drawn: float) -> float:
    """Return the next pause; were each drawn as long as can be, they would double."""
    ceiling = min(pace.longest_pause, pace.first_pause * (2 if failures else 1) + paused)
    asked_for = min(error.retry_after, pace.longest_pause) if error else 0.0
    return max(drawn * ceiling, asked_for)
