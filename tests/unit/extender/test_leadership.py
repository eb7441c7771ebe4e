"""What one candidate makes of the Lease it finds."""

from __future__ import annotations

import pytest

from extender.service.leadership import Candidacy, Claim, Record
from extender.settings import InvalidTiming, LeaseTiming

NEW = Candidacy(identity="me", timing=LeaseTiming())


def held(by: str, version: str = "1", *, duration: float = 15.0, transitions: int = 3) -> Record:
    return Record(version, by, duration, transitions)


def test_before_it_has_looked_it_claims_nothing() -> None:
    assert NEW.claim(now=1e9) is None


def test_anothers_lease_is_claimed_once_it_has_not_changed_for_its_duration() -> None:
    seen = NEW.observe(held("other"), now=100.0)
    again = seen.observe(held("other"), now=114.0)

    assert again.claim(now=114.9) is None
    assert again.claim(now=115.0) == Claim("1", "me", 15, transitions=4, renews=False)


def test_a_lease_that_was_renewed_is_counted_anew() -> None:
    seen = NEW.observe(held("other"), now=100.0).observe(held("other", "2"), now=114.0)

    assert seen.claim(now=128.9) is None
    assert seen.claim(now=129.0) is not None


def test_a_holder_that_promised_a_longer_time_is_given_it() -> None:
    seen = NEW.observe(held("other", duration=60.0), now=0.0)

    assert seen.claim(now=59.0) is None
    assert seen.claim(now=60.0) is not None


def test_a_released_lease_is_had_at_once() -> None:
    claim = NEW.observe(held(""), now=5.0).claim(now=5.0)

    assert claim == Claim("1", "me", 15, transitions=4, renews=False)


def test_time_counts_from_before_the_claim_was_sent() -> None:
    leader = NEW.observe(held(""), now=5.0).elected(held("me", "2"), sent=5.0, now=9.0)

    assert leader.leads(now=14.9)
    assert not leader.leads(now=15.0)


def test_a_renewal_that_changed_nothing_renewed_nothing() -> None:
    leader = NEW.observe(held(""), now=0.0).elected(held("me", "2"), sent=0.0, now=0.0)

    assert not leader.elected(held("me", "2"), sent=8.0, now=8.0).leads(now=11.0)


def test_a_leader_that_sees_anothers_name_stops_at_once() -> None:
    leader = NEW.observe(held(""), now=0.0).elected(held("me", "2"), sent=0.0, now=0.0)

    assert not leader.observe(held("somebody with kubectl", "3"), now=1.0).leads(now=1.0)


def test_a_leader_whose_lease_was_deleted_makes_it_again_and_goes_on() -> None:
    leader = NEW.observe(held(""), now=0.0).elected(held("me", "2"), sent=0.0, now=0.0)
    bereft = leader.observe(None, now=2.0)
    claim = bereft.claim(now=2.0)

    assert claim == Claim("", "me", 15, transitions=0, renews=False)
    assert bereft.leads(now=2.0)
    assert bereft.elected(held("me", "9"), sent=2.0, now=2.0).leads(now=11.0)


def test_whoever_makes_the_lease_waits_for_a_leader_there_may_have_been() -> None:
    maker = NEW.observe(None, now=0.0).elected(held("me", "1"), sent=0.0, now=0.0)
    renewed = maker.elected(held("me", "2"), sent=14.0, now=14.0)

    assert not renewed.leads(now=14.9)
    assert renewed.leads(now=15.0)


def test_a_claim_that_was_written_unheard_is_renewed_but_gives_no_time() -> None:
    unheard = NEW.observe(held(""), now=0.0).observe(held("me", "2"), now=2.0)

    assert not unheard.leads(now=2.0)
    assert unheard.claim(now=2.0) == Claim("2", "me", 15, transitions=3, renews=True)


def test_only_what_is_ours_is_released() -> None:
    leader = NEW.observe(held(""), now=0.0).elected(held("me", "2"), sent=0.0, now=0.0)

    assert leader.release(now=1.0) == Claim("2", "", 15, transitions=3, renews=False)
    assert leader.observe(held("other", "3"), now=1.0).release(now=1.0) is None
    assert NEW.release(now=1.0) is None


@pytest.mark.parametrize(
    ("times", "named", "remedy"),
    [
        ({"lease_duration_seconds": 10}, "lease duration is 10 s", "raise it to 11"),
        ({"renew_deadline_seconds": 14.5}, "lease duration is 15 s", "raise it to 16"),
        ({"renew_deadline_seconds": 4.0}, "renew deadline is 4 s", "raise it to 4.8"),
        ({"retry_period_seconds": 5.0}, "renew deadline is 10 s", "or lower the retry period"),
        ({"retry_period_seconds": 0.0}, "retry period must be above 0", "default is 2"),
    ],
)
def test_times_that_do_not_fit_together_name_the_time_and_the_remedy(
    times: dict[str, float], named: str, remedy: str
) -> None:
    with pytest.raises(InvalidTiming) as refused:
        LeaseTiming(**times)  # type: ignore[arg-type]

    assert named in str(refused.value)
    assert remedy in str(refused.value)
