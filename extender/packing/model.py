"""The CP-SAT model: how many GPUs of each class receive which bundle.

One constraint is one function and one sentence; ``build`` is their list.

Exact for requests whose vGPUs are on one GPU, and for vGPUs on any GPUs of a node where each node
is a group. Otherwise a VM that needs several GPUs only has to find them in its group: a relaxation,
so that bounds hold, while its node is found when the counts are carried out (``expand``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ortools.sat.python.cp_model import CpModel, IntVar, LinearExpr

from extender.packing.classes import Condensed, GpuClass
from extender.packing.problem import Spread


@dataclass(frozen=True)
class Counts:
    """What is counted, as variables of the model or as their values.

    ``receive[c][o]``: GPUs of class ``c`` that receive its offer ``o``; ``admit[t]``: requests of
    type ``t`` admitted; ``gangs[s]``: gangs of shape ``s`` admitted; ``send[f][g]``: requests with
    footprint ``f`` sent to group ``g``.
    """

    receive: Sequence[Sequence[IntVar]]
    admit: Sequence[IntVar]
    gangs: Sequence[IntVar]
    send: Sequence[Mapping[int, IntVar]]


@dataclass(frozen=True)
class Level:
    """A sum to be made as large as can be; ``most`` is what it certainly cannot exceed."""

    variables: Sequence[IntVar]
    weights: Sequence[int]
    most: int | None = None

    @property
    def sum(self) -> LinearExpr:
        """The sum as an expression."""
        return LinearExpr.weighted_sum(self.variables, self.weights)


@dataclass(frozen=True)
class PackingModel:
    """The model, its variables, and its objectives as ``check.Score.levels`` has them."""

    cp: CpModel
    counts: Counts
    levels: Sequence[Level]


def build(condensed: Condensed) -> PackingModel:
    """Return the model of a condensed problem."""
    cp = CpModel()
    counts = _variables(cp, condensed)
    give_each_gpu_at_most_one_bundle(cp, condensed, counts)
    make_in_each_group_what_is_sent_there(cp, condensed, counts)
    send_each_admitted_request_to_one_group(cp, condensed, counts)
    admit_what_is_required(cp, condensed, counts)
    admit_gangs_whole_or_not_at_all(cp, condensed, counts)
    keep_tenants_within_their_caps(cp, condensed, counts)
    if condensed.by_node:  # says little of a group with many nodes, at the price of many terms
        spread_over_distinct_gpus(cp, condensed, counts)
    levels = (
        *admitted(condensed, counts),
        remaining_value(condensed, counts),
        newly_used(condensed, counts),
    )
    return PackingModel(cp, counts, levels)


def _variables(cp: CpModel, condensed: Condensed) -> Counts:
    demand = condensed.demand
    return Counts(
        receive=[
            [cp.new_int_var(0, each.count, "") for _ in each.offers] for each in condensed.classes
        ],
        admit=[cp.new_int_var(0, len(each.requests), "") for each in demand.types],
        gangs=[cp.new_int_var(0, shape.gangs, "") for shape in demand.shapes],
        send=[
            {
                group: cp.new_int_var(0, sum(len(demand.types[at].requests) for at in types), "")
                for group in groups
            }
            for types, groups in zip(demand.types_of, condensed.eligible, strict=True)
        ],
    )


def give_each_gpu_at_most_one_bundle(cp: CpModel, condensed: Condensed, counts: Counts) -> None:
    """No more GPUs of a class receive a bundle than there are."""
    for each, receive in zip(condensed.classes, counts.receive, strict=True):
        cp.add(LinearExpr.sum(receive) <= each.count)


def make_in_each_group_what_is_sent_there(
    cp: CpModel, condensed: Condensed, counts: Counts
) -> None:
    """The bundles a group's GPUs receive consist of what the requests sent there need."""
    made: dict[tuple[int, int], tuple[list[IntVar], list[int]]] = defaultdict(lambda: ([], []))
    for each, receive in zip(condensed.classes, counts.receive, strict=True):
        for (items, _), variable in zip(each.offers, receive, strict=True):
            for item, count in enumerate(items):
                if count:
                    variables, weights = made[each.group, item]
                    variables.append(variable)
                    weights.append(count)
    for footprint, send in zip(condensed.demand.footprints, counts.send, strict=True):
        for group, variable in send.items():
            for item, count in footprint.needs.items():
                variables, weights = made[group, item]
                variables.append(variable)
                weights.append(-count)
    for variables, weights in made.values():
        cp.add(LinearExpr.weighted_sum(variables, weights) == 0)


