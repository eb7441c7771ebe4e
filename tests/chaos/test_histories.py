"""A few histories with every test run; ``make chaos`` runs many, and the planted bugs."""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest

from tests.chaos import __main__ as command
from tests.chaos.events import Course, drawn
from tests.chaos.hunt import CRASHED, Hunt, caught
from tests.chaos.loop import PROCESS, Process, SeededLoop, run
from tests.chaos.mutants import (
    MASKED,
    MUTANTS,
    Mutant,
    agent,
    evictions,
    extender,
    moves,
    named,
)
from tests.chaos.shrink import kinds, shrunk
from tests.chaos.story import Outcome, tell

HISTORIES = 40
EVENTS = 60  # the whole length is for `make chaos`
SHORT = 24
SOON = 60  # histories within which a planted bug is met
MOVES = 26  # a short one in which a VM is moved: what is about moves is tried there first
PLANTED_IN = {each.__file__ for each in (agent, evictions, extender, moves)}


def unbroken(*options: str, histories: int, events: int) -> str:
    """Return what ``make chaos`` says of histories in which no promise is broken.

    In a process of its own: with the same hashes every time, a failing seed fails again.
    """
    told = subprocess.run(
        [
            *(sys.executable, "-m", "tests.chaos", "-j", "1", *options),
            *("--histories", str(histories), "--events", str(events)),
        ],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


def test_no_promise_is_broken_whatever_goes_wrong() -> None:
    unbroken(histories=HISTORIES, events=EVENTS)


def test_no_promise_is_broken_where_pods_are_evicted_for_others() -> None:
    told = unbroken("--ranked", histories=HISTORIES, events=EVENTS)

    found = re.search(r"([0-9]+) pods evicted for ([0-9]+) others", told)
    assert found is not None
    assert all(int(count) >= HISTORIES / 4 for count in found.groups())


def test_no_promise_is_broken_where_vms_are_moved() -> None:
    told = unbroken("--moving", "--seed", "40", histories=HISTORIES // 2, events=2 * EVENTS)

    found = re.search(r"([0-9]+) moves made of ([0-9]+) orders", told)
    assert found is not None
    assert all(int(count) >= HISTORIES / 20 for count in found.groups())


def test_evicting_pods_whatever_their_priority_is_caught() -> None:
    bug = named("any-victim")

    with bug.planted():
        told = (tell(seed, drawn(seed), ranked=True) for seed in range(SOON))
        assert any(caught(outcome, bug) for outcome in told)


@pytest.mark.parametrize("ranked", [False, True])
@pytest.mark.parametrize("moving", [False, True])
def test_a_history_takes_the_same_course_when_asked_for_by_the_one_it_took(
    *, ranked: bool, moving: bool
) -> None:
    courses = {seed: Course.of(seed, ranked=ranked, moving=moving) for seed in range(200)}

    for seed, course in courses.items():
        assert Course.of(seed, ranked=course.ranked, moving=course.moving) == course
        assert course.ranked >= ranked
        assert course.moving >= moving


def test_of_the_courses_that_histories_take_there_are_all_and_mostly_the_plain_one() -> None:
    courses = [Course.of(seed).options for seed in range(200)]

    assert {*courses} == {"", " --ranked", " --moving"}
    assert courses.count("") > 150


def test_the_same_seed_is_the_same_history() -> None:
    first, again = (tell(7, drawn(7, EVENTS)) for _ in range(2))

    assert first == again
    assert first.binds > 0


def test_it_is_that_in_every_process_wherever_things_lie_in_memory(tmp_path: Path) -> None:
    def told(out: Path) -> dict[str, Any]:
        unbroken("--seed", "500020", "--out", str(out), histories=2, events=200)
        stored: dict[str, Any] = msgspec.json.decode(out.read_bytes())
        return {name: stored[name] for name in stored.keys() - {"wall", "processor", "made"}}

    assert told(tmp_path / "first.json") == told(tmp_path / "again.json")


def test_a_planted_bug_is_caught_and_its_history_made_short() -> None:
    bug = next(each for each in MUTANTS if each.name == "reclaim-by-name")

    with bug.planted():
        first = next(each for seed in range(20) if caught(each := tell(seed, drawn(seed)), bug))
        story = drawn(first.seed)
        short = shrunk(first.seed, story, tries=25)
        still = tell(first.seed, short)

    assert kinds(first) & kinds(still)
    assert len(short) < len(story)
    assert tell(first.seed, short).broken == ()


@pytest.mark.parametrize("bug", [*MUTANTS, *MASKED], ids=lambda bug: bug.name)
def test_a_planted_bug_is_met_and_crashes_nothing(bug: Mutant) -> None:
    seeds = iter((MOVES, *range(SOON)) if bug.moving else range(SOON))
    met: set[str] = set()

    def meet(frame: FrameType, event: str, arg: object) -> None:
        if frame.f_code.co_filename in PLANTED_IN:
            met.add(frame.f_code.co_name)
            sys.settrace(None)  # the rest of the history is told at its own speed

    with bug.planted():
        while not met:
            seed = next(seeds)
            sys.settrace(meet)
            try:
                story = drawn(seed, SHORT, moving=bug.moving)
                told = tell(seed, story, moving=bug.moving, ranked=bug.ranked)
            finally:
                sys.settrace(None)
            assert CRASHED not in kinds(told), told.broken


def test_a_crash_catches_no_bug_and_neither_does_a_promise_it_does_not_break() -> None:
    bug = named("no-relist")

    unread, crash = "1.0 s: unread: a leads", "1.0 s: crashed: a_1: TypeError()"
    starved = "in the end: starved: vm-0"

    assert caught(Outcome(0, (starved, unread)), bug) == unread
    assert not caught(Outcome(0, (crash,)), bug)
    assert not caught(Outcome(0, (unread, crash)), bug)
    assert not caught(Outcome(0, (starved,)), bug)


def test_the_name_of_no_planted_bug_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    monkeypatch.setattr(sys, "argv", ["tests.chaos", "--mutants", "--mutant", "no-such-bug"])

    with pytest.raises(SystemExit) as ended:
        command.main()

    assert ended.value.code == 2


def test_a_hunt_for_nothing_finds_nothing_out(tmp_path: Path) -> None:
    hunt = Hunt(1, 0, EVENTS, 1, start=lambda: None, out=tmp_path / "table.md")

    with pytest.raises(ValueError, match="no bug to plant"):
        hunt.run([])


def test_a_frozen_process_goes_on_where_it_was_and_a_killed_one_never_does() -> None:
    seen: list[str] = []

    async def count(name: str) -> None:
        try:
            for n in range(3):
                seen.append(f"{name}{n}")
                await asyncio.sleep(1.0)
        finally:
            seen.append(f"{name} ended")

    async def story(loop: SeededLoop) -> None:
        frozen, killed = Process("frozen"), Process("killed")
        loop.spawn(frozen, count("frozen"))
        loop.spawn(killed, count("killed"))
        await asyncio.sleep(0.5)
        loop.freeze(frozen)
        loop.kill(killed)
        await asyncio.sleep(10.0)
        assert sorted(seen) == ["frozen0", "killed0"]
        loop.thaw(frozen)
        await asyncio.sleep(10.0)
        assert seen[2:] == ["frozen1", "frozen2", "frozen ended"]
        assert PROCESS.get().name == "world"

    run(story, random.Random(0))
