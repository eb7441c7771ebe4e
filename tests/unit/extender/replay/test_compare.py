"""What two replays are told to differ in, and what is answered: worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import pytest

from extender.replay import verdict as says
from extender.replay.blocks import FEWEST, Paired, paired
from extender.replay.compare import report, worst_first
from extender.replay.document import (
    About,
    Answer,
    Fidelity,
    Kind,
    PolicyOutcome,
    Report,
    Tally,
    Verdict,
    Waits,
)
from extender.replay.making import decided
from extender.replay.meter import Averages, Meter
from extender.replay.play import play
from extender.replay.played import Fate, Played
from extender.replay.recorded import Outcome, Place, Recorded, RecordedGang
from extender.replay.views import view_of, with_places
from extender.replay.words import summary
from extender.simulation.paired import Estimate
from nodeagent.api.gpunode import PodRef
from tests.replayed import FIRST_FIT, node, policy, recorded, vm

HOUR = 3600.0
CAPPED = policy(
    "value: first-fit\n"
    "tenants: [{name: red, namespaces: {matchLabels: {team: red}}, caps: {memorySlices: 1}}]"
)


@pytest.fixture
def found() -> Report:
    """A tenant of two small VMs, of which a cap of one slice lets the second wait for an hour."""
    of = recorded(
        vm(0.0, "x", "1g.10gb"),
        vm(HOUR, "y", "1g.10gb"),
        vm(HOUR, "z", "1g.10gb", namespace="free"),
        vm(4 * HOUR, "end", "7g.80gb", namespace="free"),
        nodes=[node("a", 2)],
        namespaces={"n": {"team": "red"}},
    )
    of = decided(of, FIRST_FIT, [2 * HOUR, 2 * HOUR, HOUR, HOUR])
    replays = [play(of, FIRST_FIT, name="recorded"), play(of, CAPPED, name="new")]
    return report(of, [FIRST_FIT, CAPPED], replays)


def test_pods_are_counted_in_all_by_profile_and_by_tenant(found: Report) -> None:
    before, after = found.policies

    assert before.all == Tally(4, 0, 0, 0.0)
    assert after.all == Tally(4, 1, 0, 1.0)
    assert after.because == {"over-cap": 1}
    assert after.waits == Waits(HOUR, HOUR, HOUR)
    assert after.profiles == {"1g.10gb": Tally(3, 1, 0, 1.0), "7g.80gb": Tally(1, 0, 0, 0.0)}
    assert after.tenants == {"red": Tally(2, 1, 0, 1.0), "(no tenant)": Tally(2, 0, 0, 0.0)}


def test_each_vm_that_fares_otherwise_is_listed_with_how(found: Report) -> None:
    (comparison,) = found.comparisons

    y, z = comparison.differences
    assert (y.kind, y.before.placed_at, y.after.placed_at) == (Kind.REFUSED_NOW, HOUR, 2 * HOUR)
    assert (y.after.refused, y.before.refused) == ("over-cap", "")
    assert z.kind is Kind.ELSEWHERE  # one slice lower: what y would have had
    assert comparison.kinds == {Kind.REFUSED_NOW: 1, Kind.ELSEWHERE: 1}
    assert comparison.alike == 2
    assert worst_first(comparison.differences)[0] is y


def test_what_changes_over_time_adds_up_to_what_there_is_in_all(found: Report) -> None:
    for each in found.policies:
        assert sum(stretch.asked for stretch in each.over_time) == each.all.asked
        assert sum(stretch.refused for stretch in each.over_time) == each.all.refused
        lasts = found.record.seconds / len(each.over_time) / HOUR
        waiting = sum(stretch.waiting * lasts for stretch in each.over_time)
        assert waiting == pytest.approx(each.all.waited_hours)
        mean = sum(stretch.gpus.used for stretch in each.over_time) / len(each.over_time)
        assert mean == pytest.approx(each.gpus.used)


def test_one_refusal_more_is_no_reason_to_say_yes_or_no(found: Report) -> None:
    (comparison,) = found.comparisons

    assert comparison.verdict.answer is Answer.CANNOT_BE_TOLD
    assert comparison.refused == Estimate(1.0)  # four VMs make too few stretches for more


def test_the_report_goes_through_json(found: Report) -> None:
    written = msgspec.json.encode(found)

    assert b'"answer":"cannot be told"' in written
    assert msgspec.json.decode(written, type=Report) == found


def test_a_replay_is_held_against_what_was_recorded_pod_by_pod() -> None:
    first, later = Place("a", "a/0", "1g.10gb", 0), Place("a", "a/0", "1g.10gb", 6)
    of = recorded(*(vm(float(at), uid, "1g.10gb") for at, uid in enumerate("abcde")))
    of = msgspec.structs.replace(
        of,
        outcomes=(
            Outcome(0.0, "a", (first,)),
            Outcome(1.0, "b", (later,)),
            Outcome(2.0, "c", (), "no-room"),
            Outcome(3.0, "c", (later,)),
        ),
    )

    told = report(of, [FIRST_FIT], [play(of, FIRST_FIT)]).fidelity

    assert told == Fidelity(decisions=3, same=1, elsewhere=1, refused_only=0, placed_only=1)


def _played(refused_in: dict[int, int], until: float, stretches: int = 12) -> Played:
    """Return a replay in which so many pods were refused in some of its stretches."""
    fates = []
    for at in range(stretches):
        since = until * (at + 0.5) / stretches
        for number in range(10):
            late = number < refused_in.get(at, 0)
            fates.append(Fate(since, "no-room" if late else "", since + (10.0 if late else 0.0)))
    return Played("", "", tuple(fates), Meter(), until)


def test_differences_are_summed_over_stretches_and_come_with_an_interval() -> None:
    before = _played(dict.fromkeys(range(12), 5), HOUR)
    after = _played({at: 2 if at % 2 else 4 for at in range(12)}, HOUR)

    pair = paired(before, after)

    assert pair.stretches == 12
    assert pair.refused.mean == pytest.approx(-24.0)
    # Twelve differences of -1 and -3: a standard deviation of 1.0445, t for 11 degrees 2.201.
    assert pair.refused.ci95 == pytest.approx(12 * 2.201 * 1.0445 / 12**0.5, rel=1e-3)
    assert pair.waited_hours.mean == pytest.approx(-24 * 10 / HOUR)


def test_stretches_that_resemble_their_neighbours_are_joined() -> None:
    before = _played({}, HOUR)
    after = _played(dict.fromkeys(range(6), 5), HOUR)

    pair = paired(before, after)

    assert pair.stretches == 6 >= FEWEST
    assert pair.refused.mean == 30.0


def test_stretches_that_resemble_each_other_to_the_end_have_neither_interval_nor_chance() -> None:
    spell = {at: 10 if at < 5 else 0 for at in range(7)}

    pair = paired(_played({}, HOUR, 7), _played(spell, HOUR, 7))

    assert pair.refused == Estimate(50.0)


def test_differences_that_are_all_alike_show_no_certainty() -> None:
    pair = paired(_played({}, HOUR), _played(dict.fromkeys(range(12), 2), HOUR))

    assert pair.refused == Estimate(24.0)


def test_arrivals_in_fewer_bursts_than_stretches_are_needed_show_nothing() -> None:
    before, after = _played({}, HOUR, 3), _played({0: 3, 1: 2, 2: 1}, HOUR, 3)

    pair = paired(before, after)

    assert pair.stretches < FEWEST
    assert pair.refused == Estimate(6.0)


def _filled(used: Callable[[int], int], stretches: int = 28) -> Played:
    """Return a replay in whose stretches so many of two GPUs are in use, from each one's middle."""
    played = _played({}, HOUR, stretches)
    for at in range(stretches):
        played.meter.now = HOUR * at / stretches
        view = view_of(recorded(nodes=[node("a", 2)]), node("a", 2), FIRST_FIT)
        here = [Place("a", f"a/{number}", "7g.80gb", 0) for number in range(used(at))]
        played.meter.look_at(with_places(view, PodRef("n", "x", "x"), here))
    return played


