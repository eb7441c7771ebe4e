"""Should the policy be changed? An answer in a sentence that claims no more than the record shows.

Yes or no are said only where the difference in refusals, or in time waited, is beyond what chance
would bring about in one record of this length (95 %, adjusted for the number of policies tried),
and only where the replay finds room, under the recorded policy, for whom the record has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from extender.replay.blocks import Paired
from extender.replay.document import (
    About,
    Answer,
    Fidelity,
    Kind,
    PolicyOutcome,
    Tally,
    Verdict,
)
from extender.simulation.paired import Estimate
from extender.verbs.reasons import Code

CERTAIN = 0.05
"""The chance of being wrong that is put up with."""

MOSTLY = 0.9
"""A replay that decides otherwise than the record in more than the rest is said to.

One that finds room otherwise in more than the rest is no reason for a yes or a no.
"""

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


class Chances(msgspec.Struct, frozen=True):
    """How likely such differences are where there is none, adjusted for how many are asked for."""

    refused: float | None
    waited: float | None
    whole: float | None = None


def verdict(
    outcomes: tuple[PolicyOutcome, PolicyOutcome],
    pair: Paired,
    p: Chances,
    about: About,
    fidelity: Fidelity,
    kinds: Mapping[Kind, int],
) -> Verdict:
    """Return the answer for the second of two policies against the first.

    *kinds* counts the pods that fare otherwise.
    """
    answer, sentence = _answer(outcomes, pair, p, kinds)
    if answer in (Answer.YES, Answer.NO) and not _faithful(fidelity):
        answer, sentence = Answer.CANNOT_BE_TOLD, _unfaithful(outcomes[1].name, fidelity)
    reasons = tuple(_reasons(outcomes, pair)) if any(kinds.values()) else ()
    return Verdict(answer, sentence, reasons, tuple(_cautions(outcomes, about, fidelity, answer)))


def _answer(
    outcomes: tuple[PolicyOutcome, PolicyOutcome],
    pair: Paired,
    p: Chances,
    kinds: Mapping[Kind, int],
) -> tuple[Answer, str]:
    before, after = outcomes
    name = after.name
    if not any(kinds.values()):
        text = f"No difference: {name} decides about every VM as the recorded policy does."
        return Answer.NO_DIFFERENCE, text
    if not any(count for kind, count in kinds.items() if kind is not Kind.ELSEWHERE):
        return Answer.NO_DIFFERENCE, _only_elsewhere(after, pair, p, refused=before.all.refused)
    if not pair.stretches:
        text = f"This record cannot tell: all of it is at one moment, in which {name} decides"
        return Answer.CANNOT_BE_TOLD, f"{text} otherwise than the recorded policy."
    fewer, more = _sides(pair.refused, p.refused)
    shorter, longer = _sides(pair.waited_hours, p.waited)
    if (fewer and longer) or (more and shorter):
        what = "fewer VMs, who wait longer" if fewer else "more VMs, who wait shorter"
        return Answer.CANNOT_BE_TOLD, f"It depends: {name} refuses {what} in all."
    than = "than the recorded policy"
    if fewer or shorter:
        text = "refuses fewer VMs" if fewer else "lets VMs wait less"
        return Answer.YES, f"Yes, as far as this record tells: {name} {text} {than}."
    if more or longer:
        text = "refuses more VMs" if more else "lets VMs wait longer"
        return Answer.NO, f"No: on this record {name} {text} {than}."
    return Answer.CANNOT_BE_TOLD, _within_chance(name, pair)


def _faithful(of: Fidelity) -> bool:
    """Tell whether the replay has room for whom the record has it, mostly."""
    return of.same + of.elsewhere >= MOSTLY * of.decisions


def _unfaithful(name: str, of: Fidelity) -> str:
    return (
        f"This replay cannot tell: {name} fares otherwise than the recorded policy, but that one,"
        f" played, refuses {of.refused_only} VMs that had room and has room for {of.placed_only}"
        f" that were refused, of {of.decisions}."
    )


def _only_elsewhere(after: PolicyOutcome, pair: Paired, p: Chances, *, refused: int) -> str:
    text = (
        f"No reason to: under {after.name} every VM has its place when it has it under the recorded"
        " policy, some of them elsewhere."
    )
    if not refused:
        text += " There was room for all, so that the record tells nothing of a shortage."
    fewer, more = _sides(pair.whole, p.whole)
    if fewer or more:
        text += f" {after.name} leaves {'more' if more else 'fewer'} GPUs whole."
    return text


def _sides(of: Estimate, p: float | None) -> tuple[bool, bool]:
    """Return whether a difference is certainly below 0, and whether certainly above."""
    certain = p is not None and p < CERTAIN
    return certain and of.mean < 0, certain and of.mean > 0


def _within_chance(name: str, pair: Paired) -> str:
    """Say which way it looks, where that may be chance."""
    chance = "in so few spells of shortage that it may be chance"
    refused, waited = pair.refused.mean, pair.waited_hours.mean
    if refused >= 0 and waited >= 0:
        worse = f"refuses {refused:.0f} more VMs" if refused else "lets VMs wait longer"
        return f"No reason to: {name} {worse}, though {chance}."
    if refused <= 0 and waited <= 0:
        better = f"refuses {-refused:.0f} fewer VMs" if refused else "lets VMs wait less"
        return f"This record cannot tell: {name} {better}, but {chance}."
    what = "fewer VMs, who wait longer" if refused < 0 else "more VMs, who wait shorter"
    return f"This record cannot tell: {name} refuses {what} in all, {chance}."


def _reasons(outcomes: tuple[PolicyOutcome, PolicyOutcome], pair: Paired) -> Iterator[str]:
    before, after = outcomes
    was, now = before.all, after.all
    yield (
        f"Refused when they came: {now.refused} of {now.asked} VMs instead of {was.refused}"
        f" ({_interval(pair.refused, '.0f')})."
    )
    if not pair.stretches:
        yield f"Never placed: {now.never} instead of {was.never}."
        return
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
    mean = of.mean if abs(of.mean) > 1e-9 else 0.0  # what adds up to nothing is not -0
    width = "" if of.ci95 is None else f" ± {of.ci95:{form}}"
    return f"{mean:+{form}}{width}"


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
        if after.all.never > before.all.never:
            yield (f"More VMs never have a place: {after.all.never} instead of {before.all.never}.")
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
    if about.unequal_gangs:
        yield (
            f"{about.unequal_gangs} gangs have members that tell different sizes: the cluster"
            " refuses them, here those of each size are a gang of their own."
        )
    if about.unknown_stays:
        yield (
            f"{about.unknown_stays} VMs never had a place in the record: how long they would have"
            " stayed is guessed from others that asked for the same."
        )
    if answer in (Answer.YES, Answer.NO):
        yield "It is one record: the demand to come may be another."


def _worse(was: Mapping[str, Tally], now: Mapping[str, Tally]) -> str:
    """Return for whom more is refused or never placed, the most first; "" for nobody."""
    more = {
        name: (each.never - was[name].never, each.refused - was[name].refused)
        for name, each in now.items()
        if name in was and (each.refused > was[name].refused or each.never > was[name].never)
    }
    ordered = sorted(more, key=lambda name: (-max(more[name]), name))
    told = []
    for name in ordered[:NAMED]:
        never, refused = more[name]
        if refused > 0:
            told.append(f"{name} {was[name].refused} → {now[name].refused} refused")
        if never > 0:
            told.append(f"{name} {was[name].never} → {now[name].never} never placed")
    if len(ordered) > NAMED:
        told.append(f"and {len(ordered) - NAMED} more")
    return ", ".join(told)
