"""What Tangram has written to Harvester's objects, as the API server's audit log has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from nodeagent.api import keys
from tests.e2e.controlplane.identities import service_account
from tests.fakes.pcidevices.log import AGENT, WRITE, Entry
from tests.fakes.pcidevices.names import GROUP

AGENTS_ACCOUNT: Final = service_account(keys.SYSTEM_NAMESPACE, "tangram-agent")

UNANSWERED: Final = 500

_OF_HARVESTERS = f'"apiGroup":"{GROUP}"'.encode()
_VERBS = frozenset({"create", "update", "patch", "delete", "deletecollection"})


class _User(msgspec.Struct, frozen=True):
    username: str


class _About(msgspec.Struct, frozen=True):
    resource: str
    name: str = ""
    subresource: str = ""


class _Answer(msgspec.Struct, frozen=True):
    code: int = UNANSWERED


class _Event(msgspec.Struct, frozen=True, rename="camel"):
    """An ``audit.k8s.io/v1`` Event, as far as it is read; a patch is its ``request_object``."""

    verb: str
    user: _User
    object_ref: _About
    request_received_timestamp: datetime
    response_status: _Answer = _Answer()
    request_object: msgspec.Raw = msgspec.Raw(b"{}")


class Writes:
    """Each write of an object of Harvester's that *audit* tells of and that was accepted, once.

    *clock* is what the API server dates by. A write is dated by when it was asked for: whatever
    came of it, came later, even if the log was read first.
    """

    def __init__(self, audit: Path, clock: Callable[[], float] = time.time) -> None:
        self._audit = audit
        self._clock = clock
        self._read = 0

    def fresh(self, at: float) -> Iterator[Entry]:
        """Yield those since the last time; *at* is now."""
        if not self._audit.exists():
            return  # nobody has asked for anything yet
        with self._audit.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole, newline, _ = text.rpartition(b"\n")  # a line may be being written
        self._read += len(whole) + len(newline)
        for line in whole.splitlines():
            if _OF_HARVESTERS not in line:
                continue
            event = msgspec.json.decode(line, type=_Event)
            if event.verb in _VERBS and event.response_status.code < 300:
                yield self._entry(event, at)

    def _entry(self, event: _Event, at: float) -> Entry:
        about, user = event.object_ref, event.user.username
        verb = f"{event.verb} {about.subresource}".strip()
        return Entry(
            at - (self._clock() - event.request_received_timestamp.timestamp()),
            AGENT if user == AGENTS_ACCOUNT else user,
            WRITE,
            f"{about.resource} {about.name}",
            f"{verb} {bytes(event.request_object).decode()}",
        )
