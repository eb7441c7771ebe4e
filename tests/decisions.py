"""A witness that writes every call down at once, as a decision log would, and plays it again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from extender.decision_log.encoding import Encoder
from extender.decision_log.hashing import Names
from extender.decision_log.layout import End, Header
from extender.decision_log.reading import Item, Lists, item
from extender.decision_log.reproduction import Reproduction, replayed
from extender.policy import InForce, PolicyName
from extender.service.seam import Call
from extender.settings import Settings


class Notebook:
    """What one extender is told, in lines; it begins with these *settings* and this *policy*."""

    def __init__(
        self,
        settings: Settings,
        policy: InForce | PolicyName = PolicyName.DEFAULT,
        *,
        leads: bool = True,
        names: Names | None = None,
    ) -> None:
        in_force = InForce.of(policy).proven_on(())
        told = in_force if names is None else names.of_policy(in_force)
        self.header = Header(
            program="test",
            run="run",
            file=1,
            began="2026-01-01T00:00:00Z",
            leads=leads,
            hashed=names is not None,
            policy=told,
            settings=settings,
        )
        self.calls: list[Call] = []
        self.lines: list[bytes] = [msgspec.json.encode(self.header)]
        self._encoder = Encoder(in_force.version, names)

    def heard(self, call: Call) -> None:
        """Write a call down."""
        self.calls.append(call)
        self.lines += [line.rstrip(b"\n") for line in self._encoder.lines(call)]

    def items(self) -> Iterator[Item]:
        """Yield what was written, as a reader finds it."""
        yield from read(self.lines[1:])

    def replayed(self) -> Reproduction:
        """Return what comes of making the calls again."""
        header = msgspec.json.decode(self.lines[0], type=Header)
        return replayed(header, [*self.items(), End(len(self.calls))])


def read(lines: Sequence[bytes]) -> Iterator[Item]:
    """Yield what lines are about, but for names."""
    lists = Lists()
    for line in lines:
        if (found := item(line, lists)) is not None:
            yield found
