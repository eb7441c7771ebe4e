"""What the judge says of places, Bindings and who makes them, told one write after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest

from nodeagent.api import keys
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import (
    Assignment,
    Condition,
    Decision,
    Instance,
    Mode,
    OwnerRef,
    Realized,
)
from nodeagent.apiserver.history import Revision, Write
from nodeagent.apiserver.protocol import GPU_NODES, LEASES, PODS, Kind
from nodeagent.simulated.hardware import Hardware
from tests.builders import H100, VGPU, assignment, gpu, gpu_node, instance
from tests.chaos.judge import Judge
from tests.chaos.rest import unsettled

SMALL, HALF = 19, 9  # profile ids: one memory slice, and four
LEAD_SECONDS = 4.0
RESOURCE = VGPU + "1-10C"


class Court:
    """A judge of one node with one GPU, and what it is shown; whatever it is asked may be set.

    ``process`` writes, and sent its writes when ``sent`` says, now if that is None. It hears after
    ``hears_after`` seconds that a GpuNode was written or deleted. ``agent`` reports; ``replicas``
    are the extenders that there are.
    """

    def __init__(self) -> None:
        self.machine = Hardware("node-1", [H100], Mode.VGPU_VFIO)
        (self.board,) = self.machine.gpus
        self.now = 100.0
        self.process = "a_1"
        self.sent: float | None = None
        self.late = False
        self.hears_after = 0.0
        self.agent = "node-1_1"
        self.replicas = frozenset({"a_1"})
        self.waited_for = True
        self.generation = 1
        self._pods: dict[str, dict[str, Any]] = {}
        self._node: dict[str, Any] | None = None
        self._words = 0
        self.judge = Judge(
            {"node-1": self.machine},
            clock=lambda: self.now,
            waited_for=lambda uid: self.waited_for,
            writer=lambda: self.process,
            hold_seconds=10.0,
            listed=lambda process, kind: self.now,
            lead_seconds=LEAD_SECONDS,
            sent=lambda: self.now if self.sent is None else self.sent,
            late=lambda: self.late,
            knew=lambda process, uid, deleted: deleted + self.hears_after,
            read=lambda process, node, by: (0, by - self.hears_after),
            replicas=lambda: self.replicas,
        )
        self.leads("a_1")
        self.plan()

    @property
    def broken(self) -> list[str]:
        """What the judge says, without the times."""
        return [each.split(" s: ", 1)[1] for each in self.judge.violations]

    def entry(
        self, id: str, start: int, *, pod: str | None, owner: str = "", profile: int = SMALL
    ) -> Assignment:
        whose = OwnerRef("VirtualMachineInstance", "default", owner) if owner else None
        return assignment(id, profile, start, gpu=self.board.uuid, pod=pod, owner=whose)

    def leads(self, process: str) -> None:
        meta = {"name": keys.LEADER_LEASE, "namespace": keys.SYSTEM_NAMESPACE, "uid": "lease"}
        lease = {"metadata": meta, "spec": {"holderIdentity": process}}
        self._show(LEASES, None, lease)

    def plan(
        self,
        *entries: Assignment,
        told: Iterable[Instance] = (),
        observed: int | None = None,
        realized: bool = True,
        still: Iterable[str] = (),
    ) -> None:
        """Show a plan; the agent has *observed* and *realized* it, unless told otherwise.

        What is *still* told to be realized, by its ids, comes from before.
        """
        self.generation += 1
        self._told(entries, told, observed, realized=realized, still=still)

    def reports(
        self, *told: Instance, realized: bool = True, conditions: Sequence[Condition] = ()
    ) -> None:
        """Show that the agent has seen the plan, and what it tells to be on the GPU."""
        entries = self.judge.entries("node-1")
        self._told(entries, told, None, realized=realized, conditions=conditions)

    def _told(
        self,
        entries: Iterable[Assignment],
        told: Iterable[Instance],
        observed: int | None,
        *,
        realized: bool,
        conditions: Sequence[Condition] = (),
        still: Iterable[str] = (),
    ) -> None:
        self._words += 1
        node = gpu_node(
            gpus=[msgspec.structs.replace(gpu(0, instances=tuple(told)), uuid=self.board.uuid)],
            plan=entries,
            generation=self.generation,
            observed=observed,
            realized=[*(Realized(each.id) for each in entries if realized), *map(Realized, still)],
        )
        status = msgspec.structs.replace(
            node.status,
            agent_epoch=self.agent,
            sequence=self._words,
            conditions=tuple(conditions),
        )
        before = self._node
        self._node = msgspec.to_builtins(msgspec.structs.replace(node, status=status))
        self._show(GPU_NODES, before, self._node)

    def plan_deleted(self) -> None:
        assert self._node is not None
        before, self._node = self._node, None
        self._show(GPU_NODES, before, None)

    def pod(self, uid: str, *, priority: int = 0) -> None:
        """Show a pod that wants one small vGPU."""
        limits: dict[str, Any] = {"containers": [{"resources": {"limits": {RESOURCE: "1"}}}]}
        limits["priority"] = priority
        meta = {"name": f"name-{uid}", "namespace": "default", "uid": uid}
        self._pods[uid] = {"metadata": meta, "spec": limits, "status": {"phase": "Pending"}}
        self._show(PODS, None, self._pods[uid])

    def bound(self, uid: str, *entries: Assignment) -> None:
        decided = [
            Decision(e.id, e.gpu, "1g.10gb", e.profile_id, e.start, e.size, e.resource)
            for e in entries
        ]
        note = msgspec.json.encode(decided).decode()
        before = self._pods[uid]
        meta = {**before["metadata"], "annotations": {keys.DECISION_ANNOTATION: note}}
        spec = {**before["spec"], "nodeName": "node-1"}
        self._pods[uid] = {**before, "metadata": meta, "spec": spec}
        self._show(PODS, before, self._pods[uid])

    def phase(self, uid: str, phase: str) -> None:
        before = self._pods[uid]
        self._pods[uid] = {**before, "status": {"phase": phase}}
        self._show(PODS, before, self._pods[uid])

    def evicted(self, uid: str) -> None:
        """Show that a pod is evicted."""
        before = self._pods[uid]
        status = before["status"] | {"conditions": [{"type": "DisruptionTarget"}]}
        self._pods[uid] = {**before, "status": status}
        self._show(PODS, before, self._pods[uid])

    def made(self, start: int, profile: int = SMALL) -> int:
        """Have an agent make a GPU instance."""
        size = H100.geometry.by_id[profile].size
        gi_id = self.board.create(profile, Placement(start, size))
        self.judge.created("node-1", self.board.uuid, gi_id)
        return gi_id

    def reset(self) -> None:
        """Show that the GPU is reset."""
        with self.judge.upheaval(self.board):
            self.board.reset()

    def running(self, uid: str, start: int) -> Assignment:
        """Show a pod that is bound to a place on the GPU, and runs there; return its entry."""
        entry = self.entry(f"entry-{uid}", start, pod=uid)
        self.pod(uid)
        self.plan(*self.judge.entries("node-1"), entry)
        gi_id = self.made(start)
        self.bound(uid, entry)
        self.board.clients.setdefault(gi_id, set()).add(uid)
        self.phase(uid, "Running")
        assert not self.broken
        return entry

    def _show(
        self, kind: Kind, before: dict[str, Any] | None, after: dict[str, Any] | None
    ) -> None:
        there = after or before
        assert there is not None
        key = (there["metadata"].get("namespace", ""), there["metadata"]["name"])
        was, now = (None if each is None else Revision.of(each) for each in (before, after))
        self.judge.wrote(kind, Write(1, key, was, now))


@pytest.fixture
def court() -> Court:
    return Court()


# Promised twice.


def test_two_entries_for_one_slice_are_one_promise_too_many(court: Court) -> None:
    court.plan(court.entry("a", 0, pod="u1", profile=HALF), court.entry("b", 3, pod="u2"))

    assert court.broken
    assert {each.split(":")[0] for each in court.broken} == {"promised twice"}


def test_so_is_an_entry_where_a_bound_pod_is_whose_own_has_gone(court: Court) -> None:
    court.running("u1", 0)
    court.plan(court.entry("b", 0, pod="u2"))

    assert "promised twice: b where name-u1 is bound" in court.broken


def test_an_entry_that_is_moved_onto_another_takes_its_slices_like_a_new_one(court: Court) -> None:
    first, second = court.entry("a", 0, pod="u1"), court.entry("b", 1, pod="u2")
    court.plan(first, second)
    assert not court.broken
    court.plan(first, msgspec.structs.replace(second, start=0))

    assert "promised twice: b and a on " + court.board.uuid in court.broken


@pytest.mark.parametrize("writer", ["a_1", "b_1"], ids=["who took it back", "a successor"])
def test_what_is_on_its_way_out_is_nobodys_before_the_agent_says_so(
    court: Court, writer: str
) -> None:
    court.plan(court.entry("a", 0, pod="u1"))
    before = court.generation
    court.plan(observed=before)
    court.leads(writer)
    court.process = writer
    court.plan(court.entry("b", 0, pod="u2"), observed=before)

    assert court.broken == ["promised twice: b where a is on its way out"]


def test_what_a_pod_has_anew_in_its_place_leaves_for_its_next_one_with_that(court: Court) -> None:
    court.plan(court.entry("a", 0, pod="u1", owner="vm"))
    before = court.generation
    court.plan(court.entry("anew", 0, pod="u1", owner="vm"), observed=before)
    court.made(0)
    court.plan(court.entry("anew", 0, pod=None, owner="vm"), observed=before)
    court.plan(court.entry("b", 0, pod="u2", owner="vm"), observed=before)
    assert not court.broken

    court.plan(observed=before)
    court.plan(court.entry("c", 0, pod="u3"), observed=before)
    assert "promised twice: c where b is on its way out" in court.broken


def test_an_order_may_hold_that_place_but_give_it_nobody_before(court: Court) -> None:
    court.plan(court.entry("a", 0, pod="u1", owner="gone"))
    before = court.generation
    court.plan(observed=before)
    back = court.entry("back-1-0", 0, pod=None, owner="vm")
    court.plan(back, observed=before)
    assert not [each for each in court.broken if "way out" in each]

    court.plan(court.entry("back-1-0", 0, pod="u2", owner="vm"), observed=before)
    assert "promised twice: back-1-0 where a is on its way out" in court.broken


def test_and_one_that_only_meets_it(court: Court) -> None:
    court.plan(court.entry("a", 0, pod="u1", owner="gone", profile=HALF))
    before = court.generation
    court.plan(observed=before)
    court.plan(court.entry("back-1-0", 1, pod=None, owner="vm"), observed=before)
    assert not [each for each in court.broken if "way out" in each]

    court.plan(court.entry("back-1-0", 1, pod="u2", owner="vm"), observed=before)
    assert "promised twice: back-1-0 where a is on its way out" in court.broken


def test_once_told_to_be_free_it_is_whatever_older_word_comes_after(court: Court) -> None:
    court.plan(court.entry("a", 0, pod="u1"))
    before = court.generation
    court.plan(observed=before)
    court.reports()
    court.plan(court.entry("b", 0, pod="u2"), observed=before)

    assert not court.broken


def test_a_foreign_instance_there_is_nothing_of_what_was_taken_back(court: Court) -> None:
    court.plan(court.entry("a", 0, pod="u1", profile=HALF))
    court.plan()
    court.reports(instance(SMALL, 3))
    court.plan(court.entry("b", 0, pod="u2"))

    assert not court.broken


@pytest.mark.parametrize("writer", ["a_1", "b_1"], ids=["who took it back", "a successor"])
def test_where_a_gpu_instance_is_left_nothing_is_promised_whatever_was_told(
    court: Court, writer: str
) -> None:
    court.plan(court.entry("a", 0, pod="u1"))
    court.made(0)
    court.plan()
    court.leads(writer)
    court.process = writer
    court.plan(court.entry("b", 0, pod="u2"))

    assert court.broken == ["promised twice: b where the instance of a is left"]


# Lost.


def test_what_a_bound_pod_has_stays_planned_until_the_pod_has_ended(court: Court) -> None:
    entry = court.running("u1", 0)
    court.plan()
    assert court.broken == [f"lost: {entry.id} of name-u1, which is bound, left the plan"]


def test_even_if_its_gpu_was_reset(court: Court) -> None:
    court.running("u1", 0)
    court.reset()
    court.plan()

    assert any("left the plan" in each for each in court.broken)


@pytest.mark.parametrize("change", [{"start": 1}, {"pod": None}], ids=["start", "pod"])
def test_nor_may_its_entry_become_another(court: Court, change: dict[str, Any]) -> None:
    entry = court.running("u1", 0)
    court.plan(msgspec.structs.replace(entry, **change))

    assert f"lost: {entry.id} of name-u1, which is bound, left the plan" in court.broken


def test_it_may_be_written_anew_in_its_place(court: Court) -> None:
    entry = court.running("u1", 0)
    court.plan(msgspec.structs.replace(entry, id="anew"))

    assert not court.broken


def test_what_a_pod_that_has_ended_had_may_go(court: Court) -> None:
    court.running("u1", 0)
    court.phase("u1", "Failed")
    court.plan()

    assert not court.broken


def test_an_extender_deletes_a_node_only_when_nothing_is_there(court: Court) -> None:
    court.plan_deleted()
    assert not court.broken

    court.plan(court.entry("a", 0, pod="u1"), told=[instance(SMALL, 0)])
    court.plan_deleted()
    assert court.broken == [
        "lost: the plan of node-1 was deleted, and pods are in it",
        "lost: node-1 was forgotten, and it has GPU instances",
    ]


def test_the_gpu_instance_of_a_bound_pod_is_not_destroyed(court: Court) -> None:
    court.running("u1", 0)
    court.judge.destroying("node-1", court.board.uuid, next(iter(court.board.instances)))

    assert "lost: the GPU instance of name-u1, which is bound" in court.broken


# Foreign.


def test_what_no_agent_made_no_agent_destroys(court: Court) -> None:
    gi_id = court.board.create(SMALL, Placement(0, 1))
    court.judge.foreign.add((court.board.uuid, gi_id))
    court.judge.destroying("node-1", court.board.uuid, gi_id)

    assert court.broken == [f"foreign destroyed: GPU instance {gi_id} of {court.board.uuid}"]


# Half bound.


def test_a_pod_is_bound_with_a_decision_for_each_device(court: Court) -> None:
    court.pod("u1")
    court.bound("u1")

    assert court.broken == [f"half bound: name-u1 without a decision for each ('{RESOURCE}',)"]


def test_to_what_is_planned_for_it_there(court: Court) -> None:
    court.pod("u1")
    court.plan(court.entry("a", 1, pod="u1"))
    court.bound("u1", court.entry("a", 0, pod="u1"))

    assert court.broken == ["half bound: name-u1 has a, which is not planned"]


def test_and_realized(court: Court) -> None:
    court.pod("u1")
    court.plan(court.entry("a", 0, pod="u1"))
    court.reports(realized=False)
    court.bound("u1", court.entry("a", 0, pod="u1"))

    assert court.broken == ["half bound: name-u1 has a, which is not realized"]


def test_and_while_somebody_waits_for_it(court: Court) -> None:
    court.waited_for = False
    court.pod("u1")
    court.plan(court.entry("a", 0, pod="u1"))
    court.bound("u1", court.entry("a", 0, pod="u1"))

    assert court.broken == ["bound after the answer: name-u1"]


# What excuses, and for how long.


def test_what_a_reset_has_ended_excuses_nothing_that_is_promised_after_it(court: Court) -> None:
    court.pod("before")
    court.pod("after")
    old, new = court.entry("a", 0, pod="before"), court.entry("b", 1, pod="after")
    court.plan(old)
    court.made(0)
    court.reset()
    court.plan(old, new)
    court.bound("before", old)
    court.bound("after", new)
    court.phase("before", "Running")
    assert not court.broken, "it has nothing, which is the reset's doing"

    court.phase("after", "Running")
    assert court.broken == ["lost: name-after runs, but it does not hold b"]


UNANSWERED = Condition(keys.READY, "False", keys.DRIVER_UNAVAILABLE)


def waiting(court: Court, uid: str = "u1", start: int = 0) -> Assignment:
    """Show a pod with a place whose GPU instance is there, told, and not the pod's yet."""
    entry = court.entry(f"entry-{uid}", start, pod=uid)
    court.pod(uid)
    court.plan(*court.judge.entries("node-1"), entry)
    court.made(start)
    return entry


