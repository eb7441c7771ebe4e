"""Promises the plan does not hold yet."""

from __future__ import annotations

from extender.ledger import Ledger, Promise
from extender.snapshot import Taken
from nodeagent.api.geometry import Placement


def promise(node: str = "node-1", start: int = 0) -> Promise:
    return Promise(node, (Taken("GPU-0", 19, Placement(start, 1)),))


def test_an_assumption_ends_the_presumption() -> None:
    book = Ledger().presume("a", promise(), until=9.0).assume("a", promise())

    assert book.presumed_on("node-1") == ()
    assert book.assumed_on("node-1") == promise().taken


def test_what_the_plan_holds_is_no_longer_promised() -> None:
    assert Ledger().assume("a", promise()).confirm("a") == Ledger()


def test_a_promise_that_was_not_written_is_forgotten() -> None:
    assert Ledger().assume("a", promise()).forget("a") == Ledger()


def test_presumptions_expire_and_assumptions_do_not() -> None:
    book = Ledger().presume("a", promise(), until=30.0).assume("b", promise(start=1))

    assert book.expire(now=31.0) == Ledger().assume("b", promise(start=1))
    assert book.expire(now=29.0) is book


def test_what_is_avoided_is_kept_from_everybody_until_it_is_trusted_or_time_is_up() -> None:
    book = Ledger().avoid("GPU-0", promise(), until=30.0)

    assert book.presumed_on("node-1", besides="a") == promise().taken
    assert book.assume("GPU-0", promise()).forget("GPU-0") == book
    assert book.expire(now=29.0) is book
    assert book.expire(now=31.0) == Ledger()
    assert book.trust(["GPU-0", "GPU-1"]) == Ledger()
    assert book.trust(["GPU-1"]) is book


def test_a_pods_own_promise_is_not_in_its_way() -> None:
    book = Ledger().assume("a", promise()).assume("b", promise(start=3))

    assert book.assumed_on("node-1", besides="a") == promise(start=3).taken
    assert book.assumed_on("node-2") == ()
