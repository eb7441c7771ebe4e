"""The log's thread and files: nothing stands in the way of answers, and what is missing is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from extender.decision_log import DecisionLog, Limits, LogUnreadable, Names, Run, reproduced, runs
from extender.decision_log import files as disk
from extender.decision_log.files import found
from extender.decision_log.layout import Entry, Gap, Why
from extender.decision_log.reading import Damage, Item
from extender.decision_log.writing import RETRY_SECONDS
from extender.policy import InForce, PolicyName
from extender.policy.file import parsed
from extender.service.seam import Call, Seam
from extender.settings import Settings
from tests.fakes.world import World
from tests.unit.decision_log.test_reproduction import BY_NAME
from tests.waiting import until

POLICY = InForce.of(PolicyName.DEFAULT)


def log_in(folder: Path, **settings: object) -> DecisionLog:
    return DecisionLog(folder, policy=POLICY, settings=Settings(), **settings)  # type: ignore[arg-type]


def call(n: int, name: str = "Knowledge.lease") -> Call:
    return Call(name, (f"node-{n}", str(n)), {}, (float(n),), None)


def items(folder: Path) -> Sequence[Item]:
    (run,) = runs([folder])
    return list(run.items())


def numbers(folder: Path) -> list[int]:
    return [item.n for item in items(folder) if isinstance(item, Entry)]


def test_what_was_heard_is_read_in_its_order(tmp_path: Path) -> None:
    with log_in(tmp_path) as log:
        for n in range(100):
            log.heard(call(n))

    assert numbers(tmp_path) == list(range(1, 101))
    assert log.figures().records == 100
    assert log.figures().bytes == sum(path.stat().st_size for path in found(tmp_path))
    found_again = reproduced(runs([tmp_path]))
    assert (found_again.calls, found_again.gaps, found_again.unfinished) == (100, 0, 0)


async def test_what_was_heard_can_be_read_while_the_log_goes_on(tmp_path: Path) -> None:
    with log_in(tmp_path) as log:
        log.heard(call(1))
        await until(lambda: log.figures().records == 1)

        assert numbers(tmp_path) == [1]
        assert reproduced(runs([tmp_path])).unfinished == 1


def test_nobody_else_may_read_a_log(tmp_path: Path) -> None:
    with log_in(tmp_path):
        (path,) = found(tmp_path)
        assert path.stat().st_mode & 0o777 == 0o600


def test_what_comes_faster_than_it_is_written_is_a_gap_with_its_count(tmp_path: Path) -> None:
    log = log_in(tmp_path, most_waiting=10)
    for n in range(15):  # nobody writes yet
        log.heard(call(n))

    assert log.figures().lost == 5
    with log:
        pass

    assert numbers(tmp_path) == list(range(1, 11))
    assert [item for item in items(tmp_path) if isinstance(item, Gap)] == [Gap(5, Why.OVERFLOW)]
    assert reproduced(runs([tmp_path])).missing == 5


def test_names_weigh_what_they_are(tmp_path: Path) -> None:
    log = log_in(tmp_path, most_waiting=1_000)

    log.heard(Call("Hooks.judge", (None, ("node",) * 2_000), {}, (), None))

    assert log.figures().lost == 1


def test_a_gap_lies_between_what_came_before_and_after(tmp_path: Path) -> None:
    log = log_in(tmp_path, most_waiting=2)
    for n in range(4):
        log.heard(call(n))
    log._taken = 2  # as if the thread had written these two by now
    log.heard(call(4))
    log._taken = 0
    with log:
        pass

    kinds = [item.n if isinstance(item, Entry) else item for item in items(tmp_path)[:-1]]
    assert kinds == [1, 2, Gap(2, Why.OVERFLOW), 5]


async def test_files_are_bounded_and_the_oldest_go(tmp_path: Path) -> None:
    with log_in(tmp_path, limits=Limits(file_bytes=200, files=3)) as log:
        for n in range(12):
            log.heard(call(n))
            await until(lambda n=n: log.figures().records == n + 1)  # type: ignore[misc]

    kept = found(tmp_path)
    assert len(kept) == 3
    (run,) = runs([tmp_path])
    assert [part.header.file for part in run.parts] == sorted(p.header.file for p in run.parts)
    assert run.header.file > 1
    told = reproduced([run])
    assert told.gaps == 1
    assert numbers(tmp_path)[-1] == 12


def test_several_runs_in_a_folder_are_told_apart(tmp_path: Path) -> None:
    for _ in range(2):
        with log_in(tmp_path) as log:
            log.heard(call(1))

    assert len(runs([tmp_path])) == 2
    assert reproduced(runs([tmp_path])).gaps == 0


@contextmanager
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the disk be full meanwhile."""

    def refuse(self: disk.Files, piece: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(disk.Files, "_put", refuse)
        yield


async def test_a_full_disk_ends_neither_the_log_nor_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    with capture_logs() as told, log_in(tmp_path, clock=lambda: now) as log:
        log.heard(call(0))
        await until(lambda: log.figures().records == 1)
        with full(monkeypatch):
            log.heard(call(1))
            await until(lambda: log.figures().errors == 1)
            log.heard(call(2))
            await until(lambda: log.figures().lost == 2)
        now = RETRY_SECONDS
        log.heard(call(3))
        await until(lambda: log.figures().records == 2)

    assert numbers(tmp_path) == [1, 4]
    assert Gap(2, Why.DISK) in items(tmp_path)
    assert reproduced(runs([tmp_path])).missing == 2
    assert [line["event"] for line in told] == ["decision_log_broken", "decision_log_resumed"]


def test_what_cannot_be_encoded_is_a_gap(tmp_path: Path) -> None:
    with capture_logs() as told, log_in(tmp_path) as log:
        log.heard(call(0))
        log.heard(Call("Knowledge.lease", (object(), "1"), {}, (), None))
        log.heard(call(2))

    assert numbers(tmp_path) == [1, 3]
    assert Gap(1, Why.FAULT) in items(tmp_path)
    assert [line["event"] for line in told] == ["decision_not_encoded"]


def test_a_folder_that_cannot_be_made_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(OSError), log_in(tmp_path / "file" / "folder"):  # noqa: PT011
        pass


async def test_an_extender_keeps_a_log_that_plays_again(tmp_path: Path) -> None:
    world = World()
    await world.add_node("node-1")
    with log_in(tmp_path) as log:
        async with world.extender(Settings(), witness=log) as service:
            assert isinstance(service.knowledge.seam, Seam)

    told = reproduced(runs([tmp_path]))
    assert told.calls == log.figures().records > 0
    assert told.exact


def test_headers_select_by_hidden_names_from_the_first_file_to_the_next(tmp_path: Path) -> None:
    policy, other = (parsed(BY_NAME.encode(), "rules").in_force for _ in range(2))
    names = Names(b"0123456789abcdef")
    adopted = Call("Knowledge.adopt", (other,), {}, (), other)
    log = DecisionLog(
        tmp_path, policy=policy, settings=Settings(), names=names, limits=Limits(file_bytes=1)
    )
    with log:
        log.heard(adopted)

    (run,) = runs([tmp_path])
    assert [part.header.policy for part in run.parts] == [names.of_policy(policy)] * 2
    assert not [part for part in run.parts if b"payroll" in b"".join(disk.lines(part.path))]


# Reading.


def written(folder: Path, count: int = 40) -> Path:
    with log_in(folder) as log:
        for n in range(count):
            log.heard(call(n))
    (path,) = found(folder)
    return path


def readable(path: Path) -> list[int]:
    """The numbers of the calls that can be read; none if not even the first line can."""
    try:
        (run,) = runs([path])
    except LogUnreadable:
        return []
    return [item.n for item in run.items() if isinstance(item, Entry)]


def test_a_torn_file_is_read_up_to_the_damage(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole").read_bytes()
    torn = tmp_path / "torn.jsonl.zst"
    before = 0

    for length in range(0, len(whole), 7):
        torn.write_bytes(whole[:length])
        there = readable(torn)
        assert there == list(range(1, len(there) + 1))
        assert len(there) >= before
        before = len(there)


def test_a_flipped_bit_is_found_and_nothing_before_it_is_lost(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole").read_bytes()
    flipped = tmp_path / "flipped.jsonl.zst"

    for at in range(0, len(whole), 11):
        flipped.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            told = reproduced(runs([flipped]))
        except LogUnreadable:
            continue
        assert told.calls == 40 or told.damaged_at or told.unfinished or told.gaps


def test_where_a_file_could_not_be_read_further_is_told(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-40])

    told = reproduced(runs([path]))

    assert told.unfinished == 1
    assert told.calls < 40 or told.damaged_at or told.unfinished


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"not a log", "cannot be read"),
        (b"", "no file of a decision log"),
        (disk.compressed(b'{"decisionLog": 99}\n'), "has format 99"),
        (disk.compressed(b'{"something": 1}\n'), "no file of a decision log"),
        (disk.compressed(b'{"x":' + b"[" * 100_000 + b"\n"), "no file of a decision log"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "other.jsonl.zst"
    path.write_bytes(content)

    with pytest.raises(LogUnreadable, match=complaint):
        runs([path])


def test_a_line_that_is_nested_without_end_is_a_damage(tmp_path: Path) -> None:
    whole = b"\n".join(disk.lines(written(tmp_path))) + b"\n"
    path = tmp_path / "deep.jsonl.zst"
    path.write_bytes(disk.compressed(whole + b'{"n":' + b"[" * 100_000 + b"\n"))

    *_, damage = next(iter(runs([path]))).items()

    assert isinstance(damage, Damage)


def test_an_empty_folder_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(LogUnreadable, match="there is no file"):
        runs([tmp_path])


def test_files_may_be_given_one_by_one_in_any_order(tmp_path: Path) -> None:
    path = written(tmp_path)

    (run,) = runs([path])

    assert isinstance(run, Run)
    assert run.header.policy.version == POLICY.version
