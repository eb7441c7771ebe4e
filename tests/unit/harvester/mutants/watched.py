"""A station whose deeds are watched, but for those of people."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from tests.fakes.pcidevices.log import Entry
from tests.unit.harvester.station import Station


class Watched(Station):
    """The station; nobody looks at what was done up to the last block :meth:`by_hand`."""

    _from: int | None = 0
    """The first deed that is looked at; while people are at work, none is."""

    @contextlib.contextmanager
    def by_hand(self) -> Iterator[None]:
        """Let all that was done by the end of the block be well."""
        self._from = None
        yield
        self._from = len(self.cluster.log.entries)

    @property
    def deeds(self) -> Sequence[Entry]:
        """What was done and is not people's."""
        return () if self._from is None else self.cluster.log.entries[self._from :]