def looks(court: Court) -> None:
    court.now += 1.0
    court.judge.looked("node-1")
    court.now += 1.0


def test_what_is_made_anew_and_told_after_a_reset_is_not_to_be_destroyed(court: Court) -> None:
    entry = waiting(court)
    court.bound("u1", entry)
    court.reset()
    gi_id = court.made(0)
    looks(court)
    court.reports()
    court.judge.destroying("node-1", court.board.uuid, gi_id)

    assert court.broken == ["lost: the GPU instance of name-u1, which is bound"]


@pytest.mark.parametrize("late", ["never looked", "looked before", "sent before", "no driver"])
def test_until_that_is_told_by_who_has_looked_since_nobody_is_to_blame(
    court: Court, late: str
) -> None:
    entry = waiting(court)
    court.bound("u1", entry)
    court.reset()
    if late == "looked before":
        looks(court)
    before = court.now
    gi_id = court.made(0)
    if late in ("sent before", "no driver"):
        looks(court)
    court.sent = before if late == "sent before" else None
    court.reports(conditions=[UNANSWERED] if late == "no driver" else ())
    court.judge.destroying("node-1", court.board.uuid, gi_id)

    assert not court.broken


def test_a_pod_from_under_which_it_has_gone_is_excused_though_it_is_made_anew(
    court: Court,
) -> None:
    court.running("u1", 0)
    court.reset()
    court.made(0)
    looks(court)
    court.reports()

    assert not [told for told in unsettled(court.judge) if told.startswith("lost")]


