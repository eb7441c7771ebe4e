"""The packing model: how many GPUs of each class receive which bundle.

One constraint is one function and one sentence; ``build`` is their list. ``levels`` has it solved.

Exact for requests whose vGPUs are on one GPU, and for vGPUs on any GPUs of a node where each node
is a group. Otherwise a VM that needs several GPUs only has to find them in its group: a relaxation,
so that bounds hold, while its node is found when the counts are carried out (``expand``), or by
what ``hosting`` adds to the model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from extender.packing.classes import Condensed, GpuClass
from extender.packing.program import Level, Program
from extender.packing.seats import Tally
from extender.packing.spread import Spread


@dataclass(frozen=True)
class Counts:
    """What is counted, as columns of the program.

    ``receive[c][o]``: GPUs of class ``c`` that receive its offer ``o``; ``admit[t]``: requests of
    type ``t`` admitted; ``gangs[s]``: gangs of shape ``s`` admitted; ``send[f][g]``: requests with
    footprint ``f`` sent to group ``g``.
    """

    receive: Sequence[Sequence[int]]
    admit: Sequence[int]
    gangs: Sequence[int]
    send: Sequence[Mapping[int, int]]

    @property
    def requests(self) -> list[int]:
        """The columns that count requests and gangs, not GPUs."""
        return [*self.admit, *self.gangs, *(at for each in self.send for at in each.values())]

    def tally(self, condensed: Condensed, values: Sequence[int]) -> Tally:
        """Return the plan that values of all columns amount to."""
        receive = {
            (at, items): values[column]
            for at, (each, columns) in enumerate(zip(condensed.classes, self.receive, strict=True))
            for (items, _), column in zip(each.offers, columns, strict=True)
            if values[column]
        }
        admit = {at: values[column] for at, column in enumerate(self.admit)}
        send = {
            (at, group): values[column]
            for at, each in enumerate(self.send)
            for group, column in each.items()
            if values[column]
        }
        return Tally(receive, admit, send)


@dataclass(frozen=True)
class Rows:
    """Rows that other columns may join.

    ``give[c]`` is that of class ``c``; ``make[g, i]`` that of item ``i`` in group ``g``.
    """

    give: Sequence[int]
    make: dict[tuple[int, int], int]


def build(condensed: Condensed) -> tuple[Program, Counts]:
    """Return the model of a condensed problem; its levels are those of ``check.Score``."""
    program, counts, _ = model(condensed)
    return program, counts


def model(condensed: Condensed, *, hosted: Collection[int] = ()) -> tuple[Program, Counts, Rows]:
    """Return the model, and where it can be added to.

    What footprints that are *hosted* need is made by other columns.
    """
    program = Program()
    counts = _columns(program, condensed)
    rows = Rows(
        give_each_gpu_at_most_one_bundle(program, condensed, counts),
        make_in_each_group_what_is_sent_there(program, condensed, counts, hosted),
    )
    send_each_admitted_request_to_one_group(program, condensed, counts)
    admit_what_is_required(program, condensed, counts)
    admit_gangs_whole_or_not_at_all(program, condensed, counts)
    keep_tenants_within_their_caps(program, condensed, counts)
    if condensed.by_node:  # says little of a group with many nodes, at the price of many terms
        spread_over_distinct_gpus(program, condensed, counts)
    program.levels = [
        *admitted(condensed, counts),
        remaining_value(condensed, counts),
        newly_used(condensed, counts),
    ]
    return program, counts, rows


def _columns(program: Program, condensed: Condensed) -> Counts:
    demand = condensed.demand
    return Counts(
        receive=[program.columns([each.count] * len(each.offers)) for each in condensed.classes],
        admit=[program.column(len(each.requests)) for each in demand.types],
        gangs=[program.column(shape.gangs) for shape in demand.shapes],
        send=[
            {
                group: program.column(sum(len(demand.types[at].requests) for at in types))
                for group in groups
            }
            for types, groups in zip(demand.types_of, condensed.eligible, strict=True)
        ],
    )


def give_each_gpu_at_most_one_bundle(
    program: Program, condensed: Condensed, counts: Counts
) -> list[int]:
    """No more GPUs of a class receive a bundle than there are."""
    return [
        program.at_most(receive, [1] * len(receive), each.count)
        for each, receive in zip(condensed.classes, counts.receive, strict=True)
    ]


def make_in_each_group_what_is_sent_there(
    program: Program, condensed: Condensed, counts: Counts, hosted: Collection[int]
) -> dict[tuple[int, int], int]:
    """The bundles a group's GPUs receive consist of what the requests sent there need."""
    made: dict[tuple[int, int], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for each, receive in zip(condensed.classes, counts.receive, strict=True):
        for (items, _), column in zip(each.offers, receive, strict=True):
            for item, count in enumerate(items):
                if count:
                    columns, weights = made[each.group, item]
                    columns.append(column)
                    weights.append(count)
    for at, (footprint, send) in enumerate(
        zip(condensed.demand.footprints, counts.send, strict=True)
    ):
        for group, column in send.items() if at not in hosted else ():
            for item, count in footprint.needs.items():
                columns, weights = made[group, item]
                columns.append(column)
                weights.append(-count)
    return {key: program.equal(*terms, 0) for key, terms in made.items()}


def send_each_admitted_request_to_one_group(
    program: Program, condensed: Condensed, counts: Counts
) -> None:
    """As many requests of a footprint are sent to groups as are admitted."""
    for types, send in zip(condensed.demand.types_of, counts.send, strict=True):
        columns = [*send.values(), *(counts.admit[at] for at in types)]
        program.equal(columns, [1] * len(send) + [-1] * len(types), 0)


def admit_what_is_required(program: Program, condensed: Condensed, counts: Counts) -> None:
    """All requests that must be placed are admitted."""
    for each, admit in zip(condensed.demand.types, counts.admit, strict=True):
        if each.required:
            program.equal([admit], [1], len(each.requests))


def admit_gangs_whole_or_not_at_all(program: Program, condensed: Condensed, counts: Counts) -> None:
    """Of each type, as many members are admitted as the admitted gangs have."""
    for shape, gangs in zip(condensed.demand.shapes, counts.gangs, strict=True):
        for member, count in shape.members.items():
            program.equal([counts.admit[member], gangs], [1, -count], 0)


def keep_tenants_within_their_caps(program: Program, condensed: Condensed, counts: Counts) -> None:
    """No tenant is given more memory slices than it may still take."""
    types = condensed.demand.types
    for tenant, cap in condensed.problem.caps.items():
        theirs = [at for at, each in enumerate(types) if each.tenant == tenant]
        if theirs:
            columns = [counts.admit[at] for at in theirs]
            program.at_most(columns, [types[at].slices for at in theirs], cap)


def spread_over_distinct_gpus(program: Program, condensed: Condensed, counts: Counts) -> None:
    """A VM that wants distinct GPUs takes one vGPU of each: n VMs at most n of each GPU.

    Necessary; sufficient for a single VM of a node that shares its profiles with no other such VM.
    """
    of_group: dict[int, list[tuple[GpuClass, Sequence[int]]]] = defaultdict(list)
    for gpus, receive in zip(condensed.classes, counts.receive, strict=True):
        of_group[gpus.group].append((gpus, receive))
    demand = condensed.demand
    for footprint, types, send in zip(demand.footprints, demand.types_of, counts.send, strict=True):
        if footprint.spread is not Spread.DISTINCT:
            continue
        many = sum(len(demand.types[at].requests) for at in types)
        for group, sent in send.items():
            columns, weights = [sent], [-len(footprint.wanted)]
            for gpus, receive in of_group[group]:
                for (items, _), column in zip(gpus.offers, receive, strict=True):
                    usable = min(sum(items[item] for item in footprint.needs), many)
                    if usable:
                        columns.append(column)
                        weights.append(usable)
            program.at_least(columns, weights, 0)


def admitted(condensed: Condensed, counts: Counts) -> list[Level]:
    """Memory slices admitted, a level for each priority, highest first."""
    types = condensed.demand.types
    levels = []
    for priority in condensed.problem.priorities:
        those = [at for at, each in enumerate(types) if each.priority == priority]
        levels.append(
            Level(
                [counts.admit[at] for at in those],
                [types[at].slices for at in those],
                sum(types[at].slices * len(types[at].requests) for at in those),
            )
        )
    return levels


def remaining_value(condensed: Condensed, counts: Counts) -> Level:
    """What the policy's value of the GPUs grows by."""
    columns = [column for receive in counts.receive for column in receive]
    weights = [gain for each in condensed.classes for _, gain in each.offers]
    return Level(columns, weights)


def newly_used(condensed: Condensed, counts: Counts) -> Level:
    """Minus the GPUs that were empty and receive something."""
    columns = [
        column
        for each, receive in zip(condensed.classes, counts.receive, strict=True)
        if each.unused
        for column in receive
    ]
    return Level(columns, [-1] * len(columns), 0)
