"""What lies behind the in-memory twin: every kind's history under one version, and the watches.

A write hands its event to each watch that selects it and never waits for one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from nodeagent.apiserver.answers import bookmark
from nodeagent.apiserver.history import History, Key, Revision, Write
from nodeagent.apiserver.protocol import ApiError, Kind, NotFound, Refused, WatchEvent
from nodeagent.apiserver.selectors import Selector

Witness = Callable[[Kind, Write], None]
"""Who sees each write at the moment it is made."""


class Store:
    """The objects of all served kinds; *keep_writes* of each kind's past are kept at least."""

    def __init__(self, keep_writes: int, bookmark_every: float) -> None:
        self.version = 1
        self.witness: Witness | None = None
        self._keep_writes = keep_writes
        self._bookmark_every = bookmark_every
        self._histories: dict[Kind, History] = {}
        # In the order they came: histories repeat.
        self._watches: dict[_Watch, None] = {}
        self._watches_of: dict[Kind, dict[_Watch, None]] = {}

    def serve(self, kind: Kind) -> None:
        """Keep objects of *kind* too."""
        self._histories.setdefault(kind, History(self._keep_writes))
        self._watches_of.setdefault(kind, {})

    def history(self, kind: Kind) -> History:
        """Return the objects of *kind*."""
        if kind not in self._histories:
            raise NotFound(404, f"the server could not find the requested resource: {kind.plural}")
        return self._histories[kind]

    def existing(self, kind: Kind, key: Key) -> Revision:
        """Return the object as it is now."""
        revision = self.history(kind).get(key)
        if revision is None:
            raise NotFound(404, f'{kind.plural} "{key[1]}" not found')
        return revision

    def write(self, kind: Kind, key: Key, value: Mapping[str, Any]) -> bytes:
        """Put *value* in the object's place under the next version, and return its JSON."""
        metadata = {**value["metadata"], "resourceVersion": str(self.version + 1)}
        revision = Revision.of({**value, "metadata": metadata})
        self._record(kind, key, revision)
        return revision.raw

    def remove(self, kind: Kind, key: Key) -> None:
        """Delete the object, which takes a version too."""
        self._record(kind, key, None)

    async def watch(
        self, kind: Kind, version: str, namespace: str, selector: Selector, *, timeout: float
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield a bookmark, then what happened and happens after *version*."""
        if not version.isdecimal() or version == "0":  # "" and "0" mean any; nobody here means that
            raise Refused(400, f"not a resource version to watch from: {version!r}")
        since = int(version)
        deadline = asyncio.get_running_loop().time() + timeout
        watch = _Watch(namespace, selector, deadline, self._bookmark_every)
        for write in self.history(kind).since(since):
            watch.tell(write)
        self._watches[watch] = self._watches_of[kind][watch] = None
        try:
            yield bookmark(str(since))
            while not watch.ended:
                if watch.untold:
                    yield watch.untold.popleft()
                elif watch.bookmark_due():
                    yield bookmark(str(max(since, self.version)))
                elif not watch.expired():
                    await watch.news()
                else:
                    return
            if watch.error is not None:
                raise watch.error
        finally:
            self._watches.pop(watch, None)
            self._watches_of[kind].pop(watch, None)
            watch.close()

    def compact(self) -> None:
        """Forget the past of every kind; running watches do not need it."""
        for history in self._histories.values():
            history.compact(self.version)

    def end_watches(self, error: ApiError | None) -> None:
        """End every watch, whatever it has still to tell."""
        for watch in self._watches:
            watch.end(error)

    def owe_bookmarks(self) -> None:
        """Let every watch have a bookmark as soon as it has told everything."""
        for watch in self._watches:
            watch.owe_bookmark()

    def _record(self, kind: Kind, key: Key, revision: Revision | None) -> None:
        self.version += 1
        write = self.history(kind).record(self.version, key, revision)
        if self.witness:
            self.witness(kind, write)
        for watch in self._watches_of[kind]:
            watch.tell(write)


class _Watch:
    """One watch's end of the line: what it has still to tell, and when it is over."""

    def __init__(self, namespace: str, selector: Selector, deadline: float, every: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time
        self.untold: deque[WatchEvent] = deque()
        self.ended = False
        self.error: ApiError | None = None
        self._namespace = namespace
        self._selector = selector
        self._deadline = deadline
        self._every = every
        self._next_bookmark = min(self._now() + every, deadline)
        self._wake = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None

    def tell(self, write: Write) -> None:
        """Take note of *write*, if it is selected."""
        if event := write.event(self._namespace, self._selector):
            self.untold.append(event)
            self._wake.set()

    def owe_bookmark(self) -> None:
        """Have a bookmark sent next."""
        self._next_bookmark = self._now()
        self._wake.set()

    def bookmark_due(self) -> bool:
        """Tell whether it is time for a bookmark, and reckon from there to the next."""
        if self._now() < self._next_bookmark:
            return False
        following = self._now() + self._every
        self._next_bookmark = following if self.expired() else min(following, self._deadline)
        return True

    def expired(self) -> bool:
        """Tell whether the watch has run for as long as it was asked to."""
        return self._now() >= self._deadline

    def end(self, error: ApiError | None) -> None:
        """Hang up."""
        self.ended, self.error = True, error
        self._wake.set()

    async def news(self) -> None:
        """Wait until there is something to do."""
        if self._alarm is None:  # it goes off too soon at worst, and is set anew
            self._alarm = self._loop.call_at(self._next_bookmark, self._ring)
        await self._wake.wait()
        self._wake.clear()

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _ring(self) -> None:
        self._alarm = None
        self._wake.set()
