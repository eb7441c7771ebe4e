"""What of a log can be read, whatever happened to its files, or whoever wrote them."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from extender.decision_log import DecisionLog, LogUnreadable, Run, reproduced, runs
from extender.decision_log import files as disk
from extender.decision_log.encoding import LISTS, Encoder
from extender.decision_log.files import found
from extender.decision_log.layout import Entry, Names
from extender.decision_log.reading import LONGEST_NAME, MOST_NAMES, Damage, Lists, item
from extender.policy import InForce, PolicyName
from extender.service.hooks import Judged
from extender.service.seam import Call
from extender.settings import Settings
from tests.e2e.stack import decided_again

POLICY = InForce.of(PolicyName.DEFAULT)


def written(folder: Path, count: int = 40) -> Path:
    before = set(found(folder)) if folder.exists() else set()
    with DecisionLog(folder, policy=POLICY, settings=Settings()) as log:
        for n in range(count):
            log.heard(Call("Knowledge.lease", (f"node-{n}", str(n)), {}, (float(n),), None))
    (path,) = set(found(folder)) - before
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


def test_a_process_killed_between_two_writes_leaves_an_unfinished_run_and_no_damage(
    tmp_path: Path,
) -> None:
    whole = b"".join(line + b"\n" for line in disk.lines(written(tmp_path / "whole")))
    end = whole.rindex(b'{"end"')
    cut = tmp_path / "cut.jsonl.zst"

    for length in range(whole.index(b"\n") + 1, end + 1, 97):
        cut.write_bytes(disk.compressed(whole[:length]))
        told = reproduced(runs([cut]))
        assert (told.damaged_at, told.gaps, told.unfinished) == ((), 0, 1)
        assert told.calls == whole[:length].count(b"\n") - 1


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


def test_an_empty_folder_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(LogUnreadable, match="there is no file"):
        runs([tmp_path])


def test_files_may_be_given_one_by_one_in_any_order(tmp_path: Path) -> None:
    path = written(tmp_path)

    (run,) = runs([path])

    assert isinstance(run, Run)
    assert run.header.policy.version == POLICY.version


def test_a_file_that_is_given_twice_is_read_once(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "beside").mkdir()

    given = [tmp_path, path, tmp_path / "beside" / ".." / path.name]

    assert reproduced(runs(given)).calls == 40
    assert reproduced(runs(given[1:])).calls == 40


@pytest.mark.parametrize("content", [b"", b"not a log", disk.compressed(b'{"decisionLog": 99}\n')])
def test_a_file_of_a_folder_that_cannot_be_read_is_a_damage_of_its_run(
    tmp_path: Path, content: bytes
) -> None:
    path = written(tmp_path)
    following = path.with_name(path.name.replace("-000001.", "-000002."))
    following.write_bytes(content)

    (run,) = runs([tmp_path])

    assert [each.file for each in run.items() if isinstance(each, Damage)] == [str(following)]
    told = reproduced([run])
    assert (told.calls, len(told.damaged_at)) == (40, 1)
    assert not told.exact
    with pytest.raises(LogUnreadable, match=following.name):
        runs([tmp_path, following])


def test_a_file_of_nobody_is_told_with_the_last_run(tmp_path: Path) -> None:
    first, last = written(tmp_path), written(tmp_path)
    (tmp_path / "stray.jsonl.zst").write_bytes(b"")

    told = runs([tmp_path])

    assert [len(run.parts) for run in told] == [1, 2]
    assert {first, last} == {run.parts[0].path for run in told}


def test_a_folder_of_which_nothing_can_be_read_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "stray.jsonl.zst").write_bytes(b"")

    with pytest.raises(LogUnreadable, match=r"stray\.jsonl\.zst: is no file"):
        runs([tmp_path])


async def test_a_stack_ends_well_only_if_the_log_is_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "log")
    await decided_again(tmp_path / "log")
    shutil.copy(path, tmp_path / "copy.jsonl.zst")
    (tmp_path / "log" / path.name.replace("-000001.", "-000002.")).write_bytes(b"")

    with pytest.raises(AssertionError):
        await decided_again(tmp_path / "log")


def test_lists_that_are_referred_to_are_kept_as_their_writer_keeps_them() -> None:
    lists, encoder = Lists(), Encoder("policy")
    sent = [tuple(f"node-{of}-{n}" for n in range(20)) for of in range(LISTS * 2)]
    # What is met again stays; what was not met for longest goes.
    turns = [*range(LISTS), 0, *range(LISTS, LISTS + 8), 0, 3, 0, *range(LISTS * 2), 5]

    for turn in turns:
        told = Call("Hooks.judge", (None, sent[turn]), {}, (), Judged())
        *_, entry = [item(line, lists) for line in encoder.lines(told)]
        assert isinstance(entry, Entry)
        assert entry.given["names"] == sent[turn]


def test_lists_that_nobody_refers_to_do_not_pile_up() -> None:
    lists = Lists()

    for number in range(10 * LISTS):
        lists.keep(Names(number, ("node",)))

    assert len(lists._are) == LISTS
    with pytest.raises(KeyError):
        lists.met(0)


@pytest.mark.parametrize("names", [("n",) * (MOST_NAMES + 1), ("n" * (LONGEST_NAME + 1),)])
def test_a_list_that_nobody_would_write_is_not_read(names: tuple[str, ...]) -> None:
    line = msgspec.json.encode(Names(1, names))

    with pytest.raises(LogUnreadable, match="a list has more"):
        item(line, Lists())


def test_a_line_that_is_nested_without_end_is_not_read() -> None:
    with pytest.raises(LogUnreadable, match="a line is torn"):
        item(b"[" * 100_000, Lists())
