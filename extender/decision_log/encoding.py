"""From calls to lines."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from extender.decision_log import hashing
from extender.decision_log.layout import DECISIONS, VETTED, Entry, Names, Restated, Restating
from extender.decision_log.outcomes import outcome
from extender.decision_log.promises import Changes
from extender.policy import InForce
from extender.service.knowledge import PROMISES
from extender.service.seam import Call, method_of

LISTS = 16
"""Lists of names that are referred to, of those met last: kube-scheduler sends the same to many."""

SHORT = 8
"""Names that are written where they are."""


class Encoder:
    """Writes the calls of one run; *policy* is the version of what is gone by at its beginning.

    *hidden* hides names.
    """

    def __init__(self, policy: str, hidden: hashing.Names | None = None) -> None:
        self.policy = policy
        self.calls = 0
        self._hidden = hidden
        self._encoder = msgspec.json.Encoder(enc_hook=_listed)
        self.begin_file()

    def begin_file(self) -> None:
        """Refer to nothing that another file has."""
        self._lists: OrderedDict[tuple[str, ...], int] = OrderedDict()
        self._numbers = 0

    def lines(self, call: Call) -> Iterator[bytes]:
        """Yield the lines for a call, the call's own last."""
        self.skip(call)
        given = self._arguments(call)
        if "names" in given:
            names = tuple(given["names"])
            if len(names) > SHORT:
                number = self._lists.get(names)
                if number is None:
                    number = self._listed_anew(names)
                    yield self._line(Names(number, names))
                self._lists.move_to_end(names)
                given["names"] = {"list": number}
        found = call.outcome
        if self._hidden is not None and call.name == VETTED and isinstance(found, Mapping):
            found = self._hidden.of_victims(found)
        gave = outcome(call.name, found) if call.name in DECISIONS else None
        yield self._line(
            Entry(
                n=self.calls,
                at=call.readings,
                call=call.name,
                given=self._shown(call.name, given),
                gave=gave,
                policy="" if gave is None else self.policy,
            )
        )

    def restating(self, calls: Iterable[Call]) -> Iterator[bytes]:
        """Yield the lines for the calls that lead to the state as it is after the last call."""
        n, made = self.calls, 0
        for call in calls:
            made += 1
            given = self._shown(call.name, self._arguments(call))
            yield self._line(Restating(n, call.name, given))
        yield self._line(Restated(n, made))

    def _arguments(self, call: Call) -> dict[str, Any]:
        """Return what a call was made with, by the names of the method's parameters."""
        if call.name == PROMISES:
            return {"changes": Changes.between(*call.args)}  # type: ignore[arg-type]
        return {**dict(zip(_parameters(call.name), call.args, strict=False)), **call.named}

    def _shown(self, call: str, given: dict[str, Any]) -> dict[str, Any]:
        """Return a call's arguments as they are written: with names hidden, if they are to be."""
        if self._hidden is None:
            return given
        return self._hidden.within(call, _builtins(given, self._hidden))

    def skip(self, call: Call) -> None:
        """Count a call, written or not."""
        self.calls += 1
        if isinstance(call.outcome, InForce):
            self.policy = call.outcome.version

    def _listed_anew(self, names: tuple[str, ...]) -> int:
        self._numbers += 1
        self._lists[names] = self._numbers
        if len(self._lists) > LISTS:
            self._lists.popitem(last=False)
        return self._numbers

    def _line(self, line: object) -> bytes:
        return self._encoder.encode(line) + b"\n"


@cache
def _parameters(name: str) -> Sequence[str]:
    """Return the names of a told method's parameters, without ``self``."""
    return tuple(inspect.signature(method_of(name)).parameters)[1:]


def _builtins(given: Mapping[str, Any], hidden: hashing.Names) -> dict[str, Any]:
    """Return arguments as builtins, for policies those that select by hidden names."""
    return {
        name: msgspec.to_builtins(
            hidden.of_policy(value) if isinstance(value, InForce) else value,
            enc_hook=_listed,
            str_keys=True,
        )
        for name, value in given.items()
    }


def _listed(value: Any) -> Any:
    """Return what JSON knows for what it does not, such as the keys of a mapping."""
    if isinstance(value, Collection):
        return list(value)
    raise NotImplementedError(f"a decision log has no {type(value).__name__}")
