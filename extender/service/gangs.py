"""The gangs this process knows: where they stand, and how their binds wait for each other.

Where a gang stands is decided in ``planning.gangs``; here is what that is decided from.
"""

from __future__ import annotations

from collections.abc import Iterator

from extender.planning.gangs import Member, Standing, standing
from extender.request import Request
from extender.service.enlisted import Key, key
from extender.service.knowledge import Knowledge


class Gangs:
    """Gangs by key; ``at_work`` are those being written or withdrawn right now."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self.at_work: set[Key] = set()

    def members(self, of: Key) -> Iterator[tuple[str, Member]]:
        """Yield the living members known, by UID."""
        knowledge = self._knowledge
        for uid, gang in knowledge.enlisted.members.get(of, {}).items():
            facts = knowledge.pods.get(uid)
            if facts is not None and (facts.over or facts.deleting):
                continue
            member = Member(
                gang.size,
                filtered=uid in knowledge.pending.waiting,
                reserved=uid in knowledge.assigned,
                bound=facts is not None and bool(facts.node),
            )
            yield uid, member

    def standing(self, of: Key) -> Standing:
        """Return where a gang stands; one of which nobody is known gathers.

        One whose Bindings are being posted has begun: the watch will tell.
        """
        members = [member for _, member in self.members(of)]
        stands = standing(members) if members else Standing.GATHERING
        enlisted = self._knowledge.enlisted
        if stands in (Standing.GATHERING, Standing.MALFORMED):
            if enlisted.remembers(of):
                enlisted.over(of)
        elif stands is Standing.COMPLETE:
            if of in enlisted.posting:
                enlisted.unposted(of)
        elif of in enlisted.posting:
            return Standing.BEGUN
        return stands

    def stand(self) -> Iterator[tuple[Key, Standing]]:
        """Yield where every gang stands."""
        for of in tuple(self._knowledge.enlisted.members):
            yield of, self.standing(of)

    def may_go_on(self, request: Request) -> bool:
        """Tell whether a member of a gang that has its places need not wait for others to bind.

        One beyond the gang's size, or that came later, has no place among them. It is an ordinary
        pod once a member is bound for certain. Before that it might be the first, and half a gang:
        of the others' end we may not have heard.
        """
        assert request.gang is not None
        members = self.members(key(request.gang))
        return request.pod.uid in self._knowledge.assigned or any(m.bound for _, m in members)

    def lost(self, of: Key) -> bool:
        """Tell whether a gang's places are being given back."""
        return of in self._knowledge.enlisted.lost

    # bind.

    def come(self, request: Request) -> None:
        """Note that kube-scheduler has called bind for a member: once is enough."""
        assert request.gang is not None
        of = key(request.gang)
        self._knowledge.enlisted.come.setdefault(of, set()).add(request.pod.uid)
        self.pulse(of)

    def all_come(self, of: Key) -> bool:
        """Tell whether every member with a place has come to bind, or some are bound already.

        While its places are being written none is bound: whatever the watch shows of them, it is
        not known yet whether they are to be taken back.
        """
        if self.lost(of) or of in self.at_work:
            return False
        match self.standing(of):
            case Standing.BEGUN:
                return True
            case Standing.RESERVED:
                reserved = {uid for uid, member in self.members(of) if member.reserved}
                return reserved <= self._knowledge.enlisted.come.get(of, set())
            case _:
                return False

    def post(self, request: Request) -> bool:
        """Note that a member's Binding is about to be posted; return whether it may be.

        Not if the gang has lost a place, and none of it is known to have been bound: since the last
        try to post this one, others' end may have been heard of.
        """
        assert request.gang is not None
        of = key(request.gang)
        members = [member for _, member in self.members(of)]
        whole = bool(members) and standing(members) is Standing.RESERVED
        if self.lost(of) or not (whole or self._begun(of)):
            return False
        if request.pod.uid not in self._knowledge.enlisted.posting.get(of, {}):
            self._knowledge.enlisted.post(of, request.pod.uid)
        return True

    def _begun(self, of: Key) -> bool:
        """Tell whether it is certain that a member was bound, whatever has become of it."""
        enlisted, pods = self._knowledge.enlisted, self._knowledge.pods
        return any(enlisted.posting.get(of, {}).values()) or any(
            uid in pods and pods[uid].node for uid in enlisted.members.get(of, ())
        )

    def posted(self, of: Key, uid: str, *, bound: bool) -> None:
        """Note that a member's Binding has come through, or that it is certain that none has."""
        self._knowledge.enlisted.posted(of, uid, bound=bound)
        self.pulse(of)

    def lose(self, of: Key) -> None:
        """Have a gang's places given back, all of them: no member is bound any more."""
        self._knowledge.enlisted.lose(of)
        self._knowledge.arrivals.set()
        self.pulse(of)

    def given_back(self, of: Key) -> None:
        """Note that they are: the gang may be planned anew, and its members come anew."""
        self._knowledge.enlisted.over(of)
        self.pulse(of)

    def keep(self, of: Key, bound: str) -> None:
        """Note that a gang thought lost has a *bound* member (UID)."""
        self._knowledge.enlisted.find(of)
        self.posted(of, bound, bound=True)

    def pulse(self, of: Key) -> None:
        """Let the binds of a gang look again."""
        self._knowledge.changes.tell(_name(of))

    async def change(self, of: Key, *, within: float) -> None:
        """Wait until something about a gang changes, or raise TimeoutError (in seconds)."""
        await self._knowledge.changes.of(_name(of), within=within)


def _name(of: Key) -> str:
    """Return what no node is called."""
    return "gang/" + "/".join(of)
