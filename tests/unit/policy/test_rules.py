"""The rules of a policy file: what they say, and what is refused, all of it at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from extender.cli.policy import policy as commands
from extender.policy.file import MOST_PROBLEMS, MalformedPolicy, PolicyFile, parsed
from extender.policy.rules import Apart
from extender.policy.selectors import Selector
from extender.policy.values import Times

HEAD = "apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\n"
ALL = "namespaces: {}"
KEPT = "profile: 1g.10gb, keep: 1"
WHOLE = (
    HEAD
    + """\
pools:
- {name: big, nodes: {matchLabels: {pool: big}}, profiles: [3g.40gb, 7g.80gb]}
- {name: rest, nodes: {}}
tenants:
- name: red
  namespaces: {matchLabels: {team: red}}
  profiles: [1g.10gb, 3g.40gb]
  pools: [big, rest]
  caps: {memorySlices: 40, profiles: {3g.40gb: 2}}
  dedicated: gpu
  priority: 5
- {name: blue, namespaces: {matchExpressions: [{key: team, operator: In, values: [blue]}]}}
headroom:
- {pool: big, profile: 7g.80gb, keep: 2, releasedTo: {priority: 1000, tenants: [red]}}
avoid:
- {nodes: {matchLabels: {old: "yes"}}, tenants: [blue], profiles: [1g.10gb]}
times: {reservationSeconds: 60, restartHoldSeconds: 0}
deadlines: {planSeconds: 1.5}
"""
)


def policy(text: str) -> PolicyFile:
    return parsed(text.encode(), "policy.yaml")


def complaints(text: str) -> list[str]:
    with pytest.raises(MalformedPolicy) as caught:
        policy(text)
    lines = str(caught.value).splitlines()
    assert all(line.startswith("policy.yaml: ") for line in lines)
    return [line.removeprefix("policy.yaml: ") for line in lines]


def test_without_rules_there_are_none() -> None:
    assert not policy(HEAD).rules
    assert policy(HEAD).times.times == Times()


def test_a_whole_policy_says_what_it_says() -> None:
    found = policy(WHOLE)
    rules = found.rules
    red, big, rest = (
        rules.tenant_of({"team": "red"}),
        rules.pool_of({"pool": "big"}),
        rules.pool_of({}),
    )

    assert red is not None
    assert (red.name, red.apart, red.priority) == ("red", Apart.GPU, 5)
    assert (red.caps.memory_slices, red.caps.profiles) == (40, {"3g.40gb": 2})
    assert [pool and pool.name for pool in (big, rest)] == ["big", "rest"], "the first counts"
    assert rules.tenant_of({"team": "green"}) is None
    (room,) = rules.headroom
    assert [room.released(*to) for to in (("", 999), ("", 1000), ("red", 0))] == [False, True, True]
    assert found.times.times == Times(reservation_seconds=60, restart_hold_seconds=0)
    assert found.policy.plan_seconds == 1.5


def test_a_version_tells_policies_apart_and_not_their_layout() -> None:
    assert policy(WHOLE).version == policy("# a comment\n" + WHOLE + "\n\n").version
    assert policy(WHOLE).version != policy(WHOLE.replace("keep: 2", "keep: 3")).version


@pytest.mark.parametrize(
    ("selector", "labels", "selected"),
    [
        ({}, {}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "1", "b": "2"}, True),
        ({"matchLabels": {"a": "1", "b": "1"}}, {"a": "1"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}, {}, False),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {}, True),
        (
            {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]},
            {"a": "1"},
            False,
        ),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": ""}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"a": ""}, False),
    ],
)
def test_selectors_select_as_in_kubernetes(
    selector: dict[str, object], labels: dict[str, str], selected: bool
) -> None:
    assert msgspec.convert(selector, Selector).matches(labels) is selected


def test_all_errors_are_told_each_with_its_path_value_and_remedy() -> None:
    text = (
        HEAD
        + """\
pools:
- {name: Big, nodes: {matchLabels: {gpu: true}}}
tenants:
- {name: red, namespaces: {}, caps: {memorySlices: -1, profile: {}}, dedicated: rack}
- {namespaces: {}}
headroom: [{profile: 3g, keep: 0}]
avoid: no
times: {reservationSeconds: long}
"""
    )
    found = complaints(text)

    expected = [
        ("$.pools[0].name", "`'Big'`", "lower-case letters"),
        ("$.pools[0].nodes.matchLabels.gpu", "`True`", "put it in quotes"),
        (
            "$.tenants[0].caps.memorySlices",
            "got `-1`",
            "write a whole number from 0 to 1,000,000",
        ),
        ("$.tenants[0].caps.profile", "unknown field", "did you mean profiles?"),
        ("$.tenants[0].dedicated", "`'rack'`", "use gpu or node"),
        ("$.tenants[1].name", "is missing", "add it"),
        ("$.headroom[0].profile", "`'3g'`", "such as 1g.10gb"),
        (
            "$.headroom[0].keep",
            "got `0`",
            "write a whole number from 1 to 1,000,000",
        ),
        ("$.avoid", "got `False`", "write a list: "),
        (
            "$.times.reservationSeconds",
            "got `'long'`",
            "write a number from 0 to 86,400",
        ),
    ]
    assert len(found) == len(expected), "\n".join(found)
    for path, value, remedy in expected:
        (line,) = [each for each in found if each.startswith(path + ":")]
        assert value in line
        assert remedy in line
        assert not any(
            of_python in line for of_python in ("int`", "str`", "float", "null", "array")
        )


def test_what_makes_no_sense_is_told_though_there_are_other_faults() -> None:
    text = """\
