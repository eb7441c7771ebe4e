"""Kinds of VMs and sorts of GPUs, as far as they differ in what may go where.

Kinds that every GPU serves alike are one *group*; GPUs of one geometry that serve all groups alike
are of one *sort*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from extender.moves.problem import Problem
from extender.packing.tables import Tables


@dataclass(frozen=True, eq=False)
class Kinds:
    """``group`` by kind; ``sort`` of each host, None where nothing may come.

    ``tables`` and ``served`` have an entry for each sort: the latter, for each group, the profile
    id that serves it there, or None.
    """

    group: Mapping[str, int]
    sort: Sequence[int | None]
    tables: Sequence[Tables]
    served: Sequence[tuple[int | None, ...]]

    def profiles(self, sort: int) -> tuple[int, ...]:
        """Return the profiles that serve some group on GPUs of a sort, each once."""
        return tuple(sorted({each for each in self.served[sort] if each is not None}))


def kinds(problem: Problem) -> Kinds:
    """Return the groups and sorts of a problem."""
    movers = {
        occupant.kind
        for host in problem.hosts
        for occupant in host.occupants
        if problem.leave(occupant) is not None
    }
    names = sorted(movers | {each.kind for each in problem.wanted})
    columns: dict[tuple[int, tuple[int | None, ...]], int] = {}
    seen: dict[tuple[int, int], int] = {}  # by identity: of many GPUs few are looked into
    sort: list[int | None] = []
    tables: list[Tables] = []
    for host in problem.hosts:
        if not host.open or host.uuid in problem.drained:
            sort.append(None)
            continue
        known = seen.get((id(host.tables), id(host.serves)))
        if known is None:
            by_id = host.tables.geometry.by_id
            column = tuple(
                profile if (profile := host.serves.get(name)) in by_id else None for name in names
            )
            known = columns.setdefault((id(host.tables), column), len(columns))
            if known == len(tables):
                tables.append(host.tables)
            seen[id(host.tables), id(host.serves)] = known
        sort.append(known)
    rows = [tuple(column[at] for _, column in columns) for at in range(len(names))]
    groups = {row: at for at, row in enumerate(dict.fromkeys(rows))}
    return Kinds(
        group={name: groups[row] for name, row in zip(names, rows, strict=True)},
        sort=sort,
        tables=tables,
        served=[tuple(row[at] for row in groups) for at in range(len(columns))],
    )
