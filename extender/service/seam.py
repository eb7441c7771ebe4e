"""The seam between the world and what is decided: all that comes across may be witnessed.

What decisions rest on is changed in few methods, on the event loop, one call at a time. Each is
:func:`told`: whoever witnesses hears of the call from outside, once it is over, with its arguments,
what the clock said meanwhile, and what came of it. What such a method calls in turn is not told: it
follows. So the calls in their order, made again with the clock saying the same, lead to the same
state and to the same decisions (``extender.decision_log``).

Arguments are values that nobody changes any more: a witness may keep them, and look at them later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from itertools import islice
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import msgspec
import structlog

log = structlog.get_logger()

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Call(msgspec.Struct, frozen=True, gc=False):
    """A call that has come across: ``name`` is of the class and its method, with a dot between.

    ``readings`` are what the clock said during the call, in seconds; ``outcome`` is what it
    returned, None if it failed.
    """

    name: str
    args: tuple[object, ...]
    named: Mapping[str, object]
    readings: tuple[float, ...]
    outcome: object


class Witness(Protocol):
    """Who hears of all calls; on the event loop, between two answers, so it must be quick.

    One that raises hears of nothing any more: answers do not depend on it.
    """

    def heard(self, call: Call) -> None:
        """Take a call in."""


class _Several:
    """Witnesses of the same calls; one that raises is dropped, and the others hear on."""

    def __init__(self, each: tuple[Witness, ...]) -> None:
        self._each = each

    def heard(self, call: Call) -> None:
        """Let each hear of a call."""
        for witness in self._each:
            try:
                witness.heard(call)
            except Exception:
                self._each = tuple(each for each in self._each if each is not witness)
                log.exception("witness_dropped", call=call.name)

    def joined_by(self, witness: Witness) -> _Several:
        """Return them and one more."""
        return _Several((*self._each, witness))

    def without(self, witness: Witness) -> Witness | None:
        """Return who is left without one of them."""
        left = tuple(each for each in self._each if each is not witness)
        return _Several(left) if left else None


class Seam:
    """What one extender's deciding state is behind: its *clock*, and who witnesses, if anybody."""

    def __init__(self, clock: Callable[[], float], witness: Witness | None = None) -> None:
        self.elsewhere = clock
        """The clock as other threads are to read it, whose readings decide nothing."""
        self.witness = witness
        self._readings: list[float] | None = None

    def clock(self) -> float:
        """Return the time in seconds, and remember to have said so during a call that is told."""
        now = self.elsewhere()
        if self._readings is not None:
            self._readings.append(now)
        return now

    def join(self, witness: Witness) -> None:
        """Have one more witness hear of all calls from here on."""
        match self.witness:
            case None:
                self.witness = witness
            case _Several() as several:
                self.witness = several.joined_by(witness)
            case other:
                self.witness = _Several((other, witness))

    def leave(self, witness: Witness) -> None:
        """Have a witness hear of nothing any more, if it does."""
        if self.witness is witness:
            self.witness = None
        elif isinstance(self.witness, _Several):
            self.witness = self.witness.without(witness)

    @property
    def quiet(self) -> bool:
        """Whether a change is not to be told: nobody listens, or it follows from what will be."""
        return self.witness is None or self._readings is not None

    def note(self, name: str, *args: object) -> None:
        """Tell of a change that is not a method's call."""
        if not self.quiet:
            self._tell_of(Call(name, args, {}, (), None))

    def tell(
        self,
        name: str,
        method: Callable[..., _R],
        about: object,
        args: tuple[object, ...],
        named: Mapping[str, object],
    ) -> _R:
        """Call a *method*, and tell of that, whatever comes of it."""
        outcome: _R | None = None
        readings: list[float] = []
        self._readings = readings
        try:
            outcome = method(about, *args, **named)
            return outcome
        finally:
            self._readings = None
            self._tell_of(Call(name, args, named, tuple(readings), outcome))

    def _tell_of(self, call: Call) -> None:
        if self.witness is None:
            return
        try:
            self.witness.heard(call)
        except Exception:  # what a witness comes to is no answer's affair
            self.witness = None
            log.exception("witness_dropped", call=call.name)


class Behind(Protocol):
    """What is behind a seam."""

    @property
    def seam(self) -> Seam:
        """The seam."""


TOLD: dict[str, Callable[..., object]] = {}
"""Every method that is told, by the name of its class and its own."""

RESTORING: dict[str, Callable[..., object]] = {}
"""Every method that puts a state of before in place of a fresh one, named likewise."""

_Self = TypeVar("_Self", bound=Behind)


def told(method: Callable[Concatenate[_Self, _P], _R]) -> Callable[Concatenate[_Self, _P], _R]:
    """Have a method's calls from outside told; it must neither await nor be called by a thread."""
    return _told(method, method.__qualname__)


class TellingOf(Protocol):
    """As :func:`told`, by another name."""

    def __call__(
        self, method: Callable[Concatenate[_Self, _P], _R], /
    ) -> Callable[Concatenate[_Self, _P], _R]:
        """Have a method's calls told."""


def told_of(owner: str) -> TellingOf:
    """Return :func:`told` for the parts of a class: their calls are told as those of *owner*."""

    def telling_of(
        method: Callable[Concatenate[_Self, _P], _R], /
    ) -> Callable[Concatenate[_Self, _P], _R]:
        return _told(method, f"{owner}.{method.__name__}")

    return telling_of


def _told(
    method: Callable[Concatenate[_Self, _P], _R], name: str
) -> Callable[Concatenate[_Self, _P], _R]:
    TOLD[name] = method

    @wraps(method)
    def telling(self: _Self, /, *args: _P.args, **named: _P.kwargs) -> _R:
        seam = self.seam
        if seam.quiet:
            return method(self, *args, **named)
        return seam.tell(name, method, self, args, named)

    return telling


def restores(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Have a method be called where a state is restated: it takes what its part has told of it."""
    RESTORING[method.__qualname__] = method
    return method


def restoring(name: str, *args: object, **named: object) -> Call:
    """Return a call that leads to a state of before, whatever the clock says."""
    return Call(name, args, named, (), None)


AT_ONCE = 1_000
"""Names that are told in one call."""


def some(values: Iterable[_R]) -> Iterator[tuple[_R, ...]]:
    """Yield values so many at once."""
    every = iter(values)
    return iter(lambda: tuple(islice(every, AT_ONCE)), ())


def method_of(name: str) -> Callable[..., object]:
    """Return the method that a call is of.

    Raises:
        KeyError: no such call comes across any seam.
    """
    return TOLD[name] if name in TOLD else RESTORING[name]


LONG_AGO = -1e300
"""What is told of a time that never was: JSON has no infinite numbers."""


def told_at(at: float) -> float:
    """Return a time as it can be told."""
    return max(at, LONG_AGO)


def meant(at: float) -> float:
    """Return the time that was told so."""
    return -math.inf if at <= LONG_AGO else at


UNHEARD = Seam(lambda: 0.0)
"""For parts that stand alone: nobody listens, and nobody reads this clock."""