value: defualt
pools:
- {name: Big, nodes: {}}
- {name: small, nodes: {}, profiles: [1g.10gb]}
tenants:
- {name: red, namespaces: {}, pools: [smal, Big], caps: {memorySlices: -1}}
- {name: red, namespaces: {}, pools: [small], profiles: [3g.40gb]}
headroom:
- {profile: 3g.40gb, keep: 0, pool: nowhere, releasedTo: {tenants: [rod]}}
- {profile: 3g.40gb, keep: 1, pool: small}
avoid: [{nodes: no, tenants: [green]}]
demand: {1g.10gb: 0}
weights: 3
"""
    found = {tuple(line.split(": ", 1)) for line in complaints(HEAD + text)}

    assert found >= {
        ("$.value", "got `'defualt'`; did you mean default?"),
        ("$.tenants[0].pools", "there is no pool smal; did you mean small?"),
        ("$.tenants[1].name", "red is there already; rename one of them"),
        (
            "$.tenants[1]",
            "its pools offer none of its profiles, so that it can have nothing;"
            " add a pool or a profile",
        ),
        ("$.headroom[0].pool", "there is no pool nowhere; use one of Big, small"),
        ("$.headroom[0].releasedTo.tenants", "there is no tenant rod; did you mean red?"),
        (
            "$.headroom[1].profile",
            "keeps 3g.40gb free, which pool small does not offer; use one of the pool's profiles",
        ),
        ("$.avoid[0].tenants", "there is no tenant green; use one of red"),
        ("$.demand", "asks for nothing; give a profile a share above 0"),
    }
    paths = {path for path, _ in found}
    assert paths >= {
        "$.pools[0].name",
        "$.tenants[0].caps.memorySlices",
        "$.headroom[0].keep",
        "$.avoid[0].nodes",
        "$.weights",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"tenants: [{{name: a, {ALL}}}, {{name: a, {ALL}}}]", "a is there already; rename"),
        (f"tenants: [{{name: a, {ALL}}}, {{name: b, {ALL}}}]", "selects everything"),
        (f"tenants: [{{name: a, {ALL}, pools: [x]}}]", "there is no pool x; define the pool"),
        ("headroom: [{profile: 1g.10gb, keep: 1, pool: x}]", "there is no pool x"),
        (f"headroom: [{{{KEPT}, releasedTo: {{tenants: [x]}}}}]", "there is no tenant x"),
        (f"headroom: [{{{KEPT}}}, {{{KEPT}}}]", "twice"),
        ("avoid: [{nodes: {}, tenants: [x]}]", "there is no tenant x"),
        ("avoid: [{nodes: {matchExpressions: [{key: a, operator: In}]}}]", "In of nothing"),
        (
            "pools: [{name: p, nodes: {}, profiles: [3g.40gb]}]\n"
            f"headroom: [{{{KEPT}, pool: p}}]",
            "which pool p does not offer",
        ),
        (
            "pools: [{name: p, nodes: {}, profiles: [1g.10gb]}]\n"
            f"tenants: [{{name: a, {ALL}, pools: [p], profiles: [3g.40gb]}}]",
            "offer none of its profiles",
        ),
        (
            f"tenants: [{{name: a, {ALL}, profiles: [3g.40gb],"
            " caps: {profiles: {1g.10gb: 1}}}]",
            "may not use at all",
        ),
        (
            "avoid: [{nodes: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}]",
            "Exists takes no values; remove them",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, says: str) -> None:
    assert any(says in each for each in complaints(HEAD + text))


def test_check_says_what_the_rules_come_to(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(WHOLE)
    bad.write_text(HEAD + "pools: 3\ntimes: 4\n")

    runner = CliRunner(env={"COLUMNS": "160"})
    told = runner.invoke(commands, ["check", str(good)])
    refused = runner.invoke(commands, ["check", str(bad)])
    words = " ".join(told.output.split())

    assert told.exit_code == 0
    assert f"version {policy(WHOLE).version}" in told.output
    assert "RULE NAME SAYS" in words
    assert "tenant red 1g.10gb, 3g.40gb; big, rest; at most 40 memory slices" in words
    assert "shares no GPU; priority +5" in words
    assert (
        "headroom big 2 x 7g.80gb kept free in pool big;"
        " released to tenant red, pods of priority 1000 or above"
    ) in words
    assert "times reservationSeconds 60 s times restartHoldSeconds 0 s" in words
    assert "deadlines planSeconds 1.5 s" in words
    assert refused.exit_code == 1
    assert [line.split(": ")[2] for line in refused.output.splitlines()] == ["$.pools", "$.times"]


@pytest.mark.parametrize(("output", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_programs_are_told_what_the_rules_come_to_and_what_is_wrong(
    tmp_path: Path, output: str, read: Callable[[str], Any]
) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(WHOLE)
    bad.write_text(HEAD + "pools: 3\n")

    told = read(CliRunner().invoke(commands, ["check", str(good), "-o", output]).stdout)
    refused = CliRunner().invoke(commands, ["check", str(bad), "-o", output])

    assert (told["decides"], told["version"]) == ("default", policy(WHOLE).version)
    assert told["cluster"] is None
    assert {"kind": "pool", "name": "big", "says": "3g.40gb, 7g.80gb"} in told["rules"]
    assert refused.exit_code == 1
    (problem,) = read(refused.stdout)["problems"]
    assert problem["path"] == "$.pools"
    assert problem["remedy"].startswith("write a list")


def test_a_field_that_is_there_twice_is_not_lost_silently() -> None:
    again = "tenants: [{name: b, namespaces: {}, caps: {profiles: {1g.10gb: 1, 1g.10gb: 9}}}]\n"
    (first, second) = sorted(complaints(HEAD + f"tenants: [{{name: a, {ALL}}}]\n" + again))

    assert first == "$.tenants: is there twice, again in line 4; keep one of the two"
    assert second.startswith("$.tenants[0].caps.profiles.1g.10gb: is there twice")


KEYS = [
    *("apiVersion", "kind", "value", "pools", "tenants", "headroom", "avoid", "times", "weights"),
    *("name", "nodes", "namespaces", "matchLabels", "caps", "profiles", "releasedTo", "deadlines"),
    *("moves", "mode", "windows", "days", "from", "to", "movable"),
]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.binary(max_size=4)
    | st.sampled_from(["default", "PlacementPolicy", "tangram.dev/v1alpha1", "1g.10gb", "gpu"])
    | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.integers() | st.booleans(), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(values, st.booleans())
def test_whatever_is_in_a_file_it_is_a_policy_or_told_to_be_none(raw: object, headed: bool) -> None:
    if headed and isinstance(raw, dict):
        raw = {"apiVersion": "tangram.dev/v1alpha1", "kind": "PlacementPolicy"} | raw
    text = yaml.safe_dump(raw)

    try:
        assert isinstance(policy(text).in_force.version, str)
    except MalformedPolicy as refused:
        for line in str(refused).splitlines():
            _, told, remedy = line.rpartition("; ")
            assert told, line  # every complaint says what to do, and not only that it is to be done
            assert remedy not in ("", "correct it"), line


@pytest.mark.parametrize(
    "scalar",
    [
        *("2026-13-01", "2001-99-99", "!!int x", "!!float x", "!!bool x", "!!timestamp x"),
        *("9" * 5000, "0x" + "f" * 5000, "!!binary ä", "!!python/none x"),
    ],
)
def test_what_the_reader_stumbles_over_is_told_like_any_other_fault(scalar: str) -> None:
    with pytest.raises(MalformedPolicy) as refused:
        policy(f"tenants: [{{name: {scalar}}}]")

    assert len(str(refused.value)) < 2000


def test_aliases_that_stand_for_more_than_fits_into_memory_are_refused_unread() -> None:
    bomb = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30))

    with pytest.raises(MalformedPolicy, match=r"an alias in line \d+, \*a0; write it out"):
        parsed(f"a0: &a0 x\n{bomb}\nvalue: *a29\n".encode(), "policy.yaml")


def test_of_ever_so_many_faults_some_are_told_shortly() -> None:
    names = "\n".join(f"- {{name: {'n' * 5000}{n}, pools: [nowhere-{n}]}}" for n in range(300))

    with pytest.raises(MalformedPolicy) as refused:
        policy(f"pools: [{{name: here}}]\ntenants:\n{names}")

    *told, last = str(refused.value).splitlines()
    assert len(told) == MOST_PROBLEMS
    assert "has more than 100 faults" in last
    assert max(map(len, told)) < 1500


def test_more_values_than_any_policy_has_are_not_looked_at() -> None:
    with pytest.raises(MalformedPolicy, match="more than 100000 values"):
        policy(f"tenants: [{', '.join(['x'] * 100_001)}]")


@given(st.binary(max_size=40))
def test_what_is_no_yaml_is_told_to_be_none(text: bytes) -> None:
    with pytest.raises(MalformedPolicy):
        parsed(text, "policy.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "&a [*a]",
        "a: &a {a: *a}",
        "? [1]\n: 2",
        "? {}\n: 2",
        "!!python/object:os.system 1",
        "[" * 5000,
    ],
)
def test_yaml_that_leads_nowhere_is_told_to_be_no_policy(text: str) -> None:
    assert complaints(text)