def test_one_long_stay_elsewhere_is_no_proof_that_gpus_are_left_whole() -> None:
    pair = paired(_filled(lambda at: 1), _filled(lambda at: int(at < 14)))

    assert (pair.whole.ci95, pair.whole.p) == (None, None)
    assert pair.whole.mean == pytest.approx(0.5, abs=0.02)
    assert pair.refused == Estimate(0.0, 0.0, 1.0)


def test_gpus_left_whole_in_stretches_that_are_not_alike_have_their_chance() -> None:
    pair = paired(_filled(lambda at: 1), _filled(lambda at: at * at * 7 % 11 % 2))

    assert pair.whole.p is not None
    assert pair.whole.above_zero


def test_a_record_of_no_time_has_no_stretches_and_says_so() -> None:
    of: Recorded = recorded(
        vm(0.0, "x", "1g.10gb"),
        vm(0.0, "y", "1g.10gb"),
        nodes=[node("a", 2)],
        namespaces={"n": {"team": "red"}},
    )
    replays = [play(of, FIRST_FIT), play(of, CAPPED, name="new")]

    told = report(of, [FIRST_FIT, CAPPED], replays).comparisons[0]

    assert told.stretches == 0
    assert told.verdict.answer is Answer.CANNOT_BE_TOLD
    assert "at one moment" in told.verdict.sentence
    assert told.verdict.reasons == (
        "Refused when they came: 1 of 2 VMs instead of 0 (+1).",
        "Never placed: 1 instead of 0.",
    )
    alike = report(of, [FIRST_FIT, FIRST_FIT], [replays[0], replays[0]]).comparisons[0]
    assert alike.verdict.answer is Answer.NO_DIFFERENCE


