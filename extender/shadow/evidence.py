"""What a shadow's decisions come to beside the live ones: counted, and compared part by part.

A stretch is divided into blocks with as many decisions each; when there are too many, neighbours
are made one. So however long a stretch lasts, a bounded number of blocks is kept, and intervals
are found as those of replays are (:mod:`extender.replay.blocks`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from extender.metrics.series import OTHERS
from extender.replay.blocks import MOST, RESEMBLANCE, in_all, resemblance
from extender.replay.meter import Averages, Meter
from extender.replay.recorded import Place
from extender.shadow.document import Agreement, Evidence, Gpus, Refusals
from extender.simulation.paired import Estimate

FEWEST, DECISIONS = 10, 20
"""Blocks of which there is an interval, and decisions in each, at least: more than in a replay,
which has all there is. A stretch is looked at while it grows, when it is short and often."""

MOST_NAMES = 100
"""Profiles, and tenants, that are told by name: those that were met first."""


class Decided(msgspec.Struct, frozen=True):
    """A VM that both policies have decided about: where it is, or why it was refused."""

    profile: str
    tenant: str
    live: Sequence[Place] | str
    shadow: Sequence[Place] | str


class _Block(msgspec.Struct):
    """A part of the stretch: decisions, refusals, and levels of the GPUs times seconds."""

    decided: int = 0
    live: int = 0
    shadow: int = 0
    seconds: float = 0.0
    live_gpus: NDArray[np.float64] = msgspec.field(default_factory=lambda: np.zeros(3))
    shadow_gpus: NDArray[np.float64] = msgspec.field(default_factory=lambda: np.zeros(3))

    def with_next(self, other: _Block) -> _Block:
        """Return both as one."""
        return _Block(
            self.decided + other.decided,
            self.live + other.live,
            self.shadow + other.shadow,
            self.seconds + other.seconds,
            self.live_gpus + other.live_gpus,
            self.shadow_gpus + other.shadow_gpus,
        )


class Ledger:
    """Counts decisions from a time *began* on; the meters watch the nodes, live and in the shadow.

    Times are in seconds.
    """

    def __init__(self, began: float, live: Meter, shadow: Meter) -> None:
        self._began = self._now = began
        self._live, self._shadow = live, shadow
        self._blocks = [_Block()]
        self._size = DECISIONS
        self._agreement: Counter[str] = Counter()
        self._because: Counter[str] = Counter()
        self._profiles: dict[str, Counter[str]] = {}
        self._tenants: dict[str, Counter[str]] = {}
        self.uncounted = 0

    def add(self, decided: Decided, now: float) -> None:
        """Count a VM that both have decided about by *now*."""
        live, shadow = isinstance(decided.live, str), isinstance(decided.shadow, str)
        self._agreement[_how(decided.live, decided.shadow)] += 1
        if isinstance(decided.shadow, str):
            self._because[decided.shadow] += 1
        for groups, name in ((self._profiles, decided.profile), (self._tenants, decided.tenant)):
            if name not in groups and len(groups) >= MOST_NAMES:
                name = OTHERS
            counts = groups.setdefault(name, Counter())
            counts.update({"asked": 1, "live": int(live), "shadow": int(shadow)})
        block = self._blocks[-1]
        if block.decided >= self._size:
            block = self._next(now)
        block.decided += 1
        block.live += live
        block.shadow += shadow

    def _next(self, now: float) -> _Block:
        """Begin another block; when there are too many, make one of two."""
        self.look(now)
        blocks = self._blocks
        if len(blocks) >= 2 * MOST:
            self._blocks = blocks = [
                first.with_next(second)
                for first, second in zip(blocks[::2], blocks[1::2], strict=True)
            ]
            self._size *= 2
        blocks.append(_Block())
        return blocks[-1]

    def look(self, now: float) -> None:
        """Take in how the GPUs have been up to *now*, and have the meters forget it."""
        if now <= self._now and now != self._began:
            return
        lasted = now - self._now
        block = self._blocks[-1]
        for meter, gpus in ((self._live, block.live_gpus), (self._shadow, block.shadow_gpus)):
            if lasted > 0:
                gpus += lasted * _levels(meter.between((self._now, now))[0])
            meter.now = now
            meter.begin_anew()
        block.seconds += lasted
        self._now = now

    def evidence(
        self, *, policy: str, live_policy: str, now: float, taken: int = 0, waiting: int = 0
    ) -> Evidence:
        """Return what it all comes to by *now*."""
        self.look(now)
        blocks = self._blocks
        if len(blocks) > 1:  # the last is not full yet
            blocks = [*blocks[:-2], blocks[-2].with_next(blocks[-1])]
        seconds = sum(each.seconds for each in blocks)
        refusals, found = _interval([float(each.shadow - each.live) for each in blocks])
        levels = [_more(blocks, at, seconds) for at in range(3)]
        whole = _total(blocks)
        return Evidence(
            policy=policy,
            live_policy=live_policy,
            seconds=now - self._began,
            taken=taken,
            agreement=Agreement(**self._agreement),
            refusals=Refusals(asked=whole.decided, live=whole.live, shadow=whole.shadow),
            refusals_more=refusals,
            predicted_within=None if refusals.ci95 is None else math.sqrt(2.0) * refusals.ci95,
            live=_gpus(whole.live_gpus, seconds),
            shadow=_gpus(whole.shadow_gpus, seconds),
            unusable_more=levels[1][0],
            whole_more=levels[2][0],
            blocks=min(found, *(number for _, number in levels)),
            profiles=_refusals(self._profiles),
            tenants=_refusals(self._tenants),
            because=dict(self._because.most_common()),
            uncounted=self.uncounted,
            waiting=waiting,
        )


def _how(live: Sequence[Place] | str, shadow: Sequence[Place] | str) -> str:
    """Return under which name of :class:`Agreement` two decisions count."""
    if isinstance(live, str):
        return "refused" if isinstance(shadow, str) else "live_refused"
    if isinstance(shadow, str):
        return "shadow_refused"
    asked: Iterable[tuple[str, Callable[[Place], object]]] = (
        ("same", lambda place: place),
        ("gpu", lambda place: (place.node, place.gpu)),
        ("node", lambda place: place.node),
    )
    for name, of in asked:
        if Counter(map(of, live)) == Counter(map(of, shadow)):
            return name
    return "elsewhere"


def _interval(differences: Sequence[float]) -> tuple[Estimate, int]:
    """Return the sum of what blocks differ by, with its interval, and from how many parts it is.

    Blocks are made longer while neighbours resemble each other.
    """
    found = np.array(differences)
    while (resembling := resemblance(found) > RESEMBLANCE) and len(found) // 2 >= FEWEST:
        if len(found) % 2:
            found = np.append(found[:-2], found[-2] + found[-1])
        found = found.reshape(-1, 2).sum(axis=1)
    enough = not resembling and len(found) >= FEWEST
    return in_all(found, independent=enough), len(found)


def _more(blocks: Sequence[_Block], at: int, seconds: float) -> tuple[Estimate, int]:
    """Return by how much a level of the GPUs is higher in the shadow, in the mean."""
    if seconds <= 0:
        return Estimate(0.0), len(blocks)
    return _interval([float(b.shadow_gpus[at] - b.live_gpus[at]) / seconds for b in blocks])


def _total(blocks: Sequence[_Block]) -> _Block:
    found = _Block()
    for each in blocks:
        found = found.with_next(each)
    return found


def _levels(of: Averages) -> NDArray[np.float64]:
    return np.array([of.used, of.unusable, of.whole])


def _gpus(levels: NDArray[np.float64], seconds: float) -> Gpus:
    if seconds <= 0:
        return Gpus()
    used, unusable, whole = (levels / seconds).tolist()
    return Gpus(used=used, unusable=unusable, whole=whole)


def _refusals(groups: Mapping[str, Counter[str]]) -> dict[str, Refusals]:
    return {
        name: Refusals(asked=each["asked"], live=each["live"], shadow=each["shadow"])
        for name, each in sorted(groups.items())
    }
