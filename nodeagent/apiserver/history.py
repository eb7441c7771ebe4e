"""All objects of one kind, as they are and as they lately were.

The latest writes are kept, so that a list can be continued as of an earlier version and a watch can
start from one; what is older is compacted away, as etcd does.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from functools import cached_property
from itertools import islice
from operator import attrgetter
from typing import Any, Self

import msgspec

from nodeagent.apiserver.protocol import EventType, Gone, Page, Refused, WatchEvent
from nodeagent.apiserver.selectors import Selector

Key = tuple[str, str]
"""Namespace ("" for a cluster-scoped kind) and name."""


class Revision(msgspec.Struct, frozen=True):
    """An object as one write left it, in a form that no reader can change for others."""

    raw: bytes
    uid: str
    labels: Mapping[str, str]
    fields: Mapping[str, str]

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Revision:
        """Freeze *value*, together with all it can be selected by."""
        metadata = value["metadata"]
        spec, status = value.get("spec") or {}, value.get("status") or {}
        fields = {
            "metadata.name": metadata["name"],
            "metadata.namespace": metadata.get("namespace", ""),
            "spec.nodeName": spec.get("nodeName", ""),
            "status.phase": status.get("phase", ""),
        }
        raw = msgspec.json.encode(value)
        return cls(raw, metadata["uid"], metadata.get("labels") or {}, fields)

    def value(self) -> dict[str, Any]:
        """Return the object, to do with as one likes."""
        value: dict[str, Any] = msgspec.json.decode(self.raw)
        return value


class Start(msgspec.Struct, frozen=True):
    """Where a page of a list starts: as of *version*, behind the key *after*."""

    version: int
    after: Key | None = None

    @classmethod
    def of(cls, token: str) -> Self:
        """Read a continue token."""
        try:
            return msgspec.json.decode(token, type=cls)
        except msgspec.MsgspecError as error:
            raise Refused(400, f"continue key is not valid: {error}") from error

    def token(self) -> str:
        """Write a continue token."""
        return msgspec.json.encode(self).decode()


class Write(msgspec.Struct, frozen=True, dict=True):
    """One write: the object before (None if created) and after (None if deleted)."""

    version: int
    key: Key
    before: Revision | None
    after: Revision | None

    def event(self, namespace: str, selector: Selector) -> WatchEvent | None:
        """Return what a watch with *selector* sees of it; leaving the selection is a deletion."""
        if namespace and self.key[0] != namespace:
            return None
        before, after = self.before, self.after
        if selector.labels or selector.fields:
            after = _selected(after, selector)
            before = after and before if self._selected_alike else _selected(before, selector)
        if after is not None:
            type_ = EventType.ADDED if before is None else EventType.MODIFIED
            return WatchEvent(type_, after.raw, str(self.version))
        if before is None:
            return None
        return WatchEvent(EventType.DELETED, self._last, str(self.version))

    @cached_property
    def _selected_alike(self) -> bool:
        """Whether no selector tells before from after, as of nearly all writes."""
        one, other = self.before, self.after
        if one is None or other is None:
            return one is other
        return one.labels == other.labels and one.fields == other.fields

    @cached_property
    def _last(self) -> bytes:
        """The object as it was before, under this version: what watches tell of its deletion."""
        assert self.before is not None
        last = self.before.value()
        last["metadata"]["resourceVersion"] = str(self.version)
        return msgspec.json.encode(last)


class History:
    """The objects of one kind and between *keep* and twice as many of the latest writes."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._objects: dict[Key, Revision] = {}
        self._order: list[Key] | None = []
        self._writes: list[Write] = []
        self._compacted = 0

    def get(self, key: Key) -> Revision | None:
        """Return the object as it is now."""
        return self._objects.get(key)

    def record(self, version: int, key: Key, after: Revision | None) -> Write:
        """Put *after* in the object's place; None deletes it."""
        write = Write(version, key, self._objects.get(key), after)
        self._writes.append(write)
        _put(self._objects, key, after)
        if write.before is None or after is None:
            self._order = None
        if len(self._writes) > 2 * self._keep:
            self.compact(self._writes[-self._keep - 1].version)
        return write

    def compact(self, version: int) -> None:
        """Forget how the objects were before *version*."""
        self._compacted = max(self._compacted, version)
        del self._writes[: self._position(version)]

    def since(self, version: int) -> list[Write]:
        """Return every write after *version*, oldest first.

        Raises:
            Gone: some of them are forgotten.
        """
        if version < self._compacted:
            raise Gone(410, f"too old resource version: {version} ({self._compacted})")
        return self._writes[self._position(version) :]

    def page(self, start: Start, namespace: str, selector: Selector, *, limit: int) -> Page:
        """Return up to *limit* objects from *start* on; 0 for all of them.

        Raises:
            Gone: nobody knows any more how the objects were then.
        """
        page: list[bytes] = []
        last = start.after
        objects, order = self._at(start.version)
        for key in islice(order, 0 if last is None else bisect_right(order, last), None):
            revision = objects[key]
            if namespace and key[0] != namespace:
                continue
            if limit and len(page) == limit:  # as etcd does: what follows may not be selected
                return Page(page, str(start.version), Start(start.version, last).token())
            if _selected(revision, selector):
                page.append(revision.raw)
            last = key
        return Page(page, str(start.version))

    def _at(self, version: int) -> tuple[Mapping[Key, Revision], list[Key]]:
        """Return the objects as they were then, and their keys in order."""
        undone = self.since(version)
        if not undone:
            if self._order is None:
                self._order = sorted(self._objects)
            return self._objects, self._order
        objects = dict(self._objects)
        for write in reversed(undone):
            _put(objects, write.key, write.before)
        return objects, sorted(objects)

    def _position(self, version: int) -> int:
        """Where in the writes those after *version* begin."""
        return bisect_right(self._writes, version, key=attrgetter("version"))


def _selected(revision: Revision | None, selector: Selector) -> Revision | None:
    if revision is None or not selector.matches(revision.labels, revision.fields):
        return None
    return revision


def _put(objects: dict[Key, Revision], key: Key, revision: Revision | None) -> None:
    if revision is None:
        objects.pop(key, None)
    else:
        objects[key] = revision
