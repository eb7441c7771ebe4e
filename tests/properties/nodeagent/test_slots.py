"""Random lives of pods, agents and kubelets: each pod gets the slots tied for it, and no other."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nodeagent.api.gpunode import Assignment, PodRef, Realized
from nodeagent.slots import Ties, kept, recovered, tied

RESOURCES = ("nvidia.com/A", "nvidia.com/B", "nvidia.com/C")
ROOM = dict.fromkeys(RESOURCES, 4)


class Slots(RuleBasedStateMachine):
    """A scheduler that binds what is realized, a kubelet that knows no pods, and our ties.

    The kubelet admits bound pods in any order, each by what is preferred at that moment; one whose
    instance was ``gone`` for a while may find nothing, but never what is another's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.plan: dict[str, Assignment] = {}
        self.live: set[str] = set()
        self.bound: set[str] = set()
        self.gone: set[str] = set()
        self.admitted: set[str] = set()
        self.claims: dict[str, str] = {}
        self.ties = Ties()
        self.told: tuple[Realized, ...] = ()
        self.made = 0

    def of(self, uid: str) -> list[Assignment]:
        return [each for each in self.plan.values() if each.pod and each.pod.uid == uid]

    @rule(
        wanted=st.lists(st.sampled_from(RESOURCES), min_size=1, max_size=3),
        age=st.integers(0, 3),
        at_once=st.booleans(),
    )
    def plan_a_pod(self, wanted: list[str], age: int, at_once: bool) -> None:
        self.made += 1
        uid = f"pod-{self.made}"
        for number, resource in enumerate(wanted):
            id = f"{uid}/{number}"
            pod = PodRef("default", uid, uid)
            self.plan[id] = Assignment(id, "GPU-0", 0, 0, 1, resource, str(age), pod)
            if at_once:
                self.live.add(id)

    @precondition(lambda self: self.plan.keys() - self.live)
    @rule(data=st.data())
    def an_instance_comes_to_life(self, data: st.DataObject) -> None:
        self.live.add(data.draw(st.sampled_from(sorted(self.plan.keys() - self.live))))

    @precondition(lambda self: self.bound)
    @rule(data=st.data())
    def an_instance_is_destroyed_by_hand_before_its_pod_comes(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from(sorted(self.bound)))
        self.live.discard(data.draw(st.sampled_from([each.id for each in self.of(uid)])))
        self.gone.add(uid)
        self.the_agent_makes_a_pass()

    @rule()
    def the_agent_makes_a_pass(self) -> None:
        plan = list(self.plan.values())
        self.ties = tied(
            kept(self.ties, plan, self.claims), plan, self.claims, live=self.live, capacity=ROOM
        )
        self.told = self.ties.realized

    @precondition(lambda self: not self.bound & self.gone)
    @rule()
    def the_agent_restarts(self) -> None:
        """That a pod may be on its way to what is gone, no inventory tells."""
        self.ties = recovered(self.told, self.plan.values(), self.claims, self.ties.awaited)
        self.the_agent_makes_a_pass()

    @rule()
    def what_is_realized_is_bound(self) -> None:
        realized = {each.id for each in self.told}
        for each in self.plan.values():
            assert each.pod
            if realized.issuperset(a.id for a in self.of(each.pod.uid)):
                self.bound |= {each.pod.uid} - self.admitted

    @precondition(lambda self: self.bound)
    @rule(data=st.data())
    def the_kubelet_admits_a_bound_pod(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from(sorted(self.bound)))
        self.bound.remove(uid)
        self.admitted.add(uid)
        for each in self.of(uid):
            free = [s for s in self.ties.waiting().get(each.resource, ()) if s not in self.claims]
            if not free:
                assert uid in self.gone, "a bound pod was rejected"
                self.claims = {slot: pod for slot, pod in self.claims.items() if pod != uid}
                self.leave(uid)
                return
            self.claims[free[0]] = uid

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def a_running_pod_ends(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from(sorted(set(self.claims.values()))))
        self.claims = {slot: pod for slot, pod in self.claims.items() if pod != uid}

    @precondition(lambda self: self.plan)
    @rule(data=st.data())
    def a_pod_leaves_the_plan(self, data: st.DataObject) -> None:
        uids = sorted({each.pod.uid for each in self.plan.values() if each.pod})
        self.leave(data.draw(st.sampled_from(uids)))

    def leave(self, uid: str) -> None:
        self.plan = {id: a for id, a in self.plan.items() if a.pod and a.pod.uid != uid}
        self.bound.discard(uid)
        self.live &= self.plan.keys()

    @invariant()
    def every_slot_is_tied_once_and_every_assignment_too(self) -> None:
        assert len({tie.slot for tie in self.ties.ties}) == len(self.ties.ties)
        assert len({tie.assignment for tie in self.ties.ties}) == len(self.ties.ties)

    @invariant()
    def at_most_one_pod_waits_for_each_resource(self) -> None:
        by_slot = {tie.slot: tie.pod_uid for tie in self.ties.ties}
        for slots in self.ties.waiting().values():
            assert len({by_slot[slot] for slot in slots if slot not in self.claims}) <= 1

    @invariant()
    def a_pod_has_the_slots_tied_for_it(self) -> None:
        tied_for = {tie.slot: tie.pod_uid for tie in self.ties.ties}
        assert all(tied_for[slot] == uid for slot, uid in self.claims.items())


TestSlots = Slots.TestCase
TestSlots.settings = settings(max_examples=400, stateful_step_count=40)