def send_each_admitted_request_to_one_group(
    cp: CpModel, condensed: Condensed, counts: Counts
) -> None:
    """As many requests of a footprint are sent to groups as are admitted."""
    for types, send in zip(condensed.demand.types_of, counts.send, strict=True):
        admitted = LinearExpr.sum([counts.admit[at] for at in types])
        cp.add(LinearExpr.sum(list(send.values())) == admitted)


def admit_what_is_required(cp: CpModel, condensed: Condensed, counts: Counts) -> None:
    """All requests that must be placed are admitted."""
    for each, admit in zip(condensed.demand.types, counts.admit, strict=True):
        if each.required:
            cp.add(admit == len(each.requests))


def admit_gangs_whole_or_not_at_all(cp: CpModel, condensed: Condensed, counts: Counts) -> None:
    """Of each type, as many members are admitted as the admitted gangs have."""
    for shape, gangs in zip(condensed.demand.shapes, counts.gangs, strict=True):
        for member, count in shape.members.items():
            cp.add(counts.admit[member] == count * gangs)


def keep_tenants_within_their_caps(cp: CpModel, condensed: Condensed, counts: Counts) -> None:
    """No tenant is given more memory slices than it may still take."""
    types = condensed.demand.types
    for tenant, cap in condensed.problem.caps.items():
        theirs = [at for at, each in enumerate(types) if each.tenant == tenant]
        if theirs:
            slices = LinearExpr.weighted_sum(
                [counts.admit[at] for at in theirs], [types[at].slices for at in theirs]
            )
            cp.add(slices <= cap)


def spread_over_distinct_gpus(cp: CpModel, condensed: Condensed, counts: Counts) -> None:
    """A VM that wants distinct GPUs takes one vGPU of each: n VMs at most n of each GPU.

    Necessary; sufficient for a single VM of a node that shares its profiles with no other such VM.
    """
    of_group: dict[int, list[tuple[GpuClass, Sequence[IntVar]]]] = defaultdict(list)
    for gpus, receive in zip(condensed.classes, counts.receive, strict=True):
        of_group[gpus.group].append((gpus, receive))
    demand = condensed.demand
    for footprint, types, send in zip(demand.footprints, demand.types_of, counts.send, strict=True):
        if footprint.spread is not Spread.DISTINCT:
            continue
        many = sum(len(demand.types[at].requests) for at in types)
        for group, sent in send.items():
            variables, weights = [sent], [-len(footprint.wanted)]
            for gpus, receive in of_group[group]:
                for (items, _), variable in zip(gpus.offers, receive, strict=True):
                    usable = min(sum(items[item] for item in footprint.needs), many)
                    if usable:
                        variables.append(variable)
                        weights.append(usable)
            cp.add(LinearExpr.weighted_sum(variables, weights) >= 0)


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
    variables = [variable for receive in counts.receive for variable in receive]
    weights = [gain for each in condensed.classes for _, gain in each.offers]
    return Level(variables, weights)


def newly_used(condensed: Condensed, counts: Counts) -> Level:
    """Minus the GPUs that were empty and receive something."""
    variables = [
        variable
        for each, receive in zip(condensed.classes, counts.receive, strict=True)
        if each.unused
        for variable in receive
    ]
    return Level(variables, [-1] * len(variables), 0)
