"""A later file begins with what was known: what is left of a log plays again, whatever has gone."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from extender.decision_log import DecisionLog, Limits, Names, reproduced, runs
from extender.decision_log import files as disk
from extender.decision_log.encoding import Encoder
from extender.decision_log.files import found
from extender.decision_log.layout import End, Entry, Restated, Restating
from extender.decision_log.reading import Item, Part
from extender.decision_log.reproduction import Reproduction, replayed
from extender.decision_log.waiting import weighed
from extender.decision_log.writing import RETRY_SECONDS
from extender.policy import InForce, PolicyName
from extender.policy.file import parsed
from extender.service.knowledge import Knowledge
from extender.service.restating import restated
from extender.service.seam import Call
from extender.settings import Settings
from tests.decisions import Notebook, read
from tests.fakes.world import QUICK, World
from tests.unit.decision_log.test_reproduction import NODES, RULES, scheduled, story
from tests.unit.decision_log.test_writing import full, log_in
from tests.waiting import until

EVERY = 23
"""Calls, after which a state is taken."""


class Looker(Notebook):
    """Writes calls down, and takes the state now and then: told only once all is over."""

    def __init__(
        self,
        settings: Settings,
        policy: InForce | PolicyName = PolicyName.DEFAULT,
        *,
        names: Names | None = None,
    ) -> None:
        super().__init__(settings, policy, names=names)
        self.knowledge: Knowledge | None = None
        self.states: dict[int, Iterator[Call]] = {}
        self._names = names

    def heard(self, call: Call) -> None:
        super().heard(call)
        if self.knowledge is not None and len(self.calls) % EVERY == 0:
            self.states[len(self.calls)] = restated(self.knowledge)

    def lines_of(self, n: int) -> Sequence[bytes]:
        """Return the state after call *n* in lines, once."""
        encoder = Encoder("policy", self._names)
        encoder.calls = n
        return list(encoder.restating(self.states[n]))

    def resumed(self, n: int) -> Reproduction:
        """Return what comes of playing from the state after call *n* on."""
        later = (each for each in self.items() if not (isinstance(each, Entry) and each.n <= n))
        header = msgspec.json.decode(self.lines[0], type=type(self.header))
        items = [*read(self.lines_of(n)), *later, End(len(self.calls))]
        return replayed(msgspec.structs.replace(header, file=2), items)


async def looked(
    policy: InForce | PolicyName = PolicyName.DEFAULT, *, names: Names | None = None
) -> Looker:
    looker = Looker(QUICK, policy, names=names)
    world = World()
    await world.add_namespace("default", team="red")
    for name in NODES:
        await world.add_node(name, gpus=2, rack="a")
    async with world.extender(QUICK, policy, witness=looker) as service:
        looker.knowledge = service.knowledge
        await story(world, service)
    return looker


@pytest.mark.parametrize("hidden", [False, True], ids=["named", "hidden"])
@pytest.mark.parametrize("rules", ["", RULES], ids=["plain", "with rules"])
async def test_from_any_state_on_every_decision_comes_out_the_same(
    rules: str, *, hidden: bool
) -> None:
    policy = parsed(rules.encode(), "rules").in_force if rules else PolicyName.DEFAULT
    looker = await looked(policy, names=Names() if hidden else None)

    told = {n: looker.resumed(n) for n in looker.states}

    assert len(told) > 5
    assert [(n, each.different) for n, each in told.items() if not each.exact] == []
    assert {each.resumed for each in told.values()} == {1}
    assert sum(each.identical for each in told.values()) > 100


async def test_a_state_hides_names_as_calls_do() -> None:
    looker = await looked(names=Names())

    told = b"".join(line for n in looker.states for line in looker.lines_of(n))

    assert b"vm-1" not in told
    assert b"b-1" not in told
    assert b"node-1" in told


async def kept(folder: Path, *, files: int) -> DecisionLog:
    """Keep a log in tiny files, of VMs that come until there are so many *files*."""
    world = World()
    for name in NODES:
        await world.add_node(name, gpus=2)
    with log_in(folder, limits=Limits(file_bytes=1, files=100_000)) as log:
        async with world.extender(QUICK, witness=log) as service, world.obedient(*NODES):
            log.follow(service.knowledge)
            for number in range(200):
                await scheduled(service, await world.add_pod(f"vm-{number}", "1-10C"))
                await until(lambda: not log.figures().waiting)
                if len(found(folder)) >= files:
                    break
    return log


async def test_what_is_left_plays_again_once_the_first_files_are_gone(tmp_path: Path) -> None:
    log = await kept(tmp_path, files=4)
    whole = reproduced(runs([tmp_path]))
    *first, _, _ = found(tmp_path)
    for path in first:
        path.unlink()

    told = reproduced(runs([tmp_path]))

    assert whole.exact, whole.different
    assert (whole.calls, whole.resumed) == (log.figures().records, 0)
    assert told.exact, told.different
    assert (told.resumed, told.gaps, told.unclaimed) == (1, 0, 0)
    assert 0 < told.decisions < whole.decisions


async def test_a_file_in_the_middle_that_is_gone_is_a_gap_after_which_all_is_claimed(
    tmp_path: Path,
) -> None:
    await kept(tmp_path, files=5)
    _, middle, *_ = found(tmp_path)
    middle.unlink()

    told = reproduced(runs([tmp_path]))

    assert (told.gaps, told.resumed) == (1, 0)
    assert told.missing > 0
    assert told.unclaimed == 0
    assert told.identical == told.decisions > 0


async def test_a_file_whose_state_is_torn_claims_nothing_before_the_next(tmp_path: Path) -> None:
    await kept(tmp_path, files=4)
    first, second, *_ = found(tmp_path)
    first.unlink()
    lines = list(disk.lines(second))
    kept_lines = [*lines[:5], *lines[6:]]
    second.write_bytes(disk.compressed(b"".join(line + b"\n" for line in kept_lines)))

    told = reproduced(runs([tmp_path]))

    assert told.resumed == 0
    assert told.unclaimed > 0
    assert told.differing == 0


async def test_a_disk_that_is_mended_has_the_state_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, world = 0.0, World()
    await world.add_node(NODES[0])
    with log_in(tmp_path, clock=lambda: now) as log:
        async with world.extender(QUICK, witness=log) as service, world.obedient(NODES[0]):
            log.follow(service.knowledge)
            await until(lambda: log.figures().records > 10)
            with full(monkeypatch):
                service.knowledge.tick()
                await until(lambda: log.figures().lost > 0)
            now = RETRY_SECONDS
            service.knowledge.tick()
            await until(lambda: any(isinstance(each, Restated) for each in items(tmp_path)))
            await scheduled(service, await world.add_pod("vm", "1-10C"))

    told = reproduced(runs([tmp_path]))
    assert told.gaps == 1
    assert told.unclaimed < told.decisions == told.unclaimed + told.identical


def items(folder: Path) -> Sequence[Item]:
    (run,) = runs([folder])
    return list(run.items())


def test_a_state_that_cannot_be_told_costs_a_state_and_nothing_else(tmp_path: Path) -> None:
    def fail() -> Iterator[Call]:
        raise RuntimeError("a fault")

    log = log_in(tmp_path, limits=Limits(file_bytes=1, files=100_000))
    log._restating.begin(fail)
    with log:
        log._restating.ask()
        for n in range(3):
            log.heard(Call("Knowledge.lease", (f"node-{n}", "1"), {}, (), None))

    told = reproduced(runs([tmp_path]))
    assert (told.calls, told.gaps, log.figures().lost) == (3, 0, 0)
    assert not [each for each in items(tmp_path) if isinstance(each, Restating)]


def test_a_call_that_found_no_room_brings_no_state(tmp_path: Path) -> None:
    lease = Call("Knowledge.lease", ("node", "1"), {}, (), None)
    log = log_in(tmp_path, most_bytes=2 * weighed(lease))
    asked: list[int] = []

    def source() -> Iterator[Call]:
        asked.append(1)
        return iter(())

    log._restating.begin(source)
    for _ in range(2):
        log.heard(lease)
    log._restating.ask()

    log.heard(lease)

    assert asked == []


async def test_files_hold_as_much_again_as_they_begin_with_and_the_oldest_go(
    tmp_path: Path,
) -> None:
    await kept(tmp_path, files=6)
    (run,) = runs([tmp_path])

    seen = 0
    for part in run.parts[1:-1]:
        assert isinstance(part, Part)
        lines = list(disk.lines(part.path))
        state = [line for line in lines if b'"restates":' in line or b'"restated":' in line]
        # Until the log follows somebody, which is a moment after it begins, it knows of no state.
        assert state or not seen
        assert len(state) < len(lines) - 2
        seen += bool(state)
    assert seen > 1


def test_what_a_file_begins_with_finds_as_much_room_again(tmp_path: Path) -> None:
    files = disk.Files(tmp_path, "run", Limits(file_bytes=1_000, files=3))
    for _ in range(3):
        files.begin("20260101T000000Z", b"head\n")
        files.write(noise(900))
        files.end()
    files.begin("20260101T000000Z", b"head\n")
    files.write(noise(1_200))
    files.restated()

    assert not files.full
    assert len(found(tmp_path)) == 1
    files.write(noise(1_300))
    files.flush()
    assert files.full
    files.close()


def noise(length: int) -> bytes:
    return secrets.token_bytes(length).replace(b"\n", b" ") + b"\n"