def test_what_somebody_destroys_excuses_nobody_beside_it(court: Court) -> None:
    first, second = waiting(court, "u1", 0), waiting(court, "u2", 1)
    court.bound("u1", first)
    court.bound("u2", second)
    one, other = court.board.instances
    with court.judge.upheaval(court.board):
        court.board.destroy(one)
    court.judge.destroying("node-1", court.board.uuid, other)

    assert court.broken == ["lost: the GPU instance of name-u2, which is bound"]


@pytest.mark.parametrize(("sent", "excused"), [(104.0, True), (104.1, False)])
def test_a_binding_may_be_sent_until_it_is_heard_that_a_reset_has_ended_its_place(
    court: Court, sent: float, excused: bool
) -> None:
    entry = waiting(court)
    court.reset()
    court.hears_after, court.now = 1.0, 103.0
    court.leads("a_1")
    court.reports(realized=False)
    court.now, court.sent = 105.0, sent
    court.bound("u1", entry)

    told = ["half bound: name-u1 has entry-u1, which is not realized"]
    assert court.broken == ([] if excused else told)


def test_a_reset_excuses_no_binding_to_what_was_never_realized(court: Court) -> None:
    court.pod("u1")
    entry = court.entry("a", 0, pod="u1")
    court.plan(entry, realized=False)
    court.made(0)
    court.reset()
    court.hears_after = 1.0
    court.now += 2.0
    court.bound("u1", entry)

    assert court.broken == ["half bound: name-u1 has a, which is not realized"]


