"""Which pods the webhook lets in, and how: decided from values."""

from __future__ import annotations

import copy
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.admission import Admitted, NotOurs, Refused, Schedulers, Verdict, judge
from extender.admission.review import Change, Pod
from nodeagent.api import keys, resources

MIG, VGPU = "nvidia.com/mig-1g.10gb", "nvidia.com/NVIDIA_H100XM-1-10C"
TANGRAM = Schedulers("tangram")
OURS = st.sampled_from((MIG, VGPU, "nvidia.com/mig-1g.10gb.me", "nvidia.com/GRID_A100D-1-10CME"))
TEXT = st.text('aZ0/~.-_ \x00\n\x1b"\\éß\u2028\U0001f4a5', max_size=40)
NAMES = st.one_of(TEXT, OURS, st.sampled_from(("nvidia.com/gpu", "nvidia.com/mig-1g.5gb.shared")))
QUANTITIES = st.one_of(st.integers(), TEXT, st.floats(allow_nan=False, allow_infinity=False))
AMOUNTS = st.one_of(st.none(), st.dictionaries(NAMES, QUANTITIES, max_size=3))
LABELS = st.one_of(
    st.none(),
    st.dictionaries(
        st.one_of(TEXT, st.sampled_from((keys.MANAGED_LABEL, keys.DECISION_ANNOTATION))),
        st.one_of(TEXT, st.just("true")),
        max_size=3,
    ),
)


def containers(amounts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    resources = st.fixed_dictionaries({}, optional={"limits": amounts, "requests": amounts})
    container = st.fixed_dictionaries(
        {}, optional={"resources": st.one_of(st.none(), resources), "name": TEXT}
    )
    return st.one_of(st.none(), st.lists(container, max_size=3))


PODS = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries({}, optional={"labels": LABELS, "annotations": LABELS}),
        "spec": st.fixed_dictionaries(
            {"containers": containers(AMOUNTS)},
            optional={
                "initContainers": containers(AMOUNTS),
                "nodeName": st.one_of(st.just(""), TEXT),
                "schedulerName": st.one_of(
                    st.sampled_from(("", "tangram", "default-scheduler", "second")), TEXT
                ),
            },
        ),
    }
)
"""Pods of any content that the API server's types let through: nothing is validated yet."""

SCHEDULERS = st.sampled_from((Schedulers(), TANGRAM, Schedulers("tangram", frozenset({"second"}))))


def pod(resource: str = MIG, **spec: Any) -> dict[str, Any]:
    asking = {"resources": {"limits": {resource: "1"}, "requests": {resource: "1"}}}
    return {"metadata": {}, "spec": {"containers": [asking], **spec}}


def verdict(raw: dict[str, Any], schedulers: Schedulers = TANGRAM) -> Verdict:
    return judge(msgspec.json.decode(msgspec.json.encode(raw), type=Pod), schedulers)


def patched(raw: dict[str, Any], changes: tuple[Change, ...]) -> dict[str, Any]:
    """Apply a JSON Patch as the API server does, which takes what is not there for an error."""
    result = copy.deepcopy(raw)
    for change in changes:
        *parents, last = (
            part.replace("~1", "/").replace("~0", "~") for part in change.path.split("/")[1:]
        )
        at: Any = result
        for each in parents:
            at = at[each]
        match change.op:
            case "add":
                at[last] = change.value
            case "remove":
                del at[last]
            case other:
                raise AssertionError(other)
    return result


def admitted(raw: dict[str, Any], schedulers: Schedulers = TANGRAM) -> dict[str, Any]:
    found = verdict(raw, schedulers)
    assert isinstance(found, Admitted), found
    return patched(raw, found.changes)


def refusal(raw: dict[str, Any], schedulers: Schedulers = TANGRAM) -> str:
    found = verdict(raw, schedulers)
    assert isinstance(found, Refused), found
    return found.reason


def test_a_pod_of_ours_is_labelled_and_goes_to_the_scheduler_that_asks_us() -> None:
    assert admitted(pod()) == {
        "metadata": {"labels": {"tangram.dev/managed": "true"}},
        "spec": {**pod()["spec"], "schedulerName": "tangram"},
    }


def test_a_vm_that_says_so_itself_is_left_as_it_is() -> None:
    launcher = pod(VGPU, schedulerName="tangram")
    launcher["metadata"]["labels"] = {"kubevirt.io": "virt-launcher", keys.MANAGED_LABEL: "true"}

    assert verdict(launcher) == Admitted(())


def test_where_the_default_scheduler_asks_us_pods_stay_with_it() -> None:
    assert (
        admitted(pod(schedulerName="default-scheduler"), Schedulers())["spec"]
        == (pod(schedulerName="default-scheduler")["spec"])
    )
    assert "schedulerName" not in admitted(pod(), Schedulers())["spec"]


