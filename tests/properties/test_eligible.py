"""Where a pod may run, against an oracle that reads the same JSON and knows nothing of ours."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from hypothesis import event, given
from hypothesis import strategies as st

from extender.cluster import objects
from extender.kubescheduler.eligible import Constraints, Traits, why_not
from tests.builders import raw_pod

KEYS = st.sampled_from(["zone", "size", "tangram.dev/pool", "metadata.name", "not a key"])
VALUES = st.sampled_from(["", "a", "b", "n1", "1", "2", "10", "-1", "not a value", "9" * 25])
LABELS = st.dictionaries(
    st.sampled_from(["zone", "size", "tangram.dev/pool"]),
    st.sampled_from(["", "a", "b", "1", "2", "10"]),
)
OPERATORS = st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Near"])


@st.composite
def requirements(draw: st.DrawFn) -> dict[str, Any]:
    """Most of them such as can be asked."""
    operator = draw(OPERATORS)
    most = {"Exists": 0, "DoesNotExist": 0, "Gt": 1, "Lt": 1}.get(operator, 3)
    least = min(most, 1)
    if draw(st.integers(0, 9)) == 0:
        least, most = 0, 3
    values = draw(st.lists(VALUES, min_size=least, max_size=most))
    return {"key": draw(KEYS), "operator": operator, "values": values}


FIELDS = st.fixed_dictionaries(
    {
        "key": st.just("metadata.name") | KEYS,
        "operator": st.sampled_from(["In", "NotIn"]) | OPERATORS,
        "values": st.lists(st.sampled_from(["n1", "n2"]), min_size=1, max_size=1)
        | st.lists(VALUES, max_size=2),
    }
)
TERMS = st.fixed_dictionaries(
    {},
    optional={
        "matchExpressions": st.lists(requirements(), max_size=3),
        "matchFields": st.lists(FIELDS, max_size=2),
    },
)
EFFECTS = ["NoSchedule", "NoExecute", "PreferNoSchedule"]
TAINTS = st.fixed_dictionaries(
    {"key": st.sampled_from(["gpu", "spot"]), "effect": st.sampled_from(EFFECTS)},
    optional={"value": st.sampled_from(["a", "b"])},
)
TOLERATIONS = st.fixed_dictionaries(
    {},
    optional={
        "key": st.sampled_from(["", "gpu", "spot"]),
        "operator": st.sampled_from(["", "Equal", "Exists", "Gt"]),
        "value": st.sampled_from(["", "a", "b"]),
        "effect": st.sampled_from(["", *EFFECTS]),
    },
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "nodeSelector": LABELS,
        "affinity": st.lists(TERMS, max_size=3).map(
            lambda terms: {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}
                }
            }
        ),
        "tolerations": st.lists(TOLERATIONS, max_size=3),
    },
)
NODES = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {"name": st.sampled_from(["n1", "n2"]), "labels": LABELS}
        ),
        "spec": st.fixed_dictionaries({}, optional={"taints": st.lists(TAINTS, max_size=2)}),
    }
)


@given(SPECS, NODES)
def test_a_pod_may_run_where_the_oracle_says_so(spec: dict[str, Any], node: dict[str, Any]) -> None:
    pod = msgspec.json.encode(raw_pod("1-10C", **spec, nodeName="n1"))
    said = objects.watched_pod(pod, devices_per_pod=8).constraints or Constraints()
    there = objects.node(msgspec.json.encode(node))

    found = why_not(said, Traits(there.name, there.labels, there.taints))

    event(re.sub("taint .*", "taint", found) or "may run")
    assert (found == "") is allowed(spec, node)


def allowed(spec: dict[str, Any], node: dict[str, Any]) -> bool:
    """The oracle: the three rules, said once more by the letter of the API's documentation."""
    labels: dict[str, str] = node["metadata"]["labels"]
    if not spec.get("nodeSelector", {}).items() <= labels.items():
        return False
    if "affinity" in spec:
        required = spec["affinity"]["nodeAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]
        if True not in [selects(term, node) for term in required["nodeSelectorTerms"]]:
            return False
    hard = [t for t in node["spec"].get("taints", []) if t["effect"] != "PreferNoSchedule"]
    return not [
        t for t in hard if not any(tolerates(each, t) for each in spec.get("tolerations", []))
    ]


def tolerates(toleration: dict[str, str], taint: dict[str, str]) -> bool:
    for part in ("key", "effect"):
        if toleration.get(part) and toleration[part] != taint[part]:
            return False
    if toleration.get("operator") == "Exists":
        return True
    exact = toleration.get("operator", "") in ("", "Equal")
    return exact and toleration.get("value", "") == taint.get("value", "")


def selects(term: dict[str, Any], node: dict[str, Any]) -> bool:
    expressions, fields = term.get("matchExpressions", []), term.get("matchFields", [])
    labels = node["metadata"]["labels"]
    answers = [of_label(each, labels) for each in expressions]
    answers += [of_field(each, node["metadata"]["name"]) for each in fields]
    return bool(answers) and None not in answers and False not in answers


def of_label(asked: dict[str, Any], labels: dict[str, str]) -> bool | None:
    """Whether labels are as asked; None if that cannot be asked, and the term matches nothing."""
    key, values = asked["key"], asked["values"]
    if " " in key or any(" " in value or value.startswith("-") for value in values):
        return None
    there = key in labels
    match asked["operator"], len(values):
        case "In", count if count:
            return there and labels[key] in values
        case "NotIn", count if count:
            return not (there and labels[key] in values)
        case "Exists", 0:
            return there
        case "DoesNotExist", 0:
            return not there
        case ("Gt" | "Lt") as than, 1:
            if not values[0].isdigit() or len(values[0]) > 18:
                return None
            if not there or not labels[key].isdigit():
                return False
            mine, theirs = int(labels[key]), int(values[0])
            return mine > theirs if than == "Gt" else mine < theirs
    return None


def of_field(asked: dict[str, Any], name: str) -> bool | None:
    if asked["key"] != "metadata.name" or len(asked["values"]) != 1:
        return None
    same = asked["values"] == [name]
    return {"In": same, "NotIn": not same}.get(asked["operator"])