@pytest.mark.parametrize(("sent", "excused"), [(101.0, True), (104.0, False)])
def test_a_pod_fails_by_a_reset_only_until_all_is_as_it_was_before(
    court: Court, sent: float, excused: bool
) -> None:
    entry = waiting(court)
    court.bound("u1", entry)
    court.reset()
    court.made(0)
    looks(court)
    court.reports()
    court.now, court.sent = 105.0, sent
    court.phase("u1", "Failed")

    lost = [told for told in unsettled(court.judge) if told.startswith("lost")]
    assert lost == (
        [] if excused else ["lost: name-u1 was bound, and its kubelet could not run it"]
    )


def test_a_bound_pod_stays_planned_whatever_a_reset_has_ended(court: Court) -> None:
    court.running("u1", 0)
    court.reset()
    court.plan()

    lost = [told for told in unsettled(court.judge) if told.startswith("lost")]
    assert lost == ["lost: name-u1 is bound, and entry-u1 is not planned"]


@pytest.mark.parametrize("phase", ["Pending", "Running"])
def test_a_pod_is_judged_though_its_plan_was_deleted(court: Court, phase: str) -> None:
    court.running("u1", 0)
    court.phase("u1", phase)
    court.process = ""
    court.plan_deleted()
    court.process = "a_1"
    court.plan(court.entry("b", 0, pod="u2"))
    court.judge.destroying("node-1", court.board.uuid, next(iter(court.board.instances)))

    assert "promised twice: b where name-u1 is bound" in court.broken
    assert "lost: the GPU instance of name-u1, which is bound" in court.broken


