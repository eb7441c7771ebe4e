"""What is to be made possible, as people state it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

MOST_OF_A_KIND = 1000
"""Placements, GPUs, nodes or moves that may be asked for."""

MOST_NAMES = 256
"""Pods, nodes and GPUs that may be named in all."""

LONGEST_NAME = 253  # of anything in Kubernetes

_COUNTED = re.compile(r"([0-9]{1,4})x(.+)")


class Misstated(ValueError):
    """A goal cannot be read; the message says which, and how it is written."""


class Asked(msgspec.Struct, frozen=True):
    """Goals that are to hold together.

    ``admit`` are pods, or their VMs, by namespace and name; ``headroom`` are (profile, how many of
    it are to fit at once); ``drain`` names nodes, ``drain_gpus`` GPUs by UUID. ``most_moves`` is
    None for as many as it takes. ``as_far``: where not all can leave what is to be drained, those
    do who can; there is no goal besides then.
    """

    admit: tuple[tuple[str, str], ...] = ()
    headroom: tuple[tuple[str, int], ...] = ()
    empty_gpus: int = 0
    empty_nodes: int = 0
    drain: tuple[str, ...] = ()
    drain_gpus: tuple[str, ...] = ()
    most_moves: int | None = None
    as_far: bool = False

    @property
    def nothing(self) -> bool:
        """Whether there is no goal at all."""
        named = (*self.admit, *self.headroom, *self.drain, *self.drain_gpus)
        return not named and not self.empty_gpus and not self.empty_nodes

    @property
    def drains_alone(self) -> bool:
        """Whether there is no goal but to drain."""
        drains = bool(self.drain or self.drain_gpus)
        return drains and msgspec.structs.replace(self, drain=(), drain_gpus=()).nothing

    @property
    def admits_alone(self) -> bool:
        """Whether there is no goal but to admit pods."""
        return bool(self.admit) and msgspec.structs.replace(self, admit=()).nothing

    def query(self) -> list[tuple[str, str]]:
        """Return it as the parameters of a query."""
        return [
            *(("admit", f"{namespace}/{name}") for namespace, name in self.admit),
            *(("headroom", f"{count}x{profile}") for profile, count in self.headroom),
            *((("empty-gpus", str(self.empty_gpus)),) if self.empty_gpus else ()),
            *((("empty-nodes", str(self.empty_nodes)),) if self.empty_nodes else ()),
            *(("drain", node) for node in self.drain),
            *(("drain-gpu", uuid) for uuid in self.drain_gpus),
            *((("most-moves", str(self.most_moves)),) if self.most_moves is not None else ()),
            *(((_AS_FAR, "true"),) if self.as_far else ()),
        ]

    @classmethod
    def of(cls, query: Mapping[str, Sequence[str]]) -> Asked:
        """Read it from the parameters of a query, each with all its values.

        Raises:
            Misstated: it has unknown parameters, or one that cannot be read, or none.
        """
        for unknown in sorted(query.keys() - _PARAMETERS):
            raise Misstated(f"{_shown(unknown)} is none of {', '.join(sorted(_PARAMETERS))}")
        if sum(len(query.get(each, ())) for each in _NAMES) > MOST_NAMES:
            raise Misstated(f"name at most {MOST_NAMES} pods, profiles, nodes and GPUs")
        most = query.get("most-moves", ())
        found = cls(
            admit=tuple(_pod(each) for each in query.get("admit", ())),
            headroom=tuple(_counted(each) for each in query.get("headroom", ())),
            empty_gpus=_total("empty-gpus", query.get("empty-gpus", ())),
            empty_nodes=_total("empty-nodes", query.get("empty-nodes", ())),
            drain=tuple(_name("drain", each) for each in query.get("drain", ())),
            drain_gpus=tuple(_name("drain-gpu", each) for each in query.get("drain-gpu", ())),
            most_moves=_total("most-moves", most) if most else None,
            as_far=_flag(_AS_FAR, query.get(_AS_FAR, ())),
        )
        if found.nothing:
            raise Misstated(f"no goal is given: one or several of {', '.join(_GOALS)}")
        if found.as_far and not found.drains_alone:
            raise Misstated(f"{_AS_FAR} goes with no goal but drain and drain-gpu")
        return found

    def sentences(self) -> Iterator[str]:
        """Yield the goals for people."""
        for namespace, name in self.admit:
            yield f"admit {namespace}/{name}"
        for profile, count in self.headroom:
            yield f"have room for {count} x {profile} at once"
        if self.empty_gpus:
            yield f"have {_many(self.empty_gpus, 'empty GPU')}"
        if self.empty_nodes:
            yield f"have {_many(self.empty_nodes, 'empty node')}"
        for what in (*self.drain, *self.drain_gpus):
            yield f"drain {what}{' as far as possible' if self.as_far else ''}"


_NAMES = ("admit", "headroom", "drain", "drain-gpu")
_GOALS = (*_NAMES, "empty-gpus", "empty-nodes")
_AS_FAR = "as-far-as-possible"
_PARAMETERS = frozenset((*_GOALS, "most-moves", _AS_FAR))


def _pod(value: str) -> tuple[str, str]:
    namespace, slash, name = value.partition("/")
    if not slash:
        raise Misstated(f"admit={_shown(value)}: write NAMESPACE/POD, or NAMESPACE/VM")
    return _name("admit", namespace), _name("admit", name)


def _counted(value: str) -> tuple[str, int]:
    found = _COUNTED.fullmatch(value)
    if found is None or not 0 < int(found[1]) <= MOST_OF_A_KIND:
        raise Misstated(
            f"headroom={_shown(value)}: write COUNTxPROFILE, such as 2x3g.40gb, with a count up to"
            f" {MOST_OF_A_KIND}"
        )
    return _name("headroom", found[2]), int(found[1])


def _total(parameter: str, values: Sequence[str]) -> int:
    if not values:
        return 0
    value = values[-1]
    if not re.fullmatch(r"[0-9]{1,4}", value) or int(value) > MOST_OF_A_KIND:
        raise Misstated(f"{parameter}={_shown(value)}: write a whole number up to {MOST_OF_A_KIND}")
    return int(value)


def _flag(parameter: str, values: Sequence[str]) -> bool:
    if any(value not in ("true", "false") for value in values):
        raise Misstated(f"{parameter}={_shown(values[-1])}: write true or false")
    return bool(values) and values[-1] == "true"


def _name(parameter: str, value: str) -> str:
    if not 0 < len(value) <= LONGEST_NAME or not value.isprintable():
        raise Misstated(f"{parameter}={_shown(value)}: that is no name")
    return value


def _shown(value: str) -> str:
    return ascii(value[:63])


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
