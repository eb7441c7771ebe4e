"""Which policy is in force, beside it, and was before, in a ConfigMap: how these change places.

::

    policy.yaml    in force          ◀─┐ promote: the two change places, the former is kept
    shadow.yaml    beside it          ─┘
    previous.yaml  in force before it     rollback: in force again, the promoted beside it
    kept-….yaml    what gave way to these, by its hash, so that no policy is ever lost

Values in, values out: who writes them tests that nobody has written since they were read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

POLICY, SHADOW, PREVIOUS = "policy.yaml", "shadow.yaml", "previous.yaml"

Contents = Mapping[str, str]
"""The texts of a ConfigMap, by key."""


class CannotSwap(Exception):
    """The policies cannot change places; the text says why, and what to do."""


def promoted(texts: Contents) -> dict[str, str]:
    """Return the texts with the shadow's policy in force, and the one before it beside.

    Once that is done it cannot be done again, but with another policy in the shadow: who repeats a
    command whose answer was lost does not undo it.

    Raises:
        CannotSwap: there is no shadow, or it is the policy that is in force, or was just before.
    """
    policy, shadow = texts.get(POLICY), texts.get(SHADOW)
    if shadow is None:
        raise CannotSwap(f"there is no {SHADOW} to promote: add one, and let it run for a while")
    if policy is None:
        raise CannotSwap(f"there is no {POLICY}, so that nothing says what to go back to")
    if policy == shadow:
        raise CannotSwap(f"{SHADOW} is what is in force already")
    if shadow == texts.get(PREVIOUS):
        raise CannotSwap(
            f"{POLICY} was promoted already, {SHADOW} is what was in force before it: `tangram"
            " policy rollback` returns to that"
        )
    return _losing_nothing(texts, {**texts, POLICY: shadow, SHADOW: policy, PREVIOUS: policy})


def rolled_back(texts: Contents) -> dict[str, str]:
    """Return the texts with the policy in force that was before the last promotion.

    The one that was promoted runs beside it then, unless another candidate does by now: that goes
    on, and what was promoted is kept.

    Raises:
        CannotSwap: nothing was promoted, or it has been rolled back already.
    """
    policy, previous = texts.get(POLICY), texts.get(PREVIOUS)
    if previous is None:
        raise CannotSwap(f"there is no {PREVIOUS}: nothing was promoted that is not rolled back")
    after = {key: text for key, text in texts.items() if key != PREVIOUS} | {POLICY: previous}
    if policy is not None and after.get(SHADOW) in (None, previous):
        after[SHADOW] = policy
    return _losing_nothing(texts, after)


def kept(text: str) -> str:
    """Return the key under which a policy is kept that gives way to another."""
    return f"kept-{hashlib.sha256(text.encode()).hexdigest()[:12]}.yaml"


def _losing_nothing(before: Contents, after: Contents) -> dict[str, str]:
    """Return texts with all policies kept that stood *before* and would not *after*."""
    there = set(after.values())
    stood = (before.get(key) for key in (POLICY, SHADOW, PREVIOUS))
    gone = {text for text in stood if text is not None and text not in there}
    return {**after, **{kept(text): text for text in sorted(gone)}}
