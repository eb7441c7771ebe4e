"""How many leave GPUs of each class, and where to: the least moves, then the least cost.

GPUs of a class have the same on them, alike in whether it may move and what that costs; what is
counted does not grow with their number. The order of moves is left out: in some order they may all
be possible, and no plan takes fewer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from extender.moves.choices import Choice
from extender.moves.classes import Leaver, classes, drained
from extender.moves.kinds import Kinds
from extender.moves.maximum import maximum
from extender.moves.problem import Problem
from extender.packing.program import Level, Program


@dataclass(frozen=True)
class Counted:
    """What the counts come to.

    ``attained`` is how many things the goals may attain at most, ``moves`` and ``cost`` the least
    these take; None where that is not proven. ``leave`` has, for each host that changes, the
    choice; ``emptied`` the hosts that all leave. ``sent`` counts, by (group, sort), what comes to
    GPUs; ``admitted``, by group, what of it is wanted; ``drained`` who leaves a drained GPU, by
    (group, cost). ``empty_gpus`` and ``empty_nodes`` are how many of those asked for there are.
    """

    attained: int | None
    moves: int | None
    cost: int | None
    best: int
    leave: Mapping[int, Choice]
    emptied: frozenset[int]
    sent: Mapping[tuple[int, int], int]
    admitted: Mapping[int, int]
    drained: Mapping[Leaver, int]
    empty_gpus: int
    empty_nodes: int


@dataclass
class _Columns:
    """Where the program's columns are; those of choices by (class, index of the choice)."""

    choice: dict[tuple[int, int], int] = field(default_factory=dict)
    emptied: dict[int, int] = field(default_factory=dict)
    nodes: dict[str, int] = field(default_factory=dict)
    sent: dict[tuple[int, int], int] = field(default_factory=dict)
    admitted: dict[int, int] = field(default_factory=dict)
    drained: dict[Leaver, int] = field(default_factory=dict)
    empty_gpus: int | None = None
    empty_nodes: int | None = None

    def goals(self) -> list[int]:
        """Return the columns that count what is attained."""
        empty = (each for each in (self.empty_gpus, self.empty_nodes) if each is not None)
        return [*self.admitted.values(), *self.drained.values(), *empty]


def count(problem: Problem, kinds: Kinds, *, left: Callable[[], float], seed: int) -> Counted:
    """Return the best counts found before ``left()``, in seconds, is 0."""
    counting = _Counting(problem, kinds)
    values, bounds = maximum(counting.program, counting.levels(), left=left, seed=seed)
    return counting.read(values, bounds)