def test_a_binding_may_be_on_its_way_when_the_plan_is_deleted(court: Court) -> None:
    court.pod("u1")
    entry = court.entry("a", 0, pod="u1")
    court.plan(entry)
    court.process = ""
    court.plan_deleted()
    court.process = "a_1"
    court.bound("u1", entry)
    assert not court.broken

    court.pod("u2")
    other = court.entry("b", 0, pod="u2")
    court.bound("u2", other)
    assert court.broken == ["half bound: name-u2 has b, which is not planned"]


@pytest.mark.parametrize(("sent", "excused"), [(101.0, True), (101.1, False)])
def test_it_was_not_sent_by_who_knew_of_that(court: Court, sent: float, excused: bool) -> None:
    court.pod("u1")
    entry = court.entry("a", 0, pod="u1")
    court.plan(entry)
    court.process, court.hears_after = "", 1.0
    court.plan_deleted()
    court.process = "a_1"
    court.now, court.sent = 102.0, sent
    court.bound("u1", entry)

    told = ["half bound: name-u1 has a, which is not planned"]
    assert court.broken == ([] if excused else told)


def test_it_still_may_when_the_agent_tells_of_what_it_had_before_in_another_plan(
    court: Court,
) -> None:
    court.pod("u1")
    entry = court.entry("a", 0, pod="u1")
    court.plan(entry)
    court.sent = court.now
    court.now += 1.0
    court.process = ""
    court.plan_deleted()
    court.plan(observed=0, still=["a"])
    court.process = "a_1"
    court.bound("u1", entry)

    assert not court.broken


