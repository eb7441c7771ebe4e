"""Bugs that are planted to see whether the judge catches them; each is one that people write."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec

from tests.chaos.mutants import agent, evictions, extender, moves

Planting = Callable[[], contextlib.AbstractContextManager[Any]]


class Mutant(msgspec.Struct, frozen=True):
    """A bug: its *name* for the command line, what it does wrong, and how it is *planted*.

    It is caught by a broken promise of a kind that it *breaks*, which are those the judge names.
    Any other, a crash above all, may come of how it is planted, and proves nothing. One that is
    about moves is looked for where VMs are ``moving``, one about evictions where pods are
    ``ranked``.
    """

    name: str
    says: str
    planted: Planting
    breaks: frozenset[str]
    moving: bool = False
    ranked: bool = False


def _mutant(
    name: str,
    says: str,
    planted: Planting,
    breaks: str,
    *,
    moving: bool = False,
    ranked: bool = False,
) -> Mutant:
    return Mutant(name, says, planted, frozenset(breaks.split(", ")), moving, ranked)


MUTANTS = (
    _mutant(
        "no-test",
        "the plan's patch has no test operation",
        extender.without_test,
        "promised twice, half bound, held for nobody, hold broken, lost",
    ),
    _mutant(
        "await-first",
        "a place is chosen, awaited, then assumed",
        extender.await_before_assume,
        "promised twice",
    ),
    _mutant(
        "forget-unknown",
        "an unknown Binding's place is given back",
        extender.forget_on_unknown,
        "lost, promised twice, half bound",
    ),
    _mutant(
        "answer-early",
        "an unknown Binding is read before its time is over",
        extender.answer_too_soon,
        "bound after the answer, half bound, lost",
    ),
    _mutant(
        "late-binding",
        "bind goes on after its answer",
        extender.binding_after_the_answer,
        "bound after the answer",
    ),
    _mutant(
        "give-back",
        "a place is given back without reading the pod",
        extender.give_back_at_once,
        "lost, promised twice, half bound",
    ),
    _mutant(
        "no-uid",
        "the Binding goes by the pod's name",
        extender.without_uid,
        "half bound, bound after the answer, lost",
    ),
    _mutant(
        "unread-reclaim",
        "reclaim does not read the pod",
        extender.unread_reclaim,
        "lost, promised twice, half bound",
    ),
    _mutant(
        "reclaim-by-name", "reclaim goes by the pod's name", extender.reclaim_by_name, "leaked"
    ),
    _mutant(
        "no-releasing",
        "slices are free once their entry is gone",
        extender.no_releasing,
        "promised twice",
    ),
    _mutant(
        "held-to-nobody",
        "a held place is given to whoever comes",
        extender.held_to_nobody,
        "promised twice, hold broken, not inherited",
    ),
    _mutant(
        "not-written-again",
        "what pods had is forgotten when somebody deletes their GpuNode",
        extender.not_written_again,
        "lost, promised twice",
    ),
    _mutant("never-let-go", "what was held stays planned", extender.never_let_go, "leaked"),
    _mutant("held-for-ever", "what is held is never let go", extender.held_for_ever, "starved"),
    _mutant(
        "held-too-short", "what is held is let go too soon", extender.held_too_short, "hold broken"
    ),
    _mutant(
        "held-unread",
        "a place is held without reading its pod",
        extender.held_unread,
        "held for nobody",
    ),
    _mutant(
        "not-inherited",
        "the next pod of an owner is placed like any other",
        extender.not_inherited,
        "not inherited",
    ),
    _mutant(
        "never-half-open",
        "a node that failed is never tried again",
        extender.never_half_open,
        "starved",
    ),
    _mutant(
        "open-fence", "a write has all the time it wants", extender.open_fence, "not the leader"
    ),
    _mutant("no-relist", "a new leader lists nothing anew", extender.no_relist, "unread"),
    _mutant(
        "lead-for-ever", "the leader never steps down", extender.lead_for_ever, "not the leader"
    ),
    _mutant(
        "gang-ignored", "members of a gang are ordinary pods", extender.gang_ignored, "half a gang"
    ),
    _mutant(
        "gang-in-part",
        "what fits of a gang is reserved and bound",
        extender.gang_in_part,
        "half a gang",
    ),
    _mutant(
        "gang-exceeded",
        "a member beyond the gang's size does not wait for another to be bound",
        extender.gang_exceeded,
        "half a gang",
    ),
    _mutant(
        "node-time", "staleness goes by the agent's own time", extender.trust_node_time, "starved"
    ),
    _mutant("in-use", "destroyed without asking whether it is in use", agent.use_unchecked, "lost"),
    _mutant(
        "gi-id",
        "a GPU instance's id is its identity",
        agent.gi_id_as_identity,
        "foreign destroyed, lost",
    ),
    _mutant(
        "all-ours", "what overlaps the journal's is ours", agent.all_is_ours, "foreign destroyed"
    ),
    _mutant(
        "journal-late",
        "the journal is written after the creation",
        agent.journal_afterwards,
        "leaked",
    ),
    _mutant(
        "old-boot", "the journal never forgets", agent.old_boot, "starved, foreign destroyed, lost"
    ),
    _mutant("two-ties", "two pods are tied at once", agent.two_at_once, "lost"),
    _mutant("told-early", "realized is told before it is", agent.told_too_soon, "lost, half bound"),
    _mutant(
        "no-withdrawal",
        "ties are not withdrawn before destroying",
        agent.no_withdrawal,
        "starved, lost",
    ),
    _mutant(
        "once-realized",
        "what was realized once counts as realized for ever",
        extender.once_realized,
        "half bound",
    ),
    _mutant(
        "any-victim",
        "pods are evicted whatever their priority",
        evictions.whatever_their_priority,
        "wrong victim",
        ranked=True,
    ),
    _mutant(
        "claim-forgotten",
        "what a pod waits for is given to whoever comes",
        evictions.claim_forgotten,
        "claim broken",
        ranked=True,
    ),
    _mutant(
        "evict-unclaimed",
        "a pod is evicted before its place is claimed",
        evictions.evicted_before_it_is_claimed,
        "wrong victim",
        ranked=True,
    ),
    _mutant(
        "not-vetted",
        "whoever kube-scheduler proposes may be evicted, room or no room",
        evictions.not_vetted,
        "evicted in vain",
        ranked=True,
    ),
    _mutant(
        "evict-first",
        "a VM is evicted before that is kept",
        moves.evicted_before_it_is_kept,
        "wrong move, wrong victim",
        moving=True,
    ),
    _mutant(
        "nothing-held",
        "a VM is evicted without a place held for it",
        moves.nothing_held,
        "wrong move",
        moving=True,
    ),
    _mutant(
        "off-unheard",
        "VMs are moved whatever the policy says by now",
        moves.off_unheard,
        "wrong move",
        moving=True,
    ),
    _mutant(
        "stop-unheard",
        "the next VM leaves though the order is stopped",
        moves.stop_unheard,
        "wrong move, order broken",
        moving=True,
    ),
    _mutant(
        "no-way-back",
        "nothing is held for a VM that has come nowhere",
        moves.nowhere_to_go_back,
        "left nowhere",
        moving=True,
    ),
    _mutant(
        "holds-left",
        "what was held for an order stays",
        moves.holds_left,
        "leaked",
        moving=True,
    ),
    _mutant(
        "two-orders",
        "an order is given while another is under way",
        moves.two_orders,
        "order broken",
        moving=True,
    ),
    _mutant(
        "made-early",
        "a move counts as made before its VM has come",
        moves.made_when_planned,
        "order broken",
        moving=True,
    ),
    _mutant(
        "never-ready",
        "a pod that is to leave counts as not Ready, so that its next need not be",
        moves.never_ready,
        "order broken",
        moving=True,
    ),
)


MASKED = {
    _mutant(
        "not-void",
        "a place is given back while a Binding may be on its way",
        extender.not_void,
        "lost, promised twice, half bound",
    ): "no later try would have to come through until the place is given back, and the first after"
    " that; tests/unit/extender/test_late_bindings.py makes that happen",
    _mutant(
        "ended-forgotten",
        "a pod that was read to have ended is bound without reading it again",
        extender.ended_forgotten,
        "placed when over",
    ): "what it asked for is forgotten as it is read: late news would have to show it alive, and"
    " kube-scheduler to ask again; tests/unit/extender/test_restart_hold.py makes that happen",
    _mutant(
        "any-version",
        "an older state replaces a newer one",
        extender.any_version,
        "promised twice, half bound, lost",
    ): "a patch of the plan tests the generation it was decided on, so that what was decided on an"
    " old state is refused",
    _mutant(
        "no-claims", "the kubelet's claims are ignored", agent.claims_ignored, "lost"
    ): "what is in use is not destroyed, claimed or not",
    _mutant(
        "assume-written",
        "an unknown write of the plan counts as done",
        extender.no_read_after_unknown,
        "half bound, lost",
    ): "nobody acts upon a plan that was written in vain: what it was to have is looked for in the"
    " view",
    _mutant(
        "never-disturbed",
        "reclaim acts on what it read before a bind",
        extender.never_disturbed,
        "lost, promised twice, half bound",
    ): "a pod is read by reclaim only when its place was long not used, and all of its bind would"
    " have to happen until the answer; tests/unit/extender/test_reclaim.py makes that happen",
    _mutant(
        "never-settled",
        "an entry is relied upon that a write on its way removes",
        extender.never_settled,
        "lost, promised twice, half bound",
    ): "the write would have to be given up by reclaim, and arrive after all of a bind, within the"
    " few seconds of its own time; tests/unit/extender/test_reclaim.py makes that happen",
    _mutant(
        "lost-is-free",
        "what is to be written again is free until then",
        extender.lost_is_free,
        "lost, promised twice",
    ): "somebody else would have to make the plan anew, and a pod to ask for the place before it is"
    " written again; tests/unit/extender/test_lost_places.py makes that happen",
    _mutant(
        "not-adopted-again",
        "what a pod has stays lost though the agent tells of it",
        extender.not_adopted_again,
        "lost, leaked",
    ): "a replica that has watched the deleted plan writes what it said; all would have to be new,"
    " and the pod to run: tests/unit/extender/test_adoption.py makes that happen",
    _mutant(
        "no-last-look",
        "a VM leaves whatever has changed while it was read how",
        moves.not_looked_again,
        "wrong move",
        moving=True,
    ): "the order would have to be stopped, or forbidden, in the milliseconds in which it is read"
    " how a VM is to leave; tests/unit/extender/moving makes that happen, for each way by force",
}
"""Bugs that no history has shown, and what is thought to stand before each.

That is unproven: with the defence taken away as well, neither 25 histories of pods that come, go
and come again have shown the first bug, nor 20 the third; of the two after that, hundreds have
shown neither, nor have 1,000 shown the second; the last two have been looked for in a minute or two
of histories. They can be planted by name.
"""


def named(name: str) -> Mutant:
    """Return the bug of that name."""
    return next(each for each in (*MUTANTS, *MASKED) if each.name == name)
