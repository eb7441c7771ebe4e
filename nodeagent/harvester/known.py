"""Objects of one kind as they are known: from a list, from a watch, and from replies to writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

import msgspec
import structlog

from nodeagent.api.gpunode import version_number
from nodeagent.apiserver.reflector import Object

log = structlog.get_logger()

T = TypeVar("T")


class Known(Generic[T]):
    """Objects by namespace and name, as *read* reads them; only those *worth* it are kept.

    One that cannot be read any more stays as it was; each such state of it is logged once. An older
    state never takes a newer one's place, unless it is listed.
    """

    def __init__(
        self, read: Callable[[bytes], T], worth: Callable[[T], bool] = lambda _: True
    ) -> None:
        self.listed = False
        self._read = read
        self._worth = worth
        self._found: dict[str, T] = {}
        self._versions: dict[str, int] = {}
        self._unreadable: dict[str, int] = {}

    @property
    def found(self) -> Mapping[str, T]:
        """Those there are."""
        return self._found

    def replace(self, every: Iterable[Object]) -> None:
        """Take in that these are all there are."""
        before, self._found, self._versions = self._found, {}, {}
        complaints, self._unreadable = self._unreadable, {}
        for each in every:
            if (complaint := complaints.get(_key(each))) is not None:
                self._unreadable[_key(each)] = complaint
            if not self._put(_key(each), each.raw) and _key(each) in before:
                self._found[_key(each)] = before[_key(each)]
        self.listed = True

    def put(self, each: Object) -> bool:
        """Take in a state of an object, and tell whether that changes anything."""
        before = self._found.get(_key(each))
        self._put(_key(each), each.raw)
        return before != self._found.get(_key(each))

    def written(self, name: str, raw: bytes) -> None:
        """Take in what a write of ours came to, sooner than the watch tells of it."""
        self._put(f"/{name}", raw)

    def drop(self, each: Object) -> bool:
        """Take in that an object is gone, and tell whether that changes anything."""
        self._versions.pop(_key(each), None)
        self._unreadable.pop(_key(each), None)
        return self._found.pop(_key(each), None) is not None

    def _put(self, key: str, raw: bytes) -> bool:
        """Return whether the object could be read."""
        version = -1
        try:
            version = version_number(_HEAD.decode(raw).metadata.version)
            read = self._read(raw)
        except (msgspec.MsgspecError, RecursionError) as error:  # by brackets in brackets in …
            if self._unreadable.get(key) != version:
                self._unreadable[key] = version
                log.error("object_unreadable", object=key, error=str(error))
            return False
        self._unreadable.pop(key, None)
        if version >= self._versions.get(key, -1):
            self._versions[key] = version
            if self._worth(read):
                self._found[key] = read
            else:
                self._found.pop(key, None)
        return True


class _Metadata(msgspec.Struct):
    version: str = msgspec.field(default="", name="resourceVersion")


class _Head(msgspec.Struct):
    metadata: _Metadata


_HEAD = msgspec.json.Decoder(_Head)


def _key(each: Object) -> str:
    return f"{each.namespace}/{each.name}"