def test_it_is_not_when_all_is_as_it_was_before(court: Court) -> None:
    court.pod("u1")
    entry = court.entry("a", 0, pod="u1")
    court.plan(entry)
    court.process = ""
    court.plan_deleted()
    court.process = "a_1"
    court.plan(entry)
    court.plan()
    court.bound("u1", entry)

    assert court.broken == ["half bound: name-u1 has a, which is not planned"]


NEW_AGENT, OLD_AGENT = "node-1_2", "node-1_1"


@pytest.mark.parametrize("agent", [OLD_AGENT, NEW_AGENT])
@pytest.mark.parametrize("replica", ["a_1", "a_2"])
def test_what_runs_is_planned_again_whoever_was_started_since_its_plan_was_deleted(
    court: Court, agent: str, replica: str
) -> None:
    court.running("u1", 0)
    court.process = ""
    court.plan_deleted()
    court.agent, court.replicas = agent, frozenset({replica})
    court.plan()

    told = [each for each in unsettled(court.judge) if "is not planned" in each]
    assert told == ["lost: name-u1 is bound, and entry-u1 is not planned"]


@pytest.mark.parametrize("knows", [False, True])
@pytest.mark.parametrize("has", [False, True])
def test_a_bound_pod_that_has_nothing_loses_its_place_where_who_leads_has_never_read_of_it(
    court: Court, knows: bool, has: bool
) -> None:
    entry = court.running("u1", 0)
    if not has:
        court.board.clients.clear()
    court.replicas = frozenset({"a_1" if knows else "b_1"})
    court.process = ""
    court.plan_deleted()
    court.process = "a_1"
    court.plan()
    court.judge.destroying("node-1", court.board.uuid, next(iter(court.board.instances)))
    court.plan(court.entry("b", 0, pod="u2"))
    excused = not knows and not has
    assert excused is not any("lost: the GPU instance of" in each for each in court.broken)
    assert excused is not any("where name-u1 is bound" in each for each in court.broken)

    court.plan(entry)
    court.judge.violations.clear()
    court.plan(court.entry("b", 0, pod="u2"))
    assert any("where name-u1 is bound" in each for each in court.broken), "once it has it again"


