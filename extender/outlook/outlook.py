"""A policy held against a cluster, beside the one in force there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from extender.outlook.document import Because, Outlook, Tally
from extender.outlook.effects import effects
from extender.outlook.placed import Again, having
from extender.outlook.there import Side, There
from extender.outlook.waiting import kinds, reasons
from extender.policy import InForce

MOST_LOOKS = 200_000
"""Nodes looked at in all for pods that wait, 15 us each (measured): some 3 s of a core.

Kinds of pods beyond that are not judged, the rarest first. The pods that have their place are all
judged: 198,000 on 5,000 nodes took 3 s.
"""

Reasons = Mapping[str, str]
"""By code, what pods are told that are refused; {} if they are not."""


class Judged(NamedTuple):
    """So many pods alike, and how they stand ``then`` and ``now``, if that is known."""

    pods: int
    then: Reasons
    now: Reasons | None

    @property
    def newly(self) -> bool:
        """Whether they are refused, and are not now."""
        return bool(self.then) and not self.now


def outlook(there: There, proposed: InForce, *, most_looks: int = MOST_LOOKS) -> Outlook:
    """Return what a policy would come to.

    Learned weights decide in it where the same ones do now, and nowhere else.
    """
    in_force = there.in_force
    if in_force is None:
        then, now = Side(there, proposed.proven_on(())), None
    else:
        then, now = Side(there, proposed.after(in_force)), Side(there, in_force)
    placed = list(_placed(there, then, now))
    waiting, unjudged = _waiting(there, then, now, most_looks)
    return Outlook(
        tuple(effects(then)),
        tally(placed, compared=now is not None),
        tally(waiting, compared=now is not None, unjudged=unjudged),
        "" if in_force is None else in_force.version,
    )


def _placed(there: There, then: Side, now: Side | None) -> Iterator[Judged]:
    by_then = Again(then)
    by_now = None if now is None else Again(now)
    for each in having(there):
        before = None if by_now is None else by_now.reasons(each)
        yield Judged(1, by_then.reasons(each), before)


def _waiting(
    there: There, then: Side, now: Side | None, most_looks: int
) -> tuple[Sequence[Judged], int]:
    """Return how pods stand that wait, and how many were not judged."""
    found, unjudged, looks = [], 0, 0
    for kind, pods in kinds(there, then).most_common():
        looks += kind.looks(there) * (1 if now is None else 2)
        if looks > most_looks:
            unjudged += pods
            continue
        before = None if now is None else reasons(now, kind)
        found.append(Judged(pods, reasons(then, kind), before))
    return found, unjudged


def tally(judged: Sequence[Judged], *, compared: bool, unjudged: int = 0) -> Tally:
    """Count pods; *compared*: it is known how they stand now."""
    pods, newly = Counter[str](), Counter[str]()
    texts: dict[str, Counter[str]] = {}
    for each in judged:
        for code, text in each.then.items():
            pods[code] += each.pods
            newly[code] += each.pods if each.newly else 0
            texts.setdefault(code, Counter())[text] += each.pods
    because = tuple(
        Because(code, texts[code].most_common(1)[0][0], count, newly[code] if compared else None)
        for code, count in sorted(pods.items(), key=lambda it: (-it[1], it[0]))
    )
    total, refused = sum(each.pods for each in judged), sum(e.pods for e in judged if e.then)
    if not compared:
        return Tally(total, refused, because=because, unjudged=unjudged)
    return Tally(
        total,
        refused,
        refused_now=sum(each.pods for each in judged if each.now),
        newly=sum(each.pods for each in judged if each.newly),
        no_longer=sum(each.pods for each in judged if each.now and not each.then),
        because=because,
        unjudged=unjudged,
    )
