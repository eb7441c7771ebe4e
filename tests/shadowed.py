"""What a shadow would be told of a record, and of small stories made for tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from extender.policy import InForce, PolicyName
from extender.replay.play import request_of
from extender.replay.recorded import Arrival, Departure, Outcome, Recorded, RecordedNode
from extender.replay.views import view_of, with_places
from extender.shadow import Evidence, news
from extender.shadow.imagined import Imagined
from extender.shadow.news import News
from extender.snapshot import NodeView
from extender.verbs.reasons import Code
from nodeagent.api.gpunode import GpuNode, Metadata, PodRef

BARE = InForce.of(PolicyName.DEFAULT)


class Live:
    """The nodes of a record as they are live, while a story goes on."""

    def __init__(self, of: Recorded) -> None:
        self._of = of
        self._views: dict[str, NodeView] = {}
        self._version = 0

    def came(self, node: RecordedNode, at: float) -> Iterator[News]:
        """Yield that there is a node."""
        self._views[node.name] = view_of(self._of, node, BARE)
        yield news.Node(at=at, name=node.name, labels=node.labels)
        yield self._told(node.name, at)

    def placed(self, arrival: Arrival, outcome: Outcome) -> Iterator[News]:
        """Yield the plans that have a VM's places."""
        pod = PodRef(arrival.namespace, arrival.name, arrival.uid)
        for name in dict.fromkeys(each.node for each in outcome.places):
            here = [each for each in outcome.places if each.node == name]
            self._views[name] = with_places(self._views[name], pod, here)
            yield self._told(name, outcome.at)

    def has_places(self, uid: str) -> bool:
        """Tell whether a VM is in a plan."""
        return any(
            each.pod is not None and each.pod.uid == uid
            for view in self._views.values()
            for each in view.node.spec.assignments
        )

    def left(self, uid: str, at: float) -> Iterator[News]:
        """Yield that a VM is no more, and then the plans without it."""
        yield news.Left(at=at, uid=uid)
        for name, view in self._views.items():
            kept = tuple(
                each
                for each in view.node.spec.assignments
                if each.pod is None or each.pod.uid != uid
            )
            if len(kept) < len(view.node.spec.assignments):
                self._views[name] = view.replanned(kept)
                yield self._told(name, at)

    def _told(self, name: str, at: float) -> News:
        return news.Gpus(at=at, node=self.node(name))

    def node(self, name: str) -> GpuNode:
        """Return a node as it is now."""
        self._version += 1
        version = self._version
        return msgspec.structs.replace(
            self._views[name].node,
            metadata=Metadata(name, f"uid-{name}", version, str(version)),
        )


def story(of: Recorded, policy: InForce) -> Iterator[News]:
    """Yield what a shadow with a policy is told of a record: at any moment departures first.

    Then come nodes, of which those are asked who wait, as kube-scheduler does; those that get the
    room there is; and last who arrives.
    """
    live = Live(of)
    yield news.Begins(at=0.0, policy=policy, live=of.policy.version)
    for name, labels in of.namespaces.items():
        yield news.Namespace(at=0.0, name=name, labels=labels)
    for node in of.nodes:
        if not node.since:
            yield from live.came(node, 0.0)
    yield news.Ready(at=0.0)
    arrivals = {each.uid: each for each in of.arrivals}
    joins = {(each.namespace, each.gang, each.at) for each in of.arrivals}
    came: set[str] = set()
    events: list[tuple[float, int, int, object]] = []
    for number, each in enumerate(of.departures):
        events.append((each.at, 0, number, each))
    for number, node in enumerate(of.nodes):
        if node.since:
            events.append((node.since, 1, number, node))
    for number, outcome in enumerate(of.outcomes):
        of_it = arrivals[outcome.uid]
        joined = of_it.gang is not None and (of_it.namespace, of_it.gang, outcome.at) in joins
        late = of_it.at < outcome.at and not joined
        events.append((outcome.at, 2 if late else 4, number, outcome))
    for number, arrival in enumerate(of.arrivals):
        events.append((arrival.at, 3, number, arrival))
    # Who arrives is decided about before the next one comes.
    order = sorted(events, key=lambda each: each[:3])
    firsts = {(each.uid, each.at): each for each in of.outcomes}
    done: set[int] = set()
    for at, _, _, what in order:
        match what:
            case Departure(uid=uid):
                came.discard(uid)
                yield from live.left(uid, at)
            case RecordedNode():
                yield from live.came(what, at)
                for arrival in of.arrivals:
                    if arrival.uid in came and not live.has_places(arrival.uid):
                        yield asked(arrival, at, codes=(Code.GANG_INCOMPLETE.value,))
            case Arrival():
                came.add(what.uid)
                yield from _arrives(what, firsts.get((what.uid, at)), live, done)
                gang = what.gang
                for other in of.arrivals if gang is not None else ():
                    found = firsts.get((other.uid, at))
                    kin = (other.namespace, other.gang) == (what.namespace, gang)
                    if kin and other.uid in came and found is not None and id(found) not in done:
                        yield from _told(other, found, live, done)
            case Outcome() if id(what) not in done:
                yield from _told(arrivals[what.uid], what, live, done)


def _arrives(arrival: Arrival, first: Outcome | None, live: Live, done: set[int]) -> Iterator[News]:
    if first is not None:
        yield from _told(arrival, first, live, done, names=arrival.nodes or ())
        return
    yield asked(arrival, arrival.at, codes=(Code.GANG_INCOMPLETE.value,))


def _told(
    arrival: Arrival,
    outcome: Outcome,
    live: Live,
    done: set[int],
    names: Sequence[str] = (),
) -> Iterator[News]:
    done.add(id(outcome))
    codes = (outcome.refused,) if outcome.refused else ()
    yield asked(arrival, outcome.at, codes=codes, names=names)
    if outcome.places:
        yield from live.placed(arrival, outcome)


def asked(
    arrival: Arrival, at: float, *, codes: Sequence[str] = (), names: Sequence[str] = ()
) -> News:
    """Return that filter was asked about a VM."""
    given = names or arrival.nodes or ()
    return news.Asked(
        at=at, request=request_of(arrival), names=given, passed=not codes, codes=tuple(codes)
    )


def imagined(items: Iterable[News]) -> Evidence:
    """Return what news show, each read from the line it is told in."""
    begins, *rest = (news.read(news.line(each)) for each in items)
    assert isinstance(begins, news.Begins)
    shadow = Imagined(begins)
    for each in rest:
        shadow.take(each)
    return shadow.evidence()
