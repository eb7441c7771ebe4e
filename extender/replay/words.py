"""Lengths, moments and places in words: the same in a table and in a page."""

from __future__ import annotations

from datetime import datetime, timedelta

from extender.replay.document import Comparison, How, Report, Tally

_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def length(seconds: float) -> str:
    """Return a length of time, as exactly as one reads it.

    >>> length(5400.0)
    '1.5 h'
    """
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def moment(begins: str, seconds: float) -> str:
    """Return when something happened so many seconds after a record *begins*.

    >>> moment("2026-01-31T08:00:00Z", 60.0)
    '2026-01-31 08:01'
    """
    try:
        at = datetime.fromisoformat(begins) + timedelta(seconds=seconds)
    except OverflowError:
        return f"{seconds:.0f} s"
    return at.strftime("%Y-%m-%d %H:%M")


def refused(of: Tally) -> str:
    """Return how many were refused, and which share that is."""
    share = of.refused / of.asked if of.asked else 0.0
    return f"{of.refused} ({share:.2%})" if of.refused else "0"


def places(how: How, came: float) -> str:
    """Return where a pod is placed, and how long after it *came*."""
    if how.placed_at is None:
        return f"never ({how.refused})" if how.refused else "never"
    where = " + ".join(f"{each.node} {each.gpu} {each.profile}@{each.start}" for each in how.places)
    later = how.placed_at - came
    return f"{where}, after {length(later)}" if later else where


def chances(of: Comparison) -> str:
    """Return how likely such differences are by chance, to go on with; "" where nobody knows."""
    if of.p_refused is None or of.p_waited is None:
        return ""
    return (
        f"; p = {of.p_refused:.2g} for refusals and {of.p_waited:.2g} for the time waited, adjusted"
        " for how much was asked for"
    )


def summary(found: Report) -> str:
    """Return what was played, and how it compares with what was recorded."""
    of, like = found.record, found.fidelity
    text = (
        f"{of.arrivals} VMs in {length(of.seconds)} from {moment(of.begins, 0.0)},"
        f" on {of.gpus} GPUs of {of.nodes} nodes."
    )
    if like.decisions and like.same == like.decisions:
        text += (
            f" Played under its own policy, all {like.same} recorded first decisions come out the"
            " same."
        )
    elif like.decisions:
        text += (
            f" Under its own policy {like.same} of {like.decisions} recorded first decisions come"
            f" out the same, {like.elsewhere} elsewhere; {like.refused_only} are refused only here,"
            f" {like.placed_only} only in the record."
        )
    return text
