"""The section ``moves`` of a policy: what it says, what is refused, and when a move may begin."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from extender.cli.policy import policy as commands
from extender.policy.bounds import Terms
from extender.policy.costs import Age, Costs
from extender.policy.file import MalformedPolicy, PolicyFile, parsed, written
from extender.policy.moving import HOUR, Mode, Moving, Wait, Why
from extender.policy.windows import Day, Window

HEAD = "apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\n"
WHOLE = """\
moves:
  mode: apply
  perHour: 20
  windows:
  - {days: [sat, sun], from: "22:00", to: "04:00"}
  paused: true
  costs: {eviction: 20, restart: 40, profiles: {7g.80gb: 12}, ages: [{hours: 8, adds: 3}]}
"""
NOON = datetime(2026, 12, 2, 12, 0, tzinfo=UTC)  # a Wednesday
ALLOWED = Moving(mode=Mode.APPLY, per_hour=2)


def policy(text: str) -> PolicyFile:
    return parsed((HEAD + text).encode(), "policy.yaml")


def complaints(text: str) -> list[str]:
    with pytest.raises(MalformedPolicy) as caught:
        policy(text)
    return [line.removeprefix("policy.yaml: ") for line in str(caught.value).splitlines()]


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def test_it_says_what_it_says() -> None:
    nights = Window(days=(Day.SATURDAY, Day.SUNDAY), begins="22:00", ends="04:00")
    costs = Costs(eviction=20, restart=40, profiles={"7g.80gb": 12}, ages=(Age(hours=8, adds=3),))
    whole = Moving(mode=Mode.APPLY, per_hour=20, windows=(nights,), paused=True, costs=costs)

    assert policy(WHOLE).in_force.moving == whole
    assert parsed(written(policy(WHOLE)), "again") == policy(WHOLE)


def test_without_it_plans_are_made_and_no_moves() -> None:
    moving = policy("").in_force.moving

    assert moving.advises
    assert moving.wait(NOON, ()) == Wait(Why.NOT_APPLIED)


@pytest.mark.parametrize("off", ["off", "'off'", "Off", "OFF"])
def test_a_bare_off_is_the_mode_although_yaml_takes_it_for_false(off: str) -> None:
    found = policy(f"moves: {{mode: {off}}}\n")

    assert found.moves.mode is Mode.OFF
    assert not found.moves.advises
    assert parsed(written(found), "again") == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mode: on", "$.moves.mode: got `True`; use one of off, advise, apply"),
        ("mode: aply", "$.moves.mode: got `'aply'`; did you mean apply?"),
        ("perHour: 0", "$.moves.perHour: got `0`; write a whole number from 1 to 10,000"),
        ("paused: maybe", "$.moves.paused: got `'maybe'`; write true or false"),
        ("pause: true", "$.moves.pause: unknown field `pause`; did you mean paused?"),
        ("windows: [{days: [sta]}]", "$.moves.windows[0].days[0]: got `'sta'`; did you mean sat?"),
        ("windows: [{from: 22:00}]", "$.moves.windows[0].from: got `1320`; put it in quotes"),
        (
            'windows: [{to: "25:00"}]',
            "$.moves.windows[0].to: got `'25:00'`;"
            ' write a time of day in quotes, from "00:00" to "24:00"',
        ),
        (
            "windows: [{}, {days: []}]",
            "$.moves.windows[1].days: lists no day; list some, or leave it out for every day",
        ),
        (
            "windows: [{days: [sun, sun]}]",
            "$.moves.windows[0].days: lists a day twice; list it once",
        ),
        (
            'windows: [{from: "10:00", to: "10:00"}]',
            "$.moves.windows[0].to: is when the window begins;"
            ' for whole days leave "from" and "to" out',
        ),
        (
            'windows: [{from: "24:00", to: "04:00"}]',
            '$.moves.windows[0].from: is the end of a day; write "00:00" and the day after',
        ),
        (
            "costs: {eviction: -1}",
            "$.moves.costs.eviction: got `-1`; write a whole number from 0 to 100",
        ),
        (
            "costs: {evictions: 1}",
            "$.moves.costs.evictions: unknown field `evictions`; did you mean eviction?",
        ),
        (
            "costs: {profiles: {whole: 1}}",
            "$.moves.costs.profiles.whole: got `'whole'`; write a MIG profile as"
            " `nvidia-smi mig -lgip` names it, such as 1g.10gb",
        ),
        (
            "costs: {liveMigration: 11}",
            "$.moves.costs.liveMigration: is 11, more than eviction's 10;"
            " a VM that runs on is disturbed less: write less",
        ),
        (
            "costs: {restart: 9}",
            "$.moves.costs.restart: is 9, less than eviction's 10;"
            " past a budget a VM is disturbed no less: write as much or more",
        ),
        (
            "costs: {ages: [{hours: 1, adds: 1}, {hours: 1, adds: 2}]}",
            "$.moves.costs.ages[1].hours: is 1 a second time; say once what it adds",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_path_value_and_remedy(text: str, says: str) -> None:
    assert complaints(f"moves: {{{text}}}\n") == [says]


def test_check_tells_how_vms_are_moved(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(HEAD + WHOLE + "tenants: [{name: bank, namespaces: {}, movable: false}]\n")

    told = CliRunner(env={"COLUMNS": "160"}).invoke(commands, ["check", str(file)])
    words = " ".join(told.output.split())

    assert told.exit_code == 0
    assert "tenant bank all profiles; all pools; its VMs are not moved" in words
    assert "moves apply moves of plans that somebody applies are made" in words
    assert "moves paused no move is begun" in words
    assert "moves perHour at most 20 begun within an hour" in words
    assert "moves windows[0] begun sat, sun, 22:00 to 04:00 UTC" in words
    assert "costs eviction 20 points for each memory slice" in words
    assert "costs 7g.80gb counts for 12 memory slices" in words
    assert "costs ages 3 points more from 8 hours on" in words


def test_check_says_nothing_of_moves_where_the_policy_does_not(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(HEAD)

    told = CliRunner().invoke(commands, ["check", str(file), "-o", "json"])

    assert json.loads(told.stdout)["rules"] == []


def test_a_tenant_may_have_its_vms_left_where_they_are() -> None:
    rules = policy(
        "tenants: [{name: bank, namespaces: {matchLabels: {team: bank}}, movable: false},"
        " {name: red, namespaces: {matchLabels: {team: red}}}]\n"
    ).rules
    terms = Terms(rules, None, (), {"b1": "bank", "r1": "red"})

    assert [terms.movable(namespace) for namespace in ("b1", "r1", "of-nobody")] == [
        False,
        True,
        True,
    ]


def test_a_move_may_begin_where_nothing_is_against_it() -> None:
    assert ALLOWED.wait(NOON, ()) is None
    assert ALLOWED.wait(NOON, [NOON - minutes(5)]) is None


def test_paused_keeps_every_move_from_beginning_until_somebody_says_otherwise() -> None:
    paused = policy("moves: {mode: apply, paused: true}\n").moves

    assert paused.wait(NOON, ()) == Wait(Why.PAUSED)


def test_outside_its_windows_it_waits_until_the_first_opens() -> None:
    moving = policy('moves: {mode: apply, windows: [{days: [wed, sat], from: "13:30"}]}\n').moves

    assert moving.wait(NOON, ()) == Wait(Why.CLOSED, NOON + minutes(90))
    assert moving.wait(NOON + minutes(90), ()) is None


def test_as_many_as_may_begin_within_an_hour_are_waited_for_until_one_is_an_hour_ago() -> None:
    begun = [NOON - minutes(70), NOON - minutes(50), NOON - minutes(10)]

    assert ALLOWED.wait(NOON, begun) == Wait(Why.ENOUGH_AN_HOUR, NOON + minutes(10))
    assert ALLOWED.wait(NOON + minutes(10), begun) is None


@given(st.lists(st.integers(0, 600), max_size=30), st.integers(1, 5))
def test_no_hour_sees_more_moves_begin_than_it_may(asked: list[int], per_hour: int) -> None:
    moving = Moving(mode=Mode.APPLY, per_hour=per_hour)
    begun: list[datetime] = []
    for after in sorted(asked):
        now = NOON + minutes(after)
        wait = moving.wait(now, begun)
        if wait is None:
            begun.append(now)
        else:
            assert wait.until is not None
            assert moving.wait(wait.until, begun) is None
            assert moving.wait(wait.until - minutes(0.5), begun) is not None

    assert all(sum(start <= each < start + HOUR for each in begun) <= per_hour for start in begun)
