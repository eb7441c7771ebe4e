"""The log's thread and files: nothing stands in the way of answers, and what is missing is told."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from extender.decision_log import DecisionLog, Limits, Names, reproduced, runs, writing
from extender.decision_log import files as disk
from extender.decision_log.files import found
from extender.decision_log.layout import Entry, Gap, Why
from extender.decision_log.reading import Damage, Item, Part
from extender.decision_log.waiting import weighed
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
    log = log_in(tmp_path, most_bytes=10 * weighed(call(0)))
    for n in range(15):  # nobody writes yet
        log.heard(call(n))

    assert log.figures().lost == 5
    assert log.figures().waiting == 10
    with log:
        pass

    assert numbers(tmp_path) == list(range(1, 11))
    assert [item for item in items(tmp_path) if isinstance(item, Gap)] == [Gap(5, Why.OVERFLOW)]
    assert reproduced(runs([tmp_path])).missing == 5


async def test_files_are_bounded_and_the_oldest_go(tmp_path: Path) -> None:
    limits = Limits(file_bytes=4_000, files=3)
    with log_in(tmp_path, limits=limits) as log:
        for n in range(60):
            log.heard(Call("Knowledge.lease", (f"node-{n}", incompressible(500)), {}, (), None))
            await until(lambda n=n: log.figures().records == n + 1)  # type: ignore[misc]

    assert sum(path.stat().st_size for path in found(tmp_path)) <= limits.kept_bytes
    (run,) = runs([tmp_path])
    kept = [part.header.file for part in run.parts if isinstance(part, Part)]
    assert kept == list(range(kept[0], kept[-1] + 1))
    assert kept[0] > 1
    assert reproduced([run]).gaps == 1
    assert numbers(tmp_path)[-1] == 60


def test_several_runs_in_a_folder_are_told_apart(tmp_path: Path) -> None:
    for _ in range(2):
        with log_in(tmp_path) as log:
            log.heard(call(1))

    assert len(runs([tmp_path])) == 2
    assert reproduced(runs([tmp_path])).gaps == 0


def incompressible(length: int) -> str:
    return secrets.token_hex(length // 2)


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


async def test_a_disk_that_stays_full_costs_no_file_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    limits = Limits(file_bytes=4_000, files=2)
    with log_in(tmp_path, limits=limits, clock=lambda: now) as log:
        log.heard(call(0))
        await until(lambda: log.figures().records == 1)
        with full(monkeypatch):
            for again in range(1, 21):
                now += RETRY_SECONDS
                log.heard(call(again))
                await until(lambda again=again: log.figures().errors == again)  # type: ignore[misc]

            (path,) = found(tmp_path)
            assert path.stat().st_size > 0
            assert numbers(tmp_path) == [1]
        now += RETRY_SECONDS
        log.heard(call(21))
        await until(lambda: log.figures().records == 2)

    assert numbers(tmp_path) == [1, 22]
    assert reproduced(runs([tmp_path])).missing == 20


async def test_a_file_that_begins_can_be_read_before_anything_else_is_written(
    tmp_path: Path,
) -> None:
    with log_in(tmp_path, limits=Limits(file_bytes=1)) as log:
        log.heard(call(0))
        await until(lambda: len(found(tmp_path)) == 2 or log.figures().records == 1)
        await until(lambda: all(not isinstance(item, Damage) for item in items(tmp_path)))

    assert log.figures().records == 1


async def test_a_file_that_is_removed_is_begun_again(tmp_path: Path) -> None:
    now = 0.0
    with log_in(tmp_path / "log", clock=lambda: now) as log:
        shutil.rmtree(tmp_path / "log")
        log.heard(call(0))
        await until(lambda: log.figures().errors == 1)
        now = RETRY_SECONDS
        log.heard(call(1))
        await until(lambda: log.figures().records == 1)

    assert log.figures().lost == 1
    assert numbers(tmp_path / "log") == [2]
    assert Gap(1, Why.DISK) in items(tmp_path / "log")


def test_a_disk_that_hangs_does_not_keep_the_process_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(writing, "CLOSING_SECONDS", 0.3)
    monkeypatch.setattr(disk.Files, "flush", lambda self: goes_on.wait() and None)
    log = log_in(tmp_path)
    monkeypatch.setattr(log._files, "begin", lambda stamp, head: None)
    monkeypatch.setattr(log._files, "write", lambda lines: None)

    with capture_logs() as told, log:
        for n in range(3):
            log.heard(call(n))

    assert [(line["event"], line["lost"]) for line in told] == [("decision_log_abandoned", 3)]
    assert log.figures().lost == 3
    goes_on.set()
    log._thread.join()


def test_what_cannot_be_encoded_is_a_gap(tmp_path: Path) -> None:
    with capture_logs() as told, log_in(tmp_path) as log:
        log.heard(call(0))
        log.heard(Call("Knowledge.lease", (object(), "1"), {}, (), None))
        log.heard(call(2))

    assert numbers(tmp_path) == [1, 3]
    assert Gap(1, Why.FAULT) in items(tmp_path)
    assert [line["event"] for line in told] == ["decision_not_encoded"]


@pytest.mark.parametrize("at", ["begin", "write", "flush", "end"])
async def test_no_fault_of_the_files_ends_the_thread_or_goes_uncounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def fail(self: disk.Files, *given: object) -> None:
        raise RuntimeError("a fault")

    now = 0.0
    with capture_logs() as told, log_in(tmp_path, clock=lambda: now) as log:
        log.heard(call(0))
        await until(lambda: log.figures().records == 1)
        with monkeypatch.context() as patched:
            patched.setattr(disk.Files, at, fail)
            for n in range(1, 4):
                log.heard(call(n))
                now += RETRY_SECONDS
            log._stopping = True
            log._thread.join()

    figures = log.figures()
    assert figures.waiting == 0
    assert figures.records + figures.lost == 4
    assert log._encoder.calls == 4
    broken = [line for line in told if line["event"] == "decision_log_broken"]
    assert at == "begin" or isinstance(broken[0]["exc_info"], RuntimeError)


async def test_a_file_that_cannot_be_begun_for_a_fault_shows_in_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: disk.Files, *given: object) -> None:
        raise RuntimeError("a fault")

    now = 0.0
    with log_in(tmp_path, clock=lambda: now) as log:
        with full(monkeypatch):
            log.heard(call(0))
            await until(lambda: log.figures().lost == 1)
        with monkeypatch.context() as patched:
            patched.setattr(disk.Files, "begin", fail)
            now += RETRY_SECONDS
            log.heard(call(1))
            await until(lambda: log.figures().lost == 2)
        now += RETRY_SECONDS
        log.heard(call(2))
        await until(lambda: log.figures().records == 1)

    assert numbers(tmp_path) == [3]
    assert reproduced(runs([tmp_path])).missing == 2


async def test_a_log_that_cannot_be_spoken_to_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(event: str, **facts: object) -> None:
        raise BrokenPipeError("nobody reads")

    now = 0.0
    with log_in(tmp_path, clock=lambda: now) as log:
        with full(monkeypatch), monkeypatch.context() as patched:
            patched.setattr(writing.log, "error", refuse, raising=False)
            log.heard(call(0))
            await until(lambda: log.figures().lost == 1)
        now += RETRY_SECONDS
        log.heard(call(1))
        await until(lambda: log.figures().records == 1)

    assert numbers(tmp_path) == [2]


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
    limits = Limits(file_bytes=1, files=100_000)
    with DecisionLog(
        tmp_path, policy=policy, settings=Settings(), names=names, limits=limits
    ) as log:
        log.heard(adopted)

    (run,) = runs([tmp_path])
    assert all(isinstance(part, Part) for part in run.parts)
    policies = [part.header.policy for part in run.parts if isinstance(part, Part)]
    assert policies == [names.of_policy(policy)] * 2
    assert not [part for part in run.parts if b"payroll" in b"".join(disk.lines(part.path))]