def test_gangs_whose_members_tell_different_sizes_are_counted_and_told() -> None:
    two, three = RecordedGang("gang", 2), RecordedGang("gang", 3)
    of = recorded(
        vm(0.0, "x", "1g.10gb", gang=two),
        vm(1.0, "y", "1g.10gb", gang=three),
        vm(2.0, "z", "1g.10gb", gang=three, namespace="other"),
    )

    told = report(of, [FIRST_FIT] * 2, [play(of, FIRST_FIT)] * 2)

    assert told.record.unequal_gangs == 1
    cautions = told.comparisons[0].verdict.cautions
    assert any(each.startswith("1 gangs have members that tell different") for each in cautions)


def test_recorded_decisions_that_come_out_the_same_are_called_the_first_ones(
    found: Report,
) -> None:
    assert "all 4 recorded first decisions come out the same" in summary(found)


# -- the verdict -----------------------------------------------------------------------------------

ABOUT = About("2026-01-01T00:00:00Z", 7 * 86_400.0, "default", "v1", 1, 8, 0, 100, 0, 0)
FAITHFUL = Fidelity(100, 100, 0, 0, 0)
GPUS = Averages(8.0, 6.0, 40.0, 5.0, 2.0)


NONE = Estimate(0.0, 1.0, 1.0)
OTHERWISE = {Kind.REFUSED_NOW: 1}


def _outcome(name: str, refused: int, **fields: object) -> PolicyOutcome:
    known = PolicyOutcome(
        name,
        "",
        Tally(100, refused, 0, float(refused)),
        {"no-room": refused} if refused else {},
        None,
        GPUS,
        {"1g.10gb": Tally(100, refused, 0, 0.0)},
        {"red": Tally(100, refused, 0, 0.0)},
        (),
    )
    return msgspec.structs.replace(known, **fields)


def _answer(
    before: PolicyOutcome,
    after: PolicyOutcome,
    *,
    refused: Estimate = NONE,
    waited: Estimate = NONE,
    whole: Estimate = NONE,
    kinds: Mapping[Kind, int] = OTHERWISE,
    whole_p: float | None = None,
    about: About = ABOUT,
    fidelity: Fidelity = FAITHFUL,
) -> Verdict:
    pair = Paired(refused, waited, NONE, whole, 7)
    chances = says.Chances(refused.p, waited.p, whole.p if whole_p is None else whole_p)
    return says.verdict((before, after), pair, chances, about, fidelity, kinds)


FEWER, MORE = Estimate(-20.0, 5.0, 0.001), Estimate(20.0, 5.0, 0.001)


