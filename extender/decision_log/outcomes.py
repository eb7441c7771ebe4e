"""What was decided, told shortly: thousands of names come to a count and a digest.

Equal outcomes are told alike, whichever process tells them; of different ones the digest, or what
is told outright, differs.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, starmap
from typing import Any

from extender.packing.choose import Choice
from extender.service.hooks import Judged
from extender.verbs.prioritize import Ranked
from extender.wire import MetaVictims

FEW = 4
"""Nodes that are named outright."""

DIGEST_BYTES = 8


def outcome(call: str, found: Any) -> dict[str, Any]:
    """Return what a call that decides has found, as builtins; "failed" if it raised."""
    match found:
        case Judged():
            return _judged(found)
        case Ranked():
            return _ranked(found)
        case Choice():
            return _choice(found)
        case str():
            return {"refused": found}
        case None:
            return {"failed": True}
        case _:
            return _vetted(found)


def _judged(found: Judged) -> dict[str, Any]:
    if found.error:
        return {"error": found.error}
    told: dict[str, Any] = {
        "passed": len(found.passed),
        "refused": dict(Counter(found.refused.values())),
        "codes": sorted(found.codes),
        "digest": _digest(chain(found.passed, ("",), found.refused, found.refused.values())),
    }
    if len(found.passed) <= FEW:
        told["on"] = list(found.passed)
    return told


def _ranked(found: Ranked) -> dict[str, Any]:
    scored = [(name, score) for name, score in found.scores.items() if score]
    told: dict[str, Any] = {
        "nodes": len(found.scores),
        "digest": _digest(chain.from_iterable((name, str(score)) for name, score in scored)),
        "winner": found.winner or max(scored, key=lambda each: each[1], default=("", 0))[0],
    }
    if found.choice is not None:
        told |= {**_choice(found.choice), "costs": [list(each) for each in found.best]}
    return told


def _choice(found: Choice) -> dict[str, Any]:
    return {
        "cost": found.cost,
        "tie": found.tie,
        "placed": [
            [each.uuid, each.profile_id, each.placement.start, each.placement.size]
            for each in found.placed
        ],
    }


def _vetted(found: Mapping[str, MetaVictims]) -> dict[str, Any]:
    return {
        "nodes": len(found),
        "digest": _digest(chain.from_iterable(starmap(_victims, found.items()))),
        "victims": [
            {"node": name, "uids": [pod.uid for pod in found[name].pods or ()]}
            for name in sorted(found)[:FEW]
        ],
    }


def _victims(node: str, of: MetaVictims) -> Iterator[str]:
    """Yield all that is told of a node; the count tells which of the UIDs are whose."""
    uids = [pod.uid for pod in of.pods or ()]
    yield f"{node} {len(uids)} {of.num_pdb_violations}"
    yield from uids


def _digest(texts: Iterable[str]) -> str:
    joined = "\n".join(texts).encode()  # hashing a long one lets go of the interpreter's lock
    return hashlib.blake2b(joined, digest_size=DIGEST_BYTES).hexdigest()