@pytest.mark.parametrize("maker", ["b_1", ""], ids=["another", "by hand"])
@pytest.mark.parametrize("writer", ["a_1", "b_1"])
def test_who_has_read_of_a_place_gives_it_to_nobody_whoever_made_its_plan_anew(
    court: Court, maker: str, writer: str
) -> None:
    """a_1 has read the plan that was deleted, b_1 never has."""
    court.running("u1", 0)
    court.board.clients.clear()
    court.process = ""
    court.plan_deleted()
    if maker:
        court.leads(maker)
    court.process = maker
    court.plan()
    court.leads(writer)
    court.process = writer
    court.plan(court.entry("b", 0, pod="u2"))

    told = [each for each in court.broken if "where name-u1 is bound" in each]
    assert bool(told) is (writer == "a_1")


def test_who_writes_again_what_another_gave_away_unknowing_gives_nothing_away(court: Court) -> None:
    """a_1 has read the plan that was deleted first, b_1 never has."""
    court.running("u1", 0)
    court.board.clients.clear()
    for replica in ("b_1", "a_1"):
        court.process = ""
        court.plan_deleted()
        court.leads(replica)
        court.process = replica
        court.plan(court.entry("b", 0, pod="u2"))

    assert not [each for each in court.broken if "where name-u1 is bound" in each]


@pytest.mark.parametrize("leader", ["a_1", "b_1"])
def test_what_somebody_leaves_out_by_hand_is_planned_again_if_who_leads_has_read_of_it(
    court: Court, leader: str
) -> None:
    court.running("u1", 0)
    court.board.clients.clear()
    court.process = ""
    court.plan_deleted()
    court.plan()
    court.leads(leader)

    told = [each for each in unsettled(court.judge) if "is not planned" in each]
    assert bool(told) is (leader == "a_1")


@pytest.mark.parametrize("frozen", [False, True])
def test_nor_has_a_replica_read_of_it_that_was_frozen_since_before_it_was_written(
    court: Court, frozen: bool
) -> None:
    court.replicas = frozenset({"a_1", "b_1"})
    court.running("u1", 0)  # written by a_1
    court.board.clients.clear()
    court.now += 5.0
    court.hears_after = 10.0 if frozen else 1.0
    court.process = ""
    court.plan_deleted()
    court.plan()
    court.leads("b_1")

    told = [each for each in unsettled(court.judge) if "is not planned" in each]
    assert bool(told) is not frozen


