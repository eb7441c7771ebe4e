"""The judge's part for who leads: only the holder of the Lease writes, and only in its time.

* ``not the leader``: something is done by who does not hold the Lease, or was sent when its own
  time was over, though nobody else had claimed the Lease yet.
* ``unread``: it is done by a leader that has not listed everything since it leads.

A leader has so many seconds from when it sent the last renewal that was written, whether or not it
heard of that. A request that was held up on its way for longer than anybody reckons with arrives
whoever leads by then: it is judged by who led when it was sent. What it then changes is judged like
all else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nodeagent.apiserver.history import Write
from nodeagent.apiserver.protocol import GPU_NODES, PODS, Kind


class Leads:
    """Follows the Lease.

    *writer* tells who sent what is being written, *sent* when, in seconds of *clock*, and *late*
    whether that was held up beyond reckoning. *listed* tells when a process last asked for all
    objects of a kind; *lasts* is for how many seconds a renewal counts.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        writer: Callable[[], str],
        sent: Callable[[], float],
        late: Callable[[], bool],
        listed: Callable[[str, Kind], float],
        lasts: float,
    ) -> None:
        self.holder = ""
        self._clock = clock
        self._writer = writer
        self._sent = sent
        self._late = late
        self._listed = listed
        self._lasts = lasts
        self._since: dict[str, float] = {}
        self._renewed: dict[str, float] = {}
        self._held: list[tuple[float, str]] = []

    def wrote(self, write: Write) -> None:
        """See the Lease written."""
        if write.after is None:
            return
        holder = write.after.value()["spec"]["holderIdentity"]
        if holder != self.holder:
            self.holder = holder
            self._since[holder] = self._clock()
            self._held.append((self._clock(), holder))
        self._renewed[holder] = max(self._sent(), self._renewed.get(holder, 0.0))

    def must_lead(self, what: str) -> Iterator[str]:
        """Yield what keeps the writer from having done *what*."""
        writer, sent = self._writer(), self._sent()
        holder = self._holder_at(sent) if self._late() else self.holder
        if writer != holder:
            yield f"not the leader: {writer} {what}, {holder} leads"
        elif sent >= self._renewed.get(writer, 0.0) + self._lasts:
            yield f"not the leader: {writer} {what} after its own time"

    def must_have_listed(self) -> Iterator[str]:
        """Yield what the writer has not read since it leads, and acts on all the same."""
        writer = self._writer()
        for kind in (GPU_NODES, PODS):
            if self._listed(writer, kind) < self._since.get(writer, float("-inf")):
                yield f"unread: {writer} leads, and has not listed {kind.plural} since"

    def _holder_at(self, time: float) -> str:
        return next((holder for at, holder in reversed(self._held) if at <= time), "")
