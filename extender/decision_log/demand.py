"""The demand in a log: the fleet, who came, what was decided, and who left, for other policies.

Pods are those that filter was asked about. A pod's places are those that plans had for it, whoever
chose them; a refusal is told when its reason is another than at the last try. What only says that a
pod waits for others is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from extender.decision_log.decoding import arguments
from extender.decision_log.equipment import Equipment
from extender.decision_log.layout import End, Entry, Gap, Header, Restated, Restating
from extender.decision_log.reading import Damage, Item
from extender.decision_log.releases import Releases
from extender.policy import InForce, PolicyName
from extender.policy.file import as_file, written
from extender.replay.recorded import (
    Arrival,
    Departure,
    Outcome,
    Place,
    Recorded,
    RecordedGang,
    RecordedPolicy,
    Resident,
)
from extender.request import Request
from extender.service.ports import PodFacts
from extender.verbs.reasons import Code
from nodeagent.api.gpunode import GpuNode, PodRef

WAITING = frozenset({Code.PLANNING, Code.GANG_INCOMPLETE})
"""Codes that say only that a pod waits for others."""


def recorded(header: Header, items: Iterable[Item]) -> Recorded:
    """Return the demand that a run tells of.

    Raises:
        LogUnreadable: a call is none that this program knows, or takes something else.
    """
    found = _Demand(header.file)
    for item in items:
        found.take(item)
    return Recorded(
        recorded=1,
        begins=header.began,
        policy=policy_of(header.policy),
        nodes=found.equipment.nodes,
        models=found.equipment.models,
        namespaces=found.namespaces,
        residents=tuple(found.residents.values()),
        arrivals=tuple(found.arrivals.values()),
        outcomes=tuple(sorted(found.outcomes, key=lambda each: each.at)),
        departures=tuple(found.left()),
        gaps=found.gaps,
    )


def policy_of(policy: InForce) -> RecordedPolicy:
    """Return a policy by its name, or as its file says it."""
    name = policy.policy.name
    if policy.written == InForce.of(name).version or name is PolicyName.LEARNED:
        return RecordedPolicy(policy.version, name.value)
    return RecordedPolicy(policy.version, written(as_file(policy)).decode())


class _Demand:
    """What has been read so far; times are seconds since the first reading of the clock.

    *first* is the number of the first file that there is.
    """

    def __init__(self, first: int) -> None:
        self._first = first
        self.equipment = Equipment()
        self.namespaces: dict[str, dict[str, str]] = {}
        self.residents: dict[str, Resident] = {}
        self.arrivals: dict[str, Arrival] = {}
        self.outcomes: list[Outcome] = []
        self.departures: dict[str, Departure] = {}
        self.gaps = 0
        self._began: float | None = None
        self._now = 0.0
        self._last = 0
        self._told: dict[str, Outcome] = {}
        self._asked: dict[str, float] = {}
        self._asked_last = -math.inf
        self._releases = Releases()

    def take(self, item: Item) -> None:
        """Take the next in."""
        match item:
            case Entry():
                if item.n != self._last + 1:
                    self.gaps += 1
                self._last = item.n
                self._look_at_the_clock(item)
                self._take_call(item)
            case Restating(n=n):
                if n > self._last:
                    self._take_call(item)
            case Restated(n=n):
                if n > self._last:  # from here on it is told again; before, only if it ever was
                    self.gaps += self._last > 0 or self._first == 1
                    self._last = n
            case Damage():
                self.gaps += 1
            case End(end=end):
                self.gaps += end != self._last
                self._last = end
            case Gap():
                pass  # that calls are missing shows by their numbers

    def _look_at_the_clock(self, entry: Entry) -> None:
        if entry.at:
            if self._began is None:
                self._began = entry.at[0]
            self._now = max(self._now, entry.at[0] - self._began)

    def _take_call(self, entry: Entry | Restating) -> None:
        match entry.call:
            case "Knowledge.gpu_node":
                self._take_node(arguments(entry)["node"])
            case "Knowledge.restore_view":
                self._take_node(arguments(entry)["view"].node)
            case "Knowledge.node":
                given = arguments(entry)
                self.equipment.labelled(given["name"], given["labels"] or {})
            case "Knowledge.gpu_node_deleted" | "Knowledge.gpu_node_gone" | "Knowledge.node_gone":
                name = arguments(entry)["name"]
                self.equipment.gone(name, at=self._later())
                self._freed(self._releases.gone(name))
            case "Knowledge.namespace":
                given = arguments(entry)
                self.namespaces[given["name"]] = dict(given["labels"])
            case "Hooks.judge":
                given = arguments(entry)
                gave = entry.gave if isinstance(entry, Entry) else None
                self._take_question(given["request"], given["names"], gave or {})
            case "Knowledge.pod" | "Knowledge.restore_pod":
                facts: PodFacts = arguments(entry)["pod"]
                if facts.over:
                    self._leave(facts.ref.uid)
            case "Knowledge.pod_gone" | "Knowledge.read_ended":
                self._leave(arguments(entry)["uid"])

    def _take_node(self, node: GpuNode) -> None:
        since = self._later() if self.arrivals else 0.0
        self.equipment.reported(node, since=since)
        here: dict[PodRef, list[Place]] = {}
        for entry in node.spec.assignments:
            place = self.equipment.place(node.name, entry)
            if entry.pod is not None and place is not None:
                here.setdefault(entry.pod, []).append(place)
        self._freed(self._releases.reported(node))
        for pod, places in here.items():
            self._take_places(pod, places)

    def _take_places(self, pod: PodRef, places: Sequence[Place]) -> None:
        if pod.uid in self.arrivals:
            self._tell(Outcome(self._asked[pod.uid], pod.uid, tuple(sorted(places))))
        elif not self.arrivals and pod.uid not in self.departures:
            self.residents[pod.uid] = Resident(
                pod.uid, pod.namespace, pod.name, tuple(sorted(places))
            )

    def _take_question(
        self, request: Request, names: Sequence[str], gave: dict[str, object]
    ) -> None:
        pod = request.pod
        if "error" in gave or pod.uid in self.residents or pod.uid in self.departures:
            return
        self._asked[pod.uid] = self._asked_last = self._now
        if pod.uid not in self.arrivals:
            every = self.equipment.present
            gang = request.gang
            self.arrivals[pod.uid] = Arrival(
                at=self._now,
                uid=pod.uid,
                namespace=pod.namespace,
                name=pod.name,
                wanted=request.wanted,
                nodes=None if every <= {*names} else tuple(n for n in names if n in every),
                spread=request.spread,
                priority=request.priority,
                gang=None if gang is None else RecordedGang(gang.name, gang.size),
            )
        codes = gave.get("codes")
        if gave.get("passed") == 0 and isinstance(codes, list):
            reasons = [code for code in codes if isinstance(code, str) and code not in WAITING]
            if reasons:
                code = Code.NO_ROOM.value if Code.NO_ROOM in reasons else reasons[0]
                self._tell(Outcome(self._now, pod.uid, refused=code))

    def _tell(self, outcome: Outcome) -> None:
        """Tell what became of a pod, if it is another thing than before."""
        before = self._told.get(outcome.uid)
        same = before is not None and (before.places, before.refused) == (
            outcome.places,
            outcome.refused,
        )
        if not same and outcome.uid not in self.departures:
            self._told[outcome.uid] = outcome
            self.outcomes.append(outcome)

    def _leave(self, uid: str) -> None:
        if uid in self.departures or not (uid in self.arrivals or uid in self.residents):
            return
        self.departures[uid] = Departure(self._later(), uid)

    def _later(self) -> float:
        """Return the time of what was heard after all that was asked so far.

        What is heard need not have looked at the clock: its time is the last reading, which may be
        that of a question it could not bear upon any more.
        """
        if self._now == self._asked_last:
            self._now = math.nextafter(self._now, math.inf)
        return self._now

    def _freed(self, uids: Iterable[str]) -> None:
        """Note whose slices are free again, of those who left."""
        for uid in uids:
            left = self.departures.get(uid)
            if left is not None:
                self.departures[uid] = msgspec.structs.replace(left, freed=self._later())

    def left(self) -> Iterator[Departure]:
        """Yield the departures; slices that are not free at the end are so from then on."""
        owed = {*self._releases.owed()}
        for uid, each in self.departures.items():
            known = uid not in owed or each.freed is not None
            yield each if known else msgspec.structs.replace(each, freed=self._now)