@pytest.mark.parametrize("used", [False, True])
def test_an_agent_destroys_what_somebody_has_left_out_by_hand_until_it_has_seen_it_again(
    court: Court, used: bool
) -> None:
    entry = court.running("u1", 0)
    (made,) = court.board.instances
    if not used:
        court.board.clients.clear()

    def destroyed() -> bool:
        court.judge.violations.clear()
        court.judge.destroying("node-1", court.board.uuid, made)
        return not any("lost: the GPU instance of" in each for each in court.broken)

    court.process = ""
    assert not destroyed()
    court.plan_deleted()
    assert not destroyed(), "its agent has seen no plan without it"
    court.plan()
    assert destroyed() is not used
    court.process = "a_1"
    court.plan(entry, observed=1)
    assert destroyed() is not used, "its agent has yet to see it, whatever it tells"
    court.reports(realized=False)
    assert not destroyed()
    court.judge.half_made(court.board.uuid, made)
    assert destroyed() is not used, "what it could not make it may make again"
    court.reports()
    assert not destroyed()


@pytest.mark.parametrize(("after", "wrong"), [(0.0, True), (5.0, False)])
def test_who_has_yet_to_hear_that_a_plan_was_deleted_evicts_for_the_claims_in_it(
    court: Court, after: float, wrong: bool
) -> None:
    entry = court.running("u1", 0)
    court.pod("u2", priority=10)
    owner = OwnerRef(keys.PREEMPTOR, "default", "u2")
    claim = msgspec.structs.replace(court.entry("claim", 0, pod=None), owner=owner)
    court.plan(entry, claim)
    court.hears_after = after
    court.process = ""
    court.plan_deleted()
    court.plan()
    court.process = "a_1"
    court.now += 1.0
    court.evicted("u1")

    assert any("wrong victim" in each for each in court.broken) is wrong


@pytest.mark.parametrize(("seen", "made"), [(False, True), (True, False), (True, True)])
def test_a_pod_that_fails_before_its_agent_has_made_it_anew_was_left_out_by_hand(
    court: Court, seen: bool, made: bool
) -> None:
    entry = court.running("u1", 0)
    court.board.clients.clear()
    court.process = ""
    court.plan_deleted()
    court.plan()
    court.process = "a_1"
    court.plan(entry, observed=None if seen else 1, realized=made)
    court.phase("u1", "Failed")

    told = [each for each in unsettled(court.judge) if "could not run it" in each]
    assert bool(told) is (seen and made)


# Who leads.


def test_whoever_binds_leads(court: Court) -> None:
    court.pod("u1")
    court.plan(court.entry("a", 0, pod="u1"))
    court.process = "b_1"
    court.bound("u1", court.entry("a", 0, pod="u1"))

    assert court.broken == ["not the leader: b_1 has bound name-u1, a_1 leads"]


def test_nothing_is_written_after_ones_own_time_though_nobody_else_leads_yet(court: Court) -> None:
    court.now += LEAD_SECONDS - 0.1
    court.plan()
    assert not court.broken

    court.now += 0.1
    court.plan()
    assert court.broken == ["not the leader: a_1 wrote the plan of node-1 after its own time"]


def test_what_was_sent_in_time_may_come_when_another_leads_if_it_was_held_up(court: Court) -> None:
    court.sent, court.late = court.now + 1.0, True
    court.now += 9.0
    process, court.process, sent, court.sent = court.process, "b_1", court.sent, None
    court.leads("b_1")
    court.process, court.sent = process, sent
    court.plan()
    assert not court.broken

    court.late = False
    court.plan()
    assert court.broken == ["not the leader: a_1 wrote the plan of node-1, b_1 leads"]
