"""What there is to tell of a record under several policies: as it is printed, drawn, and as JSON.

Times are seconds since the record begins, lengths of time seconds, unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from extender.replay.meter import Averages
from extender.replay.recorded import Place
from extender.simulation.paired import Estimate


class _Said(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """How every value of this module looks as JSON."""


class About(_Said, frozen=True):
    """The record: how much is in it. ``instances`` are those that were there at its beginning.

    ``unknown_stays`` are pods that never were placed in it, so that nobody knows how long they
    would have stayed; ``unequal_gangs`` are those whose members tell different sizes.
    """

    begins: str
    seconds: float
    policy: str
    version: str
    nodes: int
    gpus: int
    residents: int
    arrivals: int
    unknown_stays: int
    gaps: int
    unequal_gangs: int = 0


class Tally(_Said, frozen=True):
    """Pods, in counts. Of those ``asked`` about, so many were ``refused`` when they came.

    Of these, ``never`` had a place before they gave up or the record ended; ``waited_hours`` is
    what all of them waited together.
    """

    asked: int
    refused: int
    never: int
    waited_hours: float


class Waits(_Said, frozen=True):
    """How long pods waited for their places that did not get them at once.

    So far, for those that had none at the end.
    """

    median: float
    p99: float
    longest: float


class Stretch(_Said, frozen=True):
    """A part of the record's time: how the GPUs were in it, and how pods fared that came in it.

    ``waiting`` is how many waited for a place, in the mean over the stretch.
    """

    since: float
    gpus: Averages
    asked: int
    refused: int
    waiting: float


class PolicyOutcome(_Said, frozen=True):
    """What a policy makes of the record. ``because`` counts the refused by reason (a code)."""

    name: str
    version: str
    all: Tally
    because: Mapping[str, int]
    waits: Waits | None
    gpus: Averages
    profiles: Mapping[str, Tally]
    tenants: Mapping[str, Tally]
    over_time: tuple[Stretch, ...]


class Kind(StrEnum):
    """How a pod fares otherwise than before, the worst first."""

    NEVER_NOW = "never placed now"
    REFUSED_NOW = "refused now"
    LATER = "placed later"
    PLACED_NOW = "placed now, never before"
    AT_ONCE = "placed at once now"
    SOONER = "placed sooner"
    ELSEWHERE = "placed elsewhere"


class How(_Said, frozen=True, omit_defaults=True):
    """What becomes of a pod: why it is ``refused`` when it comes, when it is placed, and where."""

    refused: str = ""
    placed_at: float | None = None
    places: tuple[Place, ...] = ()


class Difference(_Said, frozen=True):
    """A pod that fares otherwise."""

    kind: Kind
    uid: str
    namespace: str
    name: str
    wanted: tuple[str, ...]
    at: float
    before: How
    after: How


class Answer(StrEnum):
    """Whether the policy should be changed, as far as the record tells."""

    YES = "yes"
    NO = "no"
    NO_DIFFERENCE = "no difference"
    CANNOT_BE_TOLD = "cannot be told"


class Verdict(_Said, frozen=True):
    """An ``answer`` in a sentence, with its ``reasons`` and what speaks for ``caution``."""

    answer: Answer
    sentence: str
    reasons: tuple[str, ...]
    cautions: tuple[str, ...]


class Comparison(_Said, frozen=True):
    """A policy beside the first one, on the same pods.

    Estimates are differences, this policy minus the first: of pods ``refused`` when they came, and
    of ``waited_hours``, in all; of ``unusable`` slices and ``whole`` GPUs, means over time. Their
    intervals are from at least so many ``stretches`` of the record, with as many arrivals each,
    pair by pair; there is none where these resemble each other, are too few, or all alike.
    ``p_refused`` and ``p_waited`` are the chances of such a difference where there is none,
    adjusted for how many of them were asked for (Holm). ``alike`` are pods that fare as before.
    """

    policy: str
    refused: Estimate
    waited_hours: Estimate
    unusable: Estimate
    whole: Estimate
    p_refused: float | None
    p_waited: float | None
    stretches: int
    alike: int
    kinds: Mapping[Kind, int]
    differences: tuple[Difference, ...]
    verdict: Verdict


class Fidelity(_Said, frozen=True):
    """How the first policy, played, compares with what was recorded, pod by pod.

    Of ``decisions`` so many are the ``same`` at first: refused in both, or placed at the very same
    places; others ``elsewhere``, ``refused_only`` in the replay, or ``placed_only`` in it.
    """

    decisions: int
    same: int
    elsewhere: int
    refused_only: int
    placed_only: int


class Report(_Said, frozen=True):
    """All of it. The first of the ``policies`` is the recorded one, with which others compare."""

    record: About
    fidelity: Fidelity
    policies: tuple[PolicyOutcome, ...]
    comparisons: tuple[Comparison, ...]
