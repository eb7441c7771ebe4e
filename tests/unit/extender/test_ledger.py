"""Promises the plan does not hold yet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extender.ledger import Ledger, Planned, Promise
from extender.packing.choose import Placed
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


def test_what_a_pod_has_lost_is_kept_from_all_others_whatever_it_is_promised() -> None:
    had = [("a", promise()), ("b", Promise("node-1", promise(start=3).taken, "red"))]
    book = Ledger().lose("node-1", had)

    assert book.nodes == {"node-1"}
    assert book.assumed_on("node-1", besides="a") == promise(start=3).taken
    assert book.beside("node-1", besides="a") == {("GPU-0", "red")}
    assert not book.beside("node-1", besides="b")
    assert book.assume("a", promise("node-2")).confirm("a") == book
    assert [pod for pod, _ in book.assume("a", promise("node-2")).certain] == ["a", "b"], "once"
    assert book.expire(now=9.0) is book
    assert book.lose("node-1", had) is book
    assert book.lose("node-1", []) == Ledger()


def test_a_pods_own_promise_is_not_in_its_way() -> None:
    book = Ledger().assume("a", promise()).assume("b", promise(start=3))

    assert book.assumed_on("node-1", besides="a") == promise(start=3).taken
    assert book.assumed_on("node-2") == ()


PODS = st.sampled_from("abc")
NODES = st.sampled_from(["node-1", "node-2"])
STEPS = st.one_of(
    st.tuples(st.just("presume"), PODS, NODES),
    st.tuples(st.just("assume"), PODS, NODES),
    st.tuples(st.just("avoid"), PODS, NODES),
    st.tuples(st.just("plan"), PODS, NODES),
    st.tuples(st.sampled_from(["lose", "find"]), PODS, NODES),
    st.tuples(st.sampled_from(["confirm", "release", "trust", "expire", "look"]), PODS, NODES),
)


def after(book: Ledger, what: str, pod: str, node: str) -> Ledger:
    match what:
        case "presume":
            return book.presume(pod, promise(node), until=2.0)
        case "assume":
            return book.assume(pod, promise(node, start=1))
        case "avoid":
            return book.avoid(pod, promise(node, start=2), until=1.0)
        case "plan":
            placed = Placed("1-10C", 0, "GPU-0", 19, Placement(3, 1))
            return book.plan({pod: Planned(node, (placed,), until=1.0)})
        case "lose":
            return book.lose(node, [(pod, promise(node, start=4))])
        case "find":
            return book.lose(node, [])
        case "confirm":
            return book.confirm(pod)
        case "release":
            return book.release(pod)
        case "trust":
            return book.trust([pod])
        case "expire":
            return book.expire(now=1.0)
        case _:
            return book


@given(st.lists(STEPS, max_size=12))
def test_a_ledger_that_came_about_step_by_step_answers_as_one_made_at_once(
    steps: list[tuple[str, str, str]],
) -> None:
    book = Ledger()
    for step in steps:
        book = after(book, *step)
        if step[0] == "look":  # what is asked for is remembered, and handed on
            assert book.nodes is not None

    at_once = Ledger(book.assumed, book.presumed, book.planned, book.avoided, book.lost)
    assert book.nodes == at_once.nodes
    for node in ("node-1", "node-2"):
        for pod in ("", "a"):
            assert book.assumed_on(node, besides=pod) == at_once.assumed_on(node, besides=pod)
            assert book.presumed_on(node, besides=pod) == at_once.presumed_on(node, besides=pod)
