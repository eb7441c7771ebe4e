"""Which policy is in force, beside it, and was before, in a ConfigMap: how these change places.

::

    policy.yaml    in force          ◀─┐ promote: the two change places, the former is kept
    shadow.yaml    beside it          ─┘
    previous.yaml  in force before it     rollback: in force again, the promoted beside it

Values in, values out: who writes them tests that nobody has written since they were read.
"""

from __future__ import annotations

from collections.abc import Mapping

POLICY, SHADOW, PREVIOUS = "policy.yaml", "shadow.yaml", "previous.yaml"

Contents = Mapping[str, str]
"""The texts of a ConfigMap, by key."""


class CannotSwap(Exception):
    """The policies cannot change places; the text says why, and what to do."""


def promoted(texts: Contents) -> dict[str, str]:
    """Return the texts with the shadow's policy in force, and the one before it beside.

    Raises:
        CannotSwap: there is no shadow, or it is the policy that is in force.
    """
    policy, shadow = texts.get(POLICY), texts.get(SHADOW)
    if shadow is None:
        raise CannotSwap(f"there is no {SHADOW} to promote: add one, and let it run for a while")
    if policy is None:
        raise CannotSwap(f"there is no {POLICY}, so that nothing says what to go back to")
    if policy == shadow:
        raise CannotSwap(f"{SHADOW} is what is in force already")
    return {**texts, POLICY: shadow, SHADOW: policy, PREVIOUS: policy}


def rolled_back(texts: Contents) -> dict[str, str]:
    """Return the texts with the policy in force that was before the last promotion.

    The one that was promoted runs beside it then.

    Raises:
        CannotSwap: nothing was promoted, or it has been rolled back already.
    """
    policy, previous = texts.get(POLICY), texts.get(PREVIOUS)
    if previous is None:
        raise CannotSwap(f"there is no {PREVIOUS}: nothing was promoted that is not rolled back")
    rest = {key: text for key, text in texts.items() if key != PREVIOUS}
    return {**rest, POLICY: previous} | ({} if policy is None else {SHADOW: policy})
