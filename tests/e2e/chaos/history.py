"""Everything that was ever written to the cluster, in order, from etcd itself.

A watch of the API server has gaps when that dies; etcd's history has none, since a watch goes on
from any revision that has not been compacted (kube-apiserver compacts what is over 5 minutes old).
The objects must be stored as JSON (``--storage-media-type=application/json``).
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator

import aiohttp
import msgspec

PREFIX = "/registry/"
PREFIX_END = "/registry0"  # the first key after all that begin with the prefix
RETRY_SECONDS = 0.1
SILENCE_SECONDS = 20.0  # etcd reports progress when asked to, every 10 minutes by itself: look anew


class Write(msgspec.Struct, frozen=True):
    """One object as it is since *revision*: its JSON, or None if it was deleted then."""

    revision: int
    key: str
    value: bytes | None


class HistoryLost(Exception):
    """etcd has forgotten a part that was not read: nothing can be judged any more."""


class _KeyValue(msgspec.Struct):
    key: str
    mod_revision: str = "0"
    value: str = ""


class _Event(msgspec.Struct):
    kv: _KeyValue
    type: str = "PUT"


class _Result(msgspec.Struct):
    events: list[_Event] = []
    canceled: bool = False
    cancel_reason: str = ""
    compact_revision: str = "0"


class _Line(msgspec.Struct):
    result: _Result


_LINE = msgspec.json.Decoder(_Line)


async def history(etcd: str, *, start: int = 1) -> AsyncGenerator[Write, None]:
    """Yield every write from revision *start* on, for ever; *etcd* is its URL.

    Raises:
        HistoryLost: a revision that was not read yet has been compacted.
    """
    next_revision = start
    timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        while True:
            try:
                request = {
                    "key": _encoded(PREFIX),
                    "range_end": _encoded(PREFIX_END),
                    "start_revision": str(next_revision),
                }
                asked = {"create_request": request}
                async with http.post(f"{etcd}/v3/watch", json=asked) as answer:
                    async for line in _lines(answer.content):
                        for write in _writes(line):
                            next_revision = write.revision + 1
                            yield write
            except (aiohttp.ClientError, TimeoutError):
                pass  # it is dead or stopped, or had nothing to say: go on from where we were
            await asyncio.sleep(RETRY_SECONDS)


async def _lines(content: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
    begun = b""
    async for chunk in content.iter_any():
        *ends, begun = (begun + chunk).split(b"\n")
        for line in ends:
            if line:
                yield line


def _writes(line: bytes) -> list[Write]:
    result = _LINE.decode(line).result
    if result.canceled or int(result.compact_revision):
        raise HistoryLost(f"{result.cancel_reason}, compacted: {result.compact_revision}")
    return [
        Write(
            int(event.kv.mod_revision),
            base64.b64decode(event.kv.key).decode().removeprefix(PREFIX),
            None if event.type == "DELETE" else base64.b64decode(event.kv.value),
        )
        for event in result.events
    ]


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
