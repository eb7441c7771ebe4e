"""Bugs that are planted to see whether the judge catches them; each is one that people write."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec

from tests.chaos.mutants import agent, extender

Planting = Callable[[], contextlib.AbstractContextManager[Any]]


class Mutant(msgspec.Struct, frozen=True):
    """A bug: its *name* for the command line, what it does wrong, and how it is *planted*."""

    name: str
    says: str
    planted: Planting


MUTANTS = (
    Mutant("no-test", "the plan's patch has no test operation", extender.without_test),
    Mutant("await-first", "a place is chosen, awaited, then assumed", extender.await_before_assume),
    Mutant(
        "forget-unknown", "an unknown Binding's place is given back", extender.forget_on_unknown
    ),
    Mutant(
        "answer-early",
        "an unknown Binding is read before its time is over",
        extender.answer_too_soon,
    ),
    Mutant("late-binding", "bind goes on after its answer", extender.binding_after_the_answer),
    Mutant(
        "give-back", "a place is given back without reading the pod", extender.give_back_at_once
    ),
    Mutant("no-uid", "the Binding has no UID", extender.without_uid),
    Mutant("unread-reclaim", "reclaim does not read the pod", extender.unread_reclaim),
    Mutant("reclaim-by-name", "reclaim goes by the pod's name", extender.reclaim_by_name),
    Mutant("no-releasing", "slices are free once their entry is gone", extender.no_releasing),
    Mutant("held-to-nobody", "a held place is given to whoever comes", extender.held_to_nobody),
    Mutant("held-for-ever", "what is held is never let go", extender.held_for_ever),
    Mutant("held-too-short", "what is held is let go too soon", extender.held_too_short),
    Mutant("held-unread", "a place is held without reading its pod", extender.held_unread),
    Mutant("never-half-open", "a node that failed is never tried again", extender.never_half_open),
    Mutant("open-fence", "a write has all the time it wants", extender.open_fence),
    Mutant("no-relist", "a new leader lists nothing anew", extender.no_relist),
    Mutant("lead-for-ever", "the leader never steps down", extender.lead_for_ever),
    Mutant("gang-ignored", "members of a gang are ordinary pods", extender.gang_ignored),
    Mutant("gang-in-part", "what fits of a gang is reserved and bound", extender.gang_in_part),
    Mutant("node-time", "staleness goes by the agent's own time", extender.trust_node_time),
    Mutant("in-use", "destroyed without asking whether it is in use", agent.use_unchecked),
    Mutant("gi-id", "a GPU instance's id is its identity", agent.gi_id_as_identity),
    Mutant("all-ours", "what overlaps the journal's is ours", agent.all_is_ours),
    Mutant("journal-late", "the journal is written after the creation", agent.journal_afterwards),
    Mutant("old-boot", "the journal never forgets", agent.old_boot),
    Mutant("two-ties", "two pods are tied at once", agent.two_at_once),
    Mutant("told-early", "realized is told before it is", agent.told_too_soon),
    Mutant("no-withdrawal", "ties are not withdrawn before destroying", agent.no_withdrawal),
)


class Behind(msgspec.Struct, frozen=True):
    """A *bug* that shows only without a *defence* (both by name), where *only* such events are."""

    bug: str
    defence: str
    only: tuple[str, ...]

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The bug alone, no defence alone, and both."""
        return (self.bug,), (self.defence,), (self.bug, self.defence)


MASKED = (
    Mutant("any-version", "an older state replaces a newer one", extender.any_version),
    Mutant("no-claims", "the kubelet's claims are ignored", agent.claims_ignored),
    Mutant(
        "assume-written",
        "an unknown write of the plan counts as done",
        extender.no_read_after_unknown,
    ),
)
"""Bugs that no history shows by themselves; they can be planted by name.

Nobody acts upon a plan that was written in vain: what it was to have is looked for in the view.
"""

_CALM = ("arrive", "depart", "replace", "restart")
BEHIND = (
    # A patch tests the generation it was decided on: what was decided on an old state is refused.
    Behind("any-version", "no-test", (*_CALM, "stick watches")),
    # What is in use is not destroyed, claimed or not.
    Behind("no-claims", "in-use", _CALM),
)
"""What may hide a bug, to be tried by name; the first pair has shown nothing in 25 histories."""


def named(name: str) -> Mutant:
    """Return the bug of that name."""
    return next(each for each in (*MUTANTS, *MASKED) if each.name == name)
