"""What there is to tell of a policy, as values."""

from __future__ import annotations

import msgspec


class _Said(msgspec.Struct, frozen=True, rename="camel"):
    """How every value of this module looks as JSON."""


class Effect(_Said, frozen=True):
    """What one rule comes to, in words; ``warning``: it is likely a mistake, or is broken.

    ``kind`` and ``name`` are those of the rule.
    """

    kind: str
    name: str
    text: str
    warning: bool = False


class Because(_Said, frozen=True):
    """A reason, by its ``code``, for which so many pods are refused; ``newly``: not before.

    ``text`` is what most of these pods would be told; ``newly`` is None where what is in force is
    not known.
    """

    code: str
    text: str
    pods: int
    newly: int | None = None


class Tally(_Said, frozen=True):
    """How pods stand to a policy, in counts: each by itself, as all others are now.

    Of ``pods`` so many are ``refused`` by it, and ``refused_now`` by the one in force; ``newly`` by
    it and not by that one, ``no_longer`` the other way round; None where what is in force is not
    known. A pod that nodes refuse for several reasons counts for each of them. ``unjudged`` are
    more, for there were too many kinds of pods.
    """

    pods: int
    refused: int
    refused_now: int | None = None
    newly: int | None = None
    no_longer: int | None = None
    because: tuple[Because, ...] = ()
    unjudged: int = 0


class Outlook(_Said, frozen=True):
    """What a policy would come to.

    ``placed`` are the pods that have their place, which they keep: refused are those that would not
    be given it again, as after a restart. ``waiting`` are those that have none: refused are those
    that fit on no node. ``version`` is that of the policy in force, "" where it is not known.
    """

    effects: tuple[Effect, ...]
    placed: Tally
    waiting: Tally
    version: str = ""

    @property
    def warns(self) -> bool:
        """Whether anything is likely a mistake, or broken, or refused that was not before."""
        newly = self.placed.refused if self.placed.newly is None else self.placed.newly
        return any(each.warning for each in self.effects) or bool(newly or self.waiting.newly)
