"""What an explanation rests on: everything decisions look at, at one moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from functools import cached_property
from typing import NamedTuple, Protocol

import msgspec

from extender.explain.explanation import Then
from extender.ledger import Ledger
from extender.packing.choose import Bin
from extender.policy.bounds import Bounds
from extender.request import Request
from extender.snapshot import NodeView, Taken, taken_by
from extender.verbs.inherit import inherited
from extender.verbs.permitted import bounds_among
from extender.verbs.verdicts import Code, Fits, Refused, Verdict, verdict


class PodState(Protocol):
    """What is known of a pod that has a GPU instance."""

    @property
    def asked(self) -> object:
        """What it asks for: a :class:`~extender.request.Request`, if anything of ours."""

    @property
    def node(self) -> str:
        """The node it is bound to, "" for none."""

    @property
    def deleting(self) -> bool:
        """Whether it is about to go."""

    @property
    def over(self) -> bool:
        """Whether it has ended."""

    @property
    def movable(self) -> bool:
        """Whether its VM may be moved to make room for others."""

    @property
    def restartable(self) -> bool:
        """Whether its VM may be stopped to be moved, though its eviction is refused."""

    @property
    def evictable(self) -> bool:
        """Whether its owner says nothing against its eviction."""

    @property
    def priority(self) -> int:
        """Its priority."""


class Holdings(msgspec.Struct, frozen=True):
    """What a tenant has, besides the pod asked about: memory slices, instances by profile."""

    slices: int
    profiles: Mapping[str, int]


class Situation(msgspec.Struct, frozen=True, dict=True):
    """A *request* (with its bounds), and all there is around it.

    ``pods`` are those known, by UID. ``candidates`` are the nodes of its last filter call, None if
    there was none; ``told`` the reasons given then. ``ours`` is what its tenant has, if it has
    caps. ``then`` is what was found when its node was chosen.
    """

    request: Request
    views: Mapping[str, NodeView]
    ledger: Ledger
    policy: str
    policy_version: str
    pods: Mapping[str, PodState] = {}
    candidates: frozenset[str] | None = None
    told: frozenset[Code] = frozenset()
    ours: Holdings | None = None
    then: Then | None = None

    @property
    def uid(self) -> str:
        """The pod's UID."""
        return self.request.pod.uid

    @cached_property
    def places(self) -> tuple[NodeView, ...]:
        """The nodes whose plans have entries for the pod: looked for once, in all plans."""
        uid = self.uid
        return tuple(view for view in self.views.values() if view.assignments_of(uid))

    @cached_property
    def _concerned(self) -> Set[str]:
        """The nodes on which something is the pod's, or promised to anybody."""
        return self.ledger.nodes | {view.name for view in self.places}

    def promised(self, view: NodeView) -> tuple[Taken, ...]:
        """Return what others are certain to get on a node beyond its plan."""
        return self.ledger.assumed_on(view.name, besides=self.uid)

    def own(self, view: NodeView) -> tuple[Taken, ...]:
        """Return what the pod has on a node, or is kept for it there: it is no obstacle to it."""
        has = tuple(taken_by(each) for each in view.assignments_of(self.uid))
        return (*has, *view.kept_for(self.request.owner))

    def is_stranger(self, view: NodeView) -> bool:
        """Tell whether nothing on a node is the pod's, or promised to others: nearly always."""
        return not (
            view.name in self._concerned
            or self.request.owner in view.held
            or self.request.owner in view.keepers
        )

    def bins(self, view: NodeView) -> tuple[Bin, ...]:
        """Return a node's usable GPUs as they are to the pod."""
        if self.is_stranger(view):
            return view.bins()
        return view.bins(self.promised(view), leaving=self.own(view))

    def bounds(self, view: NodeView) -> Bounds | None:
        """Return what the rules leave the request, beside what is promised on a node.

        Where it has its place, no headroom is lost by it.
        """
        bounds = bounds_among(self.request, self.ledger, view.name)
        if bounds is None or not view.assignments_of(self.uid):
            return bounds
        return msgspec.structs.replace(bounds, terms=bounds.terms.keeping_nothing, spare=())

    def is_candidate(self, view: NodeView) -> bool:
        """Tell whether kube-scheduler considers a node for the pod, as far as is known."""
        return self.candidates is None or view.name in self.candidates


_NO_ROOM = frozenset({Code.NO_ROOM})


class Judged(NamedTuple):
    """A node, how it stands to the request, and whether kube-scheduler considers it."""

    view: NodeView
    verdict: Verdict
    candidate: bool

    @property
    def fits(self) -> bool:
        """Whether the request fits there."""
        return self.candidate and isinstance(self.verdict, Fits)

    @property
    def lacks_room(self) -> bool:
        """Whether nothing but a lack of room keeps the request from it."""
        return self.refused_for(_NO_ROOM)

    def refused_for(self, codes: Set[Code]) -> bool:
        """Tell whether nothing but one of these reasons keeps the request from it."""
        why = self.verdict
        return self.candidate and isinstance(why, Refused) and why.code in codes


def judgements(situation: Situation) -> Iterator[Judged]:
    """Yield how each node stands to the request, as filter would tell it now."""
    request, ledger = situation.request, situation.ledger
    wanted, spread, bounds = request.wanted, request.spread, request.bounds
    candidates = situation.candidates
    for name, view in situation.views.items():
        candidate = candidates is None or name in candidates
        found: Verdict
        if situation.is_stranger(view):
            found = verdict(view, wanted, bounds=bounds, spread=spread)
            yield Judged(view, found, candidate)
            continue
        place = inherited(view, ledger, request)
        if place is not None:
            found = Fits(place)
        else:
            found = verdict(
                view,
                wanted,
                situation.promised(view),
                situation.own(view),
                situation.bounds(view),
                spread,
            )
        yield Judged(view, found, candidate)
