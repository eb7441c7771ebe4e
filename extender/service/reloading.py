"""The policy file looked at again and again: a good one is adopted, a bad one changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from extender.metrics import Reload
from extender.policy.file import MalformedPolicy, parsed
from extender.service.events import OwnEvents
from extender.service.knowledge import Knowledge
from extender.service.ports import ClusterUnavailable

log = structlog.get_logger()

LOOK_SECONDS = 2.0
"""The kubelet brings a ConfigMap's change to its mounts within a minute or so; a look is cheap."""

PATIENCE_LOOKS = 2
"""Looks in a row without a file before that is a fault: a mount is changed by a rename or two."""


class Reloading:
    """Keeps *knowledge* to what *read* returns; ``adopted`` and ``refused`` count the changes.

    *source* is what to call the file; *seen* its content when the process began.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        read: Callable[[], bytes],
        *,
        source: str,
        seen: bytes,
        events: OwnEvents | None = None,
    ) -> None:
        self._knowledge = knowledge
        self._read = read
        self._source = source
        self._seen: bytes | None = seen
        self._events = events
        self._missed = 0
        self.adopted = 0
        self.refused = 0

    async def run(self) -> None:
        """Look for changes until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Adopt the policy if it has changed; if it is bad, say so once and go by the old one."""
        try:
            text = await asyncio.to_thread(self._read)
        except OSError as error:
            self._missed += 1
            if self._missed == PATIENCE_LOOKS:
                self._seen = None  # what comes back is looked at anew
                await self._refuse(f"{self._source}: cannot be read: {error.strerror}")
            return
        self._missed = 0
        if text == self._seen:
            return
        self._seen = text
        try:
            file = await asyncio.to_thread(parsed, text, self._source)
        except MalformedPolicy as error:
            await self._refuse(str(error))
            return
        if file.version == self._knowledge.in_force.written:
            log.info("policy_unchanged", policy_version=file.version)
            self._knowledge.work.reloaded(Reload.SAME)
            return
        self._knowledge.adopt(file.in_force)
        self._knowledge.work.reloaded(Reload.ADOPTED)
        self.adopted += 1

    async def _refuse(self, why: str) -> None:
        self.refused += 1
        self._knowledge.work.reloaded(Reload.REFUSED)
        version = self._knowledge.in_force.version
        log.error("policy_refused", errors=why.splitlines(), policy_version=version)
        if self._events is None:
            return
        try:
            await self._events.warn(
                "PolicyRefused", f"The policy was not adopted, {version} stays in force. {why}"
            )
        except ClusterUnavailable as error:
            log.warning("event_not_written", reason="PolicyRefused", error=str(error))