class _Counting:
    """The program, one method for each sentence of it."""

    def __init__(self, problem: Problem, kinds: Kinds) -> None:
        self._problem, self._kinds = problem, kinds
        self.program, self.columns = Program(), _Columns()
        self.classes = classes(problem, kinds)
        self._class_of = {host: at for at, each in enumerate(self.classes) for host in each.hosts}
        self._balance: dict[int, Counter[int]] = defaultdict(Counter)
        self._moves: Counter[int] = Counter()
        self._costs: Counter[int] = Counter()
        self._use_each_gpu_once()
        self._empty_gpus_and_nodes()
        self._admit_what_is_wanted()
        self._leave_drained_gpus()
        self._have_room_where_vms_are_sent()
        self._keep_to_the_limits()

    def _use_each_gpu_once(self) -> None:
        """A GPU has one choice made for it, or is emptied, or stays as it is."""
        columns, nodes = self.columns, self._emptiable_nodes()
        for at, each in enumerate(self.classes):
            used: Counter[int] = Counter()
            for number, choice in enumerate(each.choices):
                column = self.program.column(len(each.hosts))
                columns.choice[at, number] = column
                used[column] = 1
                self._leaving(column, [each.leavers[who] for who in choice.leave])
            if self._problem.empty_gpus and self._emptiable(at):
                column = columns.emptied[at] = self.program.column(len(each.hosts))
                used[column] = 1
                self._leaving(column, each.leavers)
            for name, hosts in nodes.items():
                mine = sum(self._class_of[host] == at for host in hosts)
                if mine:
                    if name not in columns.nodes:
                        columns.nodes[name] = self.program.column(1)
                    column = columns.nodes[name]
                    used[column] = mine
                    self._leaving(column, each.leavers * mine)
            self.program.at_most([*used], [*used.values()], len(each.hosts))

    def _emptiable(self, at: int) -> bool:
        """Tell whether all that is on GPUs of a class may leave."""
        host = self._problem.hosts[self.classes[at].hosts[0]]
        return len(self.classes[at].leavers) == len(host.occupants)

    def _emptiable_nodes(self) -> Mapping[str, list[int]]:
        """Return the hosts of each node that could be emptied as a whole."""
        if not self._problem.empty_nodes:
            return {}
        nodes: dict[str, list[int]] = defaultdict(list)
        for at, host in enumerate(self._problem.hosts):
            nodes[host.node].append(at)
        return {
            name: hosts
            for name, hosts in nodes.items()
            if all(
                host in self._class_of and self._emptiable(self._class_of[host]) for host in hosts
            )
        }

    def _leaving(self, column: int, leavers: Sequence[Leaver]) -> None:
        """Count who leaves in as many moves, at their cost."""
        for each in leavers:
            self._moves[column] += 1
            self._costs[column] += each.cost
            self._balance[each.group][column] -= 1

    def _empty_gpus_and_nodes(self) -> None:
        """As many GPUs and nodes count as emptied as are, up to what is asked for."""
        columns, problem = self.columns, self._problem
        of_node = Counter(host.node for host in problem.hosts)
        gpus = dict.fromkeys(columns.emptied.values(), -1)
        gpus |= {column: -of_node[name] for name, column in columns.nodes.items()}
        nodes = dict.fromkeys(columns.nodes.values(), -1)
        columns.empty_gpus = self._emptied(problem.empty_gpus, gpus)
        columns.empty_nodes = self._emptied(problem.empty_nodes, nodes)

    def _emptied(self, asked: int, counted: Mapping[int, int]) -> int | None:
        if not asked or not counted:
            return None
        column = self.program.column(asked)
        self.program.at_most([column, *counted], [1, *counted.values()], 0)
        return column

    def _admit_what_is_wanted(self) -> None:
        """Of each group, what is wanted or less is admitted."""
        groups = Counter(self._kinds.group[each.kind] for each in self._problem.wanted)
        for group, many in groups.items():
            column = self.columns.admitted[group] = self.program.column(many)
            self._balance[group][column] -= 1

    def _leave_drained_gpus(self) -> None:
        """Who may leave a drained GPU does, as far as there is room."""
        for leaver, many in drained(self._problem, self._kinds).items():
            column = self.columns.drained[leaver] = self.program.column(many)
            self._leaving(column, [leaver])

    def _have_room_where_vms_are_sent(self) -> None:
        """All that leaves or is admitted is sent somewhere, and there is room for it there."""
        kinds, program = self._kinds, self.program
        room: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
        for (at, number), column in self.columns.choice.items():
            each = self.classes[at]
            profiles = kinds.profiles(each.sort)
            for profile, many in zip(profiles, each.choices[number].room, strict=True):
                if many:
                    room[each.sort, profile][column] = -many
        for group, leaving in sorted(self._balance.items()):
            most = sum(-weight * program.upper[column] for column, weight in leaving.items())
            sent = {}
            for sort, served in enumerate(kinds.served):
                by = served[group]
                if by is not None and (sort, by) in room:
                    column = self.columns.sent[group, sort] = program.column(most)
                    room[sort, by][column] = sent[column] = 1
            program.equal([*sent, *leaving], [*sent.values(), *leaving.values()], 0)
        for terms in room.values():
            program.at_most([*terms], [*terms.values()], 0)

    def _keep_to_the_limits(self) -> None:
        """No more moves, and no more cost, than a plan may have."""
        for most, terms in (
            (self._problem.most_moves, self._moves),
            (self._problem.most_cost, self._costs),
        ):
            if most is not None and terms:
                self.program.at_most([*terms], [*terms.values()], most)

    def levels(self) -> list[Level]:
        """Return what is maximised: things attained, minus moves, minus cost."""
        goals = self.columns.goals()
        asked = sum(self.program.upper[column] for column in goals)
        return [
            Level(goals, [1] * len(goals), asked),
            *(
                Level([*terms], [-weight for weight in terms.values()], 0)
                for terms in (self._moves, self._costs)
            ),
        ]

    def read(self, values: Sequence[int], bounds: Sequence[int | None]) -> Counted:
        """Return what the columns' values mean, host by host."""
        columns, known = self.columns, [*bounds, None, None][:3]
        unused = {at: list(each.hosts) for at, each in enumerate(self.classes)}
        emptied: set[int] = set()
        for name, hosts in self._emptiable_nodes().items():
            if values[columns.nodes[name]]:
                emptied.update(hosts)
        for at in unused:
            unused[at] = [host for host in unused[at] if host not in emptied]
        for at, column in columns.emptied.items():
            for _ in range(values[column]):
                emptied.add(unused[at].pop(0))
        leave: dict[int, Choice] = {}
        for (at, number), column in columns.choice.items():
            for _ in range(values[column]):
                leave[unused[at].pop(0)] = self.classes[at].choices[number]
        return Counted(
            attained=known[0],
            moves=None if known[1] is None else -known[1],
            cost=None if known[2] is None else -known[2],
            best=sum(values[column] for column in columns.goals()),
            leave=leave,
            emptied=frozenset(emptied),
            sent={key: values[column] for key, column in columns.sent.items() if values[column]},
            admitted={key: values[column] for key, column in columns.admitted.items()},
            drained={key: values[column] for key, column in columns.drained.items()},
            empty_gpus=0 if columns.empty_gpus is None else values[columns.empty_gpus],
            empty_nodes=0 if columns.empty_nodes is None else values[columns.empty_nodes],
        )
