from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Inventory, Realized
from nodeagent.journal import LONGEST_EPOCH, MOST_FOLLOWED, JournalError, Kept, Made
from nodeagent.journal_file import FileJournal
from tests.unit.nodeagent.builders import assignment

MADE = (
    Made("a", "GPU-0", 19, Placement(3, 1), "boot"),
    Made("b", "GPU-1", 9, Placement(4, 4), "boot"),
)

KEPT = Kept(
    (assignment("b"), assignment("a", start=1)),
    Inventory(agent_epoch="life-3", sequence=7, realized=(Realized("b", "slot-0"), Realized("a"))),
    followed=("life-2", "life-1"),
)


async def loaded(path: Path) -> FileJournal:
    journal = FileJournal(path)
    await journal.load()
    return journal


async def test_what_was_saved_is_found_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "node" / "journal.json"
    await FileJournal(path).save(MADE)

    again = await loaded(path)

    assert (again.made, again.damage) == (MADE, "")


async def test_nothing_saved_is_nothing_made(tmp_path: Path) -> None:
    journal = await loaded(tmp_path / "journal.json")

    assert (journal.made, journal.damage) == ((), "")


async def test_a_journal_without_a_path_is_kept_in_memory() -> None:
    journal = FileJournal()
    await journal.load()
    await journal.save(MADE)

    assert journal.made == MADE


async def test_a_file_torn_at_any_byte_proves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    await FileJournal(path).save(MADE)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])

        journal = await loaded(path)

        assert journal.made == ()
        assert str(path) in journal.damage
        assert path.with_name("journal.json.unreadable").read_bytes() == whole[:length]


@pytest.mark.parametrize(
    "text",
    [
        b"null",
        b'{"version":2,"made":[]}',
        b'{"version":1,"made":[],"more":0}',
        b'{"version":1,"made":[{"assignment":"a"}]}',
        b"\xff\xfe",
    ],
)
async def test_a_file_of_another_making_proves_nothing(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "journal.json"
    path.write_bytes(text)

    journal = await loaded(path)

    assert (journal.made, bool(journal.damage)) == ((), True)


async def test_a_half_written_successor_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    await FileJournal(path).save(MADE)
    path.with_name("journal.json.new").write_bytes(b"{")

    assert (await loaded(path)).made == MADE


async def test_a_disk_that_refuses_is_an_error_and_nothing_counts_as_saved(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    journal = FileJournal(tmp_path / "file" / "journal.json")

    with pytest.raises(JournalError):
        await journal.save(MADE)
    assert journal.made == ()


async def test_what_was_told_is_found_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "node" / "journal.json"
    await FileJournal(path).keep(KEPT)

    again = await loaded(path)

    assert (again.kept, again.made, again.damage) == (KEPT, (), "")


async def test_an_inventory_torn_at_any_byte_is_none_and_does_the_journal_no_harm(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.json"
    journal = FileJournal(path)
    await journal.save(MADE)
    await journal.keep(KEPT)
    beside = path.with_name("told.json")
    whole = beside.read_bytes()
    for length in range(len(whole)):
        beside.write_bytes(whole[:length])

        again = await loaded(path)

        assert (again.kept, again.made, again.damage) == (Kept(), MADE, "")


@pytest.mark.parametrize(
    "text",
    [
        b"null",
        b'{"version":2,"kept":{}}',
        b'{"version":1,"kept":[]}',
        b'{"version":1,"kept":{"followed":[1]}}',
        b'{"version":1,"kept":{"followed":["%s"]}}' % (b"x" * (LONGEST_EPOCH + 1)),
        b'{"version":1,"kept":{"followed":[%s""]}}' % (b'"",' * MOST_FOLLOWED),
        b"\xff",
    ],
)
async def test_an_inventory_of_another_making_is_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "told.json").write_bytes(text)

    assert (await loaded(tmp_path / "journal.json")).kept == Kept()


async def test_an_inventory_that_a_disk_refuses_does_not_count_as_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    journal = FileJournal(tmp_path / "file" / "journal.json")

    with pytest.raises(JournalError):
        await journal.keep(KEPT)
    assert journal.kept == Kept()


async def test_what_an_agent_kept_that_knew_of_no_order_is_found_and_compared_with_nothing(
    tmp_path: Path,
) -> None:
    text = b'{"version":1,"kept":{"plan":[],"inventory":{"realized":[{"id":"a","slot":"s-0"}]}}}'
    (tmp_path / "told.json").write_bytes(text)

    kept = (await loaded(tmp_path / "journal.json")).kept

    assert kept.inventory.realized == (Realized("a", "s-0"),)
    assert kept.newer_than(Inventory())
    assert not kept.newer_than(Inventory(agent_epoch="life-1", sequence=1))


@pytest.mark.parametrize(
    ("epoch", "sequence", "newer"),
    [
        ("", 0, True),
        ("life-1", 99, True),
        ("life-2", 8, True),
        ("life-3", 6, True),
        ("life-3", 7, False),
        ("life-3", 8, False),
        ("life-4", 1, False),
    ],
)
def test_what_is_kept_is_newer_than_earlier_words_and_than_those_of_agents_before(
    epoch: str, sequence: int, newer: bool
) -> None:
    """An agent that it says nothing of may have kept nothing, or this is a copy from a backup."""
    assert KEPT.newer_than(Inventory(agent_epoch=epoch, sequence=sequence)) is newer


def test_an_agent_follows_whom_it_found_and_all_that_those_followed() -> None:
    def followed(kept: Kept, epoch: str, found: str) -> tuple[str, ...]:
        return kept.followed_by(epoch, Inventory(agent_epoch=found))

    assert followed(KEPT, "life-4", "life-3") == ("life-3", "life-2", "life-1")
    assert followed(KEPT, "life-4", "life-1") == ("life-1", "life-3", "life-2")
    assert followed(KEPT, "life-5", "life-4") == ("life-4", "life-3", "life-2", "life-1")
    assert followed(KEPT, "life-4", "") == ("life-3", "life-2", "life-1")
    assert followed(Kept(), "life-1", "") == ()
    assert followed(KEPT, "life-3", "life-9") == KEPT.followed, "what it found when it began counts"


def test_of_ever_so_many_agents_the_latest_are_known_and_whose_word_there_is() -> None:
    kept, found = Kept(), Inventory(agent_epoch="first")
    for n in range(2 * MOST_FOLLOWED):
        followed = kept.followed_by(f"life-{n}", found)
        kept = Kept(inventory=Inventory(agent_epoch=f"life-{n}"), followed=followed)

    assert len(kept.followed) == MOST_FOLLOWED
    assert kept.followed[:2] == ("first", f"life-{2 * MOST_FOLLOWED - 2}")
    assert kept.followed_by("life", Inventory(agent_epoch="x" * 1000))[0] != "x" * 1000
