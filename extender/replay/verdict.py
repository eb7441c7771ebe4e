"""Should the policy be changed? An answer in a sentence that claims no more than the record shows.

Yes or no are said only where the difference in refusals, or in time waited, is beyond what chance
would bring about in one record of this length (95 %, adjusted for the number of policies tried).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from extender.replay.blocks import Paired
from extender.replay.document import About, Answer, Fidelity, PolicyOutcome, Tally, Verdict
from extender.simulation.paired import Estimate
from extender.verbs.reasons import Code

CERTAIN = 0.05
"""The chance of being wrong that is put up with."""

MOSTLY = 0.9
"""A replay that decides otherwise than the record in more than the rest is said to."""

NAMED = 3  # tenants or profiles that fare worse, in a sentence

_BY_RULES = frozenset(
    {
        Code.OVER_CAP,
        Code.HEADROOM,
        Code.NOT_SHARED,
        Code.NOT_IN_POOL,
        Code.POOL_NOT_ALLOWED,
        Code.PROFILE_NOT_ALLOWED,
    }
)


def verdict(
    outcomes: tuple[PolicyOutcome, PolicyOutcome],
    pair: Paired,
    p: float | None,
    about: About,
    fidelity: Fidelity,
    *,
    differ: bool,
) -> Verdict:
    """Return the answer for the second of two policies against the first; *p* is of refusals."""
    answer, sentence = _answer(outcomes, pair, p, differ=differ)
    reasons = tuple(_reasons(outcomes, pair)) if differ else ()
    return Verdict(answer, sentence, reasons, tuple(_cautions(outcomes, about, fidelity, answer)))


def _answer(
    outcomes: tuple[PolicyOutcome, PolicyOutcome], pair: Paired, p: float | None, *, differ: bool
) -> tuple[Answer, str]:
    before, after = outcomes
    name = after.name
    if not differ:
        text = f"No difference: {name} decides about every VM of this record as {before.name} does."
        return Answer.NO_DIFFERENCE, text
    if not before.all.refused and not after.all.refused:
        text = (
            f"This record cannot tell: nothing was refused under either policy, so {name} had"
            " nothing to improve; whole GPUs left are all there is to go by."
        )
        return Answer.CANNOT_BE_TOLD, text
    certain = p is not None and p < CERTAIN
    fewer, more = certain and pair.refused.mean < 0, certain and pair.refused.mean > 0
    shorter, longer = pair.waited_hours.below_zero, pair.waited_hours.above_zero
    if (fewer and longer) or (more and shorter):
        what = "fewer VMs, who wait longer" if fewer else "more VMs, who wait shorter"
        return Answer.CANNOT_BE_TOLD, f"It depends: {name} refuses {what} in all."
    if fewer or shorter:
        text = "refuses fewer VMs" if fewer else "lets VMs wait less"
        return Answer.YES, f"Yes, as far as this record tells: {name} {text} than {before.name}."
    if more or longer:
        text = "refuses more VMs" if more else "lets VMs wait longer"
        return Answer.NO, f"No: on this record {name} {text} than {before.name}."
    text = (
        f"This record cannot tell: what {name} does otherwise than {before.name} is within what"
        " chance would bring about."
    )
    return Answer.CANNOT_BE_TOLD, text


def _reasons(outcomes: tuple[PolicyOutcome, PolicyOutcome], pair: Paired) -> Iterator[str]:
    before, after = outcomes
    was, now = before.all, after.all
    yield (
        f"Refused when they came: {now.refused} of {now.asked} VMs instead of {was.refused}"
        f" ({_interval(pair.refused, '.0f')})."
    )
    yield (
        f"Never placed: {now.never} instead of {was.never}. Waited in all: {now.waited_hours:.1f} h"
        f" instead of {was.waited_hours:.1f} h ({_interval(pair.waited_hours, '.1f')} h)."
    )
    yield (
        f"GPUs left whole, in the mean: {after.gpus.whole:.1f} instead of {before.gpus.whole:.1f}"
        f" ({_interval(pair.whole, '.2f')}); unusable slices: {after.gpus.unusable:.1f} instead of"
        f" {before.gpus.unusable:.1f} ({_interval(pair.unusable, '.2f')})."
    )


def _interval(of: Estimate, form: str) -> str:
    width = "" if of.ci95 is None else f" ± {of.ci95:{form}}"
    return f"{of.mean:+{form}}{width}"


def _cautions(
    outcomes: tuple[PolicyOutcome, PolicyOutcome],
    about: About,
    fidelity: Fidelity,
    answer: Answer,
) -> Iterator[str]:
    before, after = outcomes
    if answer is Answer.YES:
        for what, was, now in (
            ("tenants", before.tenants, after.tenants),
            ("profiles", before.profiles, after.profiles),
        ):
            if worse := _worse(was, now):
                yield f"Not better for all {what}: {worse}."
    ruled = sum(count for code, count in after.because.items() if code in _BY_RULES)
    if ruled > sum(count for code, count in before.because.items() if code in _BY_RULES):
        yield (
            f"{ruled} of the {after.all.refused} are refused by the policy's own rules, as of caps"
            " or headroom; whether that is wanted, no record tells."
        )
    if fidelity.decisions and fidelity.same < MOSTLY * fidelity.decisions:
        yield (
            f"Played under its own policy the record comes out the same for {fidelity.same} of"
            f" {fidelity.decisions} VMs at first: plans of several pods as one, evictions, held"
            " places and nodes out of order are not played. Both sides of the comparison lack them."
        )
    if about.gaps:
        yield f"The record has {about.gaps} gaps: some of the demand is not in it."
    if about.unknown_stays:
        yield (
            f"{about.unknown_stays} VMs never had a place in the record: how long they would have"
            " stayed is guessed from others that asked for the same."
        )
    if answer in (Answer.YES, Answer.NO):
        yield "It is one record: the demand to come may be another."


def _worse(was: Mapping[str, Tally], now: Mapping[str, Tally]) -> str:
    """Return for whom more is refused, the most first; "" for nobody."""
    more = {
        name: each.refused - was[name].refused
        for name, each in now.items()
        if name in was and each.refused > was[name].refused
    }
    ordered = sorted(more, key=lambda name: (-more[name], name))
    told = [f"{name} {was[name].refused} → {now[name].refused} refused" for name in ordered[:NAMED]]
    if len(ordered) > NAMED:
        told.append(f"and {len(ordered) - NAMED} more")
    return ", ".join(told)
