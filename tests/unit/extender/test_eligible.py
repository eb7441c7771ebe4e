"""On which nodes a pod may run, by what it says of nodes and they of themselves."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from extender.cluster import objects
from extender.cluster.confines import MOST_BYTES, MOST_PARTS
from extender.kubescheduler.eligible import (
    AFFINITY,
    SELECTOR,
    UNREAD,
    Constraints,
    Traits,
    why_not,
)
from tests.builders import raw_pod

GPU = {"key": "gpu", "value": "reserved", "effect": "NoSchedule"}
NOT_TOLERATED = "taint gpu=reserved:NoSchedule is not tolerated"


def constraints(**spec: Any) -> Constraints:
    """What is kept of a pod that is bound."""
    pod = raw_pod("1-10C", nodeName="n1", **spec)
    read = objects.watched_pod(msgspec.json.encode(pod), devices_per_pod=8)
    return read.constraints or Constraints()


def traits(*taints: dict[str, str], name: str = "n7", **labels: str) -> Traits:
    node = {"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}}
    read = objects.node(msgspec.json.encode(node))
    return Traits(read.name, read.labels, read.taints)


def tolerated(taint: dict[str, str], *tolerations: dict[str, object]) -> bool:
    return why_not(constraints(tolerations=tolerations), traits(taint)) == ""


def affine(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": terms}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def asks(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": values}


def matched(node: Traits, *terms: dict[str, Any]) -> bool:
    why = why_not(constraints(affinity=affine(*terms)), node)
    assert why in ("", AFFINITY)
    return not why


def met(node: Traits, key: str, operator: str, *values: str) -> bool:
    return matched(node, {"matchExpressions": [asks(key, operator, *values)]})


def test_a_pod_that_asks_for_nothing_may_run_on_any_node_without_taints() -> None:
    assert constraints() == Constraints()
    assert why_not(constraints(), traits(zone="a")) == ""
    assert why_not(constraints(), Traits("never heard of")) == ""


def test_every_label_of_a_node_selector_is_to_be_there() -> None:
    said = constraints(nodeSelector={"zone": "a", "disk": ""})

    assert why_not(said, traits(zone="a", disk="")) == ""
    for there in (traits(zone="a"), traits(zone="b", disk=""), traits(disk=""), traits()):
        assert why_not(said, there) == SELECTOR


def test_a_taint_is_told_of_that_is_not_tolerated() -> None:
    assert why_not(constraints(), traits(GPU)) == NOT_TOLERATED
    bare = {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}
    told = "taint node.kubernetes.io/not-ready:NoExecute is not tolerated"
    assert why_not(constraints(), traits(bare)) == told


@pytest.mark.parametrize(
    ("toleration", "suits"),
    [
        ({"key": "gpu", "operator": "Equal", "value": "reserved", "effect": "NoSchedule"}, True),
        ({"key": "gpu", "value": "reserved"}, True),
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 300}, True),
        ({"key": "gpu", "operator": "Equal", "value": "other"}, False),
        ({"key": "gpu"}, False),
        ({"key": "gp", "operator": "Exists"}, False),
        ({"operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "gpu", "operator": "Gt", "value": "reserved"}, False),
        ({"key": "gpu", "operator": "exists"}, False),
    ],
)
def test_a_toleration_is_of_a_taint_by_key_value_and_effect(
    toleration: dict[str, object], *, suits: bool
) -> None:
    assert tolerated(GPU, toleration) is suits
    assert tolerated(GPU, {"key": "other", "operator": "Exists"}, toleration) is suits


def test_each_taint_that_bars_is_to_be_tolerated_and_no_other() -> None:
    preferred = {"key": "spot", "effect": "PreferNoSchedule"}
    evicting = {"key": "gpu", "value": "reserved", "effect": "NoExecute"}
    said = constraints(tolerations=[{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}])

    assert why_not(said, traits(preferred, GPU)) == ""
    assert why_not(said, traits(GPU, evicting)) == "taint gpu=reserved:NoExecute is not tolerated"


@pytest.mark.parametrize(
    ("operator", "values", "on"),
    [
        ("In", ("a", "b"), "ab"),
        ("NotIn", ("a", "b"), "c-"),
        ("Exists", (), "abc"),
        ("DoesNotExist", (), "-"),
        ("In", (), ""),
        ("NotIn", (), ""),
        ("Exists", ("a",), ""),
        ("DoesNotExist", ("a",), ""),
        ("NotIn", ("no label's value",), ""),
        ("Equals", ("a",), ""),
    ],
)
def test_labels_are_asked_of_by_operators_and_what_cannot_be_asked_is_met_by_none(
    operator: str, values: tuple[str, ...], on: str
) -> None:
    nodes = {"a": traits(zone="a"), "b": traits(zone="b"), "c": traits(zone="c"), "-": traits()}

    assert "".join(at for at, node in nodes.items() if met(node, "zone", operator, *values)) == on


@pytest.mark.parametrize(
    ("operator", "values", "on"),
    [
        ("Gt", ("9",), "10 11"),
        ("Gt", ("10",), "11"),
        ("Lt", ("11",), "-3 9 10"),
        ("Lt", ("9", "11"), ""),
        ("Gt", (), ""),
        ("Gt", ("nine",), ""),
        ("Gt", ("9223372036854775808",), ""),
        ("Lt", ("9223372036854775807",), "-3 9 10 11"),
    ],
)
def test_numbers_are_compared_as_numbers(operator: str, values: tuple[str, ...], on: str) -> None:
    nodes = [traits(size=each) for each in ("-3", "9", "10", "11", "ten", "99999999999999999999")]
    nodes.append(traits())

    found = [node.labels["size"] for node in nodes if met(node, "size", operator, *values)]
    assert " ".join(found) == on


def test_of_terms_one_is_to_match_and_of_each_all_that_it_requires() -> None:
    first = {"matchExpressions": [asks("zone", "In", "a"), asks("disk", "Exists")]}
    second = {"matchExpressions": [asks("zone", "In", "b")]}

    assert matched(traits(zone="a", disk="ssd"), first, second)
    assert matched(traits(zone="b"), first, second)
    assert not matched(traits(zone="a"), first, second)
    assert not matched(traits(), first, second)


def test_terms_that_are_empty_or_wrong_match_no_node_and_none_of_them_leaves_none() -> None:
    wrong = {"matchExpressions": [asks("zone", "NotIn", "b"), asks("zone", "Near", "a")]}
    right = {"matchExpressions": [asks("zone", "In", "a")]}

    assert not matched(traits(zone="a"), {})
    assert not matched(traits(zone="a"))
    assert not matched(traits(zone="a"), wrong)
    assert matched(traits(zone="a"), {}, wrong, right)


def test_a_node_is_selected_by_its_name_as_a_field_and_by_no_other_field() -> None:
    def by(operator: str, *values: str, key: str = "metadata.name") -> bool:
        return matched(traits(zone="a"), {"matchFields": [asks(key, operator, *values)]})

    assert by("In", "n7")
    assert not by("In", "n8")
    assert by("NotIn", "n8")
    assert not by("NotIn", "n7")
    assert not by("In", "n7", "n8")
    assert not by("Exists")
    assert not by("NotIn", "x", key="spec.unschedulable")
    both = {
        "matchFields": [asks("metadata.name", "In", "n7")],
        "matchExpressions": [asks("zone", "In", "b")],
    }
    assert not matched(traits(zone="a"), both)
    assert matched(traits(zone="b"), both)


def test_what_is_preferred_and_what_other_pods_have_to_do_with_it_is_not_asked() -> None:
    preferred = [{"weight": 1, "preference": {"matchExpressions": [asks("zone", "Exists")]}}]
    affinity = {
        "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred},
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [{"x": "y" * 20_000}]
        },
    }

    assert constraints(affinity=affinity) == Constraints()


@pytest.mark.parametrize(
    "spec",
    [
        {"nodeSelector": {f"key-{at}": "x" for at in range(MOST_PARTS + 1)}},
        {"nodeSelector": {"key": "x" * MOST_BYTES}},
        {"tolerations": [{"operator": "Exists"}] * (MOST_PARTS + 1)},
        {"affinity": affine(*[{}] * (MOST_PARTS + 1))},
        {"affinity": affine({"matchFields": [asks("k", "In", *"x" * MOST_PARTS)]})},
        {"nodeSelector": {"zone": 1}},
        {"tolerations": "all"},
    ],
    ids=["labels", "long", "tolerations", "terms", "values", "a number", "a word"],
)
def test_of_what_is_too_much_to_look_at_or_not_as_it_should_be_nothing_is_taken_to_be_so(
    spec: dict[str, Any],
) -> None:
    said = constraints(**spec)

    assert said == Constraints(unread=True)
    assert why_not(said, traits(zone="a")) == UNREAD


def test_as_much_as_may_be_is_looked_at() -> None:
    labels = {f"key-{at}": "x" for at in range(MOST_PARTS)}

    assert why_not(constraints(nodeSelector=labels), traits(**labels)) == ""


def test_of_a_pod_that_is_not_bound_or_has_ended_nothing_is_kept() -> None:
    waits = raw_pod("1-10C", nodeSelector={"zone": "a"})
    over = {**raw_pod("1-10C", nodeName="n1", nodeSelector={"zone": "a"})}
    over["status"] = {"phase": "Failed"}

    for pod in (waits, over):
        assert objects.watched_pod(msgspec.json.encode(pod), devices_per_pod=8).constraints is None


def test_pods_that_say_the_same_share_what_is_kept() -> None:
    first, second = (constraints(nodeSelector={"zone": "a"}, priority=at) for at in (1, 2))

    assert first is second


def test_what_is_told_of_a_taint_is_no_longer_than_a_line() -> None:
    long = {"key": f"{'a' * 253}/{'b' * 63}", "value": "c" * 63, "effect": "NoSchedule"}

    assert len(why_not(constraints(), traits(long))) < 160
