"""Where the history ought to be, the version before must be there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.previous import VARIABLE, previous_version


def made(directory: Path, *commands: tuple[str, ...]) -> None:
    """Carry commands of git out."""
    for command in commands:
        subprocess.run(("git", "-C", str(directory), *command), check=True, capture_output=True)


def test_a_version_may_be_missing_where_there_is_no_history_and_must_not_in_a_whole_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    origin, export = tmp_path / "origin", tmp_path / "export"
    for each in (origin, export):
        each.mkdir()
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--allow-empty")
    made(origin, ("init",), *[(*who, "--message", str(number)) for number in range(2)])
    made(tmp_path, ("clone", f"file://{origin}", "whole"))
    made(tmp_path, ("clone", "--depth", "1", f"file://{origin}", "shallow"))

    for name in ("export", "origin", "shallow"):
        (tmp_path / f"for-{name}").mkdir()
        with pytest.raises(pytest.skip.Exception, match="no previous version"):
            previous_version(tmp_path / f"for-{name}", tmp_path / name)
    (tmp_path / "for-whole").mkdir()
    with pytest.raises(pytest.fail.Exception, match="no previous version"):
        previous_version(tmp_path / "for-whole", tmp_path / "whole")