@pytest.mark.parametrize("where", ["containers", "initContainers"])
@pytest.mark.parametrize("what", ["limits", "requests"])
def test_wherever_a_pod_asks_for_a_gpu_instance_it_is_seen(where: str, what: str) -> None:
    asking = {"resources": {what: {VGPU: "1"}}}
    raw = {"metadata": {}, "spec": {"containers": [{}], where: [{}, asking]}}

    assert isinstance(verdict(raw), Admitted)


@pytest.mark.parametrize(
    "resource",
    ["cpu", "nvidia.com/gpu", "nvidia.com/mig-1g.10gb.shared", "example.com/mig-1g.10gb", ""],
)
def test_a_pod_that_asks_for_something_else_may_do_what_it_likes(resource: str) -> None:
    assert verdict(pod(resource, nodeName="node-1", schedulerName="theirs")) == NotOurs()


def test_a_pod_may_not_choose_its_node() -> None:
    reason = refusal(pod(nodeName="node-1"))

    assert f"asks for {MIG} must leave spec.nodeName empty" in reason
    assert "node-1" not in reason


def test_a_pod_may_not_go_to_a_scheduler_that_does_not_ask_us() -> None:
    assert "the scheduler 'theirs' does not ask Tangram" in refusal(pod(schedulerName="theirs"))
    assert "or name default-scheduler" in refusal(pod(schedulerName="tangram"), Schedulers())
    both = Schedulers("tangram", frozenset({"default-scheduler"}))
    assert "schedulerName" not in admitted(pod(), both)["spec"]


def test_a_label_that_says_otherwise_is_put_right_and_others_stay() -> None:
    forged = pod()
    forged["metadata"]["labels"] = {keys.MANAGED_LABEL: "false", "theirs": "x"}

    assert admitted(forged)["metadata"]["labels"] == {keys.MANAGED_LABEL: "true", "theirs": "x"}


def test_a_decision_nobody_made_is_taken_away() -> None:
    forged = pod()
    forged["metadata"]["annotations"] = {keys.DECISION_ANNOTATION: "[]", "theirs": "x"}

    assert admitted(forged)["metadata"]["annotations"] == {"theirs": "x"}


def test_what_a_tenant_wrote_fills_no_answer() -> None:
    reason = refusal(pod(schedulerName="\n\x1b[31m" + "x" * 10**6))

    assert len(reason) < 400
    assert reason.isprintable()


@given(PODS, SCHEDULERS)
def test_whatever_is_admitted_is_admitted_again_unchanged(
    raw: dict[str, Any], schedulers: Schedulers
) -> None:
    found = verdict(raw, schedulers)
    if isinstance(found, Admitted):
        assert verdict(patched(raw, found.changes), schedulers) == Admitted(())


@given(PODS, SCHEDULERS)
def test_nothing_but_label_scheduler_and_forged_decision_is_ever_changed(
    raw: dict[str, Any], schedulers: Schedulers
) -> None:
    found = verdict(raw, schedulers)
    if not isinstance(found, Admitted):
        return
    after = patched(raw, found.changes)
    labels = (raw["metadata"].get("labels") or {}) | {keys.MANAGED_LABEL: "true"}
    annotations = dict(raw["metadata"].get("annotations") or {})
    annotations.pop(keys.DECISION_ANNOTATION, None)
    assert after["metadata"]["labels"] == labels
    assert (after["metadata"].get("annotations") or {}) == annotations
    scheduler = after["spec"].pop("schedulerName", "") or "default-scheduler"
    assert schedulers.ask_us(scheduler)
    assert after["spec"] == {k: v for k, v in raw["spec"].items() if k != "schedulerName"}


@given(PODS, SCHEDULERS)
def test_no_pod_of_ours_comes_in_with_a_node_and_no_other_is_touched(
    raw: dict[str, Any], schedulers: Schedulers
) -> None:
    asked = [
        name
        for kind in ("containers", "initContainers")
        for each in raw["spec"].get(kind) or ()
        for amounts in ((each.get("resources") or {}).values())
        for name in amounts or ()
        if resources.ours(name)
    ]
    found = verdict(raw, schedulers)
    assert isinstance(found, NotOurs) == (not asked)
    if asked and raw["spec"].get("nodeName"):
        assert isinstance(found, Refused)


@given(st.text())
def test_a_refusal_is_a_line_of_text_whatever_the_scheduler_is_called(name: str) -> None:
    found = verdict(pod(schedulerName=name))
    if isinstance(found, Refused):
        assert re.fullmatch(r"vGPU: [^\n]{1,500}", found.reason)