@pytest.mark.parametrize(
    ("refused", "waited", "answer"),
    [
        (FEWER, Estimate(0.0, 1.0, 1.0), Answer.YES),
        (FEWER, FEWER, Answer.YES),
        (Estimate(-1.0, 5.0, 0.5), FEWER, Answer.YES),
        (MORE, Estimate(0.0, 1.0, 1.0), Answer.NO),
        (Estimate(1.0, 5.0, 0.5), MORE, Answer.NO),
        (FEWER, MORE, Answer.CANNOT_BE_TOLD),
        (MORE, FEWER, Answer.CANNOT_BE_TOLD),
        (Estimate(-1.0, 5.0, 0.5), Estimate(-1.0, 5.0, 0.5), Answer.CANNOT_BE_TOLD),
        (Estimate(-20.0), Estimate(-20.0), Answer.CANNOT_BE_TOLD),
    ],
)
def test_yes_and_no_are_said_only_beyond_what_chance_brings_about(
    refused: Estimate, waited: Estimate, answer: Answer
) -> None:
    told = _answer(_outcome("old", 40), _outcome("new", 20), refused=refused, waited=waited)

    assert told.answer is answer
    assert "new" in told.sentence


def test_a_fleet_that_refuses_nobody_tells_nothing_of_refusals() -> None:
    told = _answer(_outcome("old", 0), _outcome("new", 0), kinds={Kind.ELSEWHERE: 9})

    assert told.answer is Answer.NO_DIFFERENCE
    assert "room for all" in told.sentence
    assert told.reasons


def test_gpus_are_said_to_be_left_whole_only_by_the_adjusted_chance() -> None:
    whole = Estimate(1.0, 0.5, 0.01)

    def sentence(adjusted: float) -> str:
        return _answer(
            _outcome("old", 0),
            _outcome("new", 0),
            whole=whole,
            whole_p=adjusted,
            kinds={Kind.ELSEWHERE: 9},
        ).sentence

    assert "new leaves more GPUs whole" in sentence(0.04)
    assert "GPUs whole" not in sentence(0.06)


@pytest.mark.parametrize("refused", [FEWER, MORE])
def test_a_replay_that_refuses_whom_the_record_has_placed_tells_neither_yes_nor_no(
    refused: Estimate,
) -> None:
    def told(fidelity: Fidelity) -> Verdict:
        before, after = _outcome("old", 40), _outcome("new", 20)
        return _answer(before, after, refused=refused, fidelity=fidelity)

    assert told(Fidelity(100, 50, 40, 5, 5)).answer in (Answer.YES, Answer.NO)
    doubted = told(Fidelity(100, 50, 39, 6, 5))
    assert doubted.answer is Answer.CANNOT_BE_TOLD
    assert "refuses 6 VMs that had room and has room for 5 that were refused" in doubted.sentence


def test_a_yes_tells_of_those_who_never_have_a_place() -> None:
    after = _outcome("new", 20, all=Tally(100, 20, 7, 9.0), tenants={"red": Tally(100, 20, 7, 9.0)})

    told = _answer(_outcome("old", 40), after, refused=FEWER)

    assert told.answer is Answer.YES
    assert "Not better for all tenants: red 0 → 7 never placed." in told.cautions
    assert "More VMs never have a place: 7 instead of 0." in told.cautions


def test_without_a_difference_that_is_the_answer() -> None:
    told = _answer(_outcome("old", 3), _outcome("new", 3), kinds={})

    assert (told.answer, told.reasons) == (Answer.NO_DIFFERENCE, ())


def test_a_yes_names_those_for_whom_it_is_not_better() -> None:
    after = _outcome("new", 20, tenants={"red": Tally(100, 60, 0, 0.0)})

    told = _answer(_outcome("old", 40), after, refused=FEWER)

    assert "Not better for all tenants: red 40 → 60 refused." in told.cautions


def test_refusals_by_the_policy_s_own_rules_are_told_apart() -> None:
    after = _outcome("new", 20, because={"over-cap": 15, "no-room": 5})

    told = _answer(_outcome("old", 4), after, refused=MORE)

    assert any(
        each.startswith("15 of the 20 are refused by the policy's own") for each in told.cautions
    )


def test_gaps_guessed_stays_and_an_unfaithful_replay_are_told() -> None:
    told = _answer(
        _outcome("old", 40),
        _outcome("new", 20),
        refused=FEWER,
        about=msgspec.structs.replace(ABOUT, gaps=2, unknown_stays=7),
        fidelity=Fidelity(100, 60, 40, 0, 0),
    )

    text = " ".join(told.cautions)
    assert "2 gaps" in text
    assert "7 VMs never had a place" in text
    assert "60 of 100 VMs" in text
