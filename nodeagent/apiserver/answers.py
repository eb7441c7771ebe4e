"""What an API server's bytes mean: pages, watch events, and refusals."""

from __future__ import annotations

from typing import Final

import msgspec

from nodeagent.apiserver.protocol import (
    ApiError,
    Conflict,
    EventType,
    Gone,
    Invalid,
    NotFound,
    Overloaded,
    Page,
    Refused,
    Throttled,
    Unavailable,
    WatchEvent,
)

LONGEST_MESSAGE: Final = 500
"""In characters. A message goes into logs and events; a 422 can quote a whole object."""

_REFUSALS: Final[dict[int, type[ApiError]]] = {
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: Throttled,
}
_REQUEST_TIMEOUT: Final = 408  # a 4xx, but what became of a write is unknown
_TOO_MANY_REQUESTS: Final = 429


class _Wire(msgspec.Struct, rename="camel"):
    """Only what is read here of what is sent."""


class _Details(_Wire):
    retry_after_seconds: float = 0.0


class _Status(_Wire):
    message: str = ""
    code: int = 500
    details: _Details | None = None


class _ListMetadata(_Wire):
    resource_version: str
    continue_: str = msgspec.field(name="continue", default="")


class _List(_Wire):
    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


class _Metadata(_Wire):
    resource_version: str


class _Versioned(_Wire):
    metadata: _Metadata


class _Event(_Wire):
    type: str
    object: msgspec.Raw


_STATUS = msgspec.json.Decoder(_Status)
_LIST = msgspec.json.Decoder(_List)
_VERSIONED = msgspec.json.Decoder(_Versioned)
_EVENT = msgspec.json.Decoder(_Event)


def refusal(status: int, body: bytes, *, retry_after: str = "") -> ApiError:
    """Return the error that an answer other than 2xx means; *retry_after* is its header.

    What refuses one thing with a 429, a disruption budget or a webhook, says so in a Status. Flow
    control, which comes before all that, answers in plain text. (kubernetes,
    apiserver/pkg/server/filters/maxinflight.go and priority-and-fairness.go)
    """
    seconds = float(retry_after) if retry_after.isdecimal() else None
    try:
        said = _STATUS.decode(body)
    except msgspec.MsgspecError:
        if status == _TOO_MANY_REQUESTS:
            return Overloaded(status, "too many requests", retry_after=seconds or 0.0)
        # not from the API server, but from something in between
        said = _Status(message="an answer that is no Status")
    if seconds is None:
        seconds = said.details.retry_after_seconds if said.details else 0.0
    return _meaning(status)(status, brief(said.message), retry_after=seconds)


def page(body: bytes) -> Page:
    """Read one page of a list."""
    try:
        read = _LIST.decode(body)
    except msgspec.MsgspecError as error:
        raise Unavailable(0, brief(f"not a list: {error}")) from error
    items = [bytes(item) for item in read.items or ()]
    return Page(items, read.metadata.resource_version, read.metadata.continue_)


def watch_event(line: bytes) -> WatchEvent:
    """Read one line of a watch.

    Raises:
        ApiError: that the line reports, such as :class:`Gone`.
    """
    try:
        event = _EVENT.decode(line)
        if event.type == "ERROR":
            said = _STATUS.decode(event.object)
            raise refusal(said.code, bytes(event.object))
        version = _VERSIONED.decode(event.object).metadata.resource_version
        return WatchEvent(EventType(event.type), bytes(event.object), version)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Unavailable(0, brief(f"not a watch event: {error}")) from error


def bookmark(version: str) -> WatchEvent:
    """Return the bookmark that a watch from *version* opens with."""
    raw = msgspec.json.encode({"metadata": {"resourceVersion": version}})
    return WatchEvent(EventType.BOOKMARK, raw, version)


def brief(message: str) -> str:
    """Bound the length of what somebody else says."""
    return message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 1] + "…"


def _meaning(status: int) -> type[ApiError]:
    if 400 <= status < 500 and status != _REQUEST_TIMEOUT:
        return _REFUSALS.get(status, Refused)
    return Unavailable
