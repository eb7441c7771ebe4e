"""Where the history ought to be, the version before must be there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.controlplane.required import REQUIRED
from tests.e2e.previous import PINNED, VARIABLE, differing, previous_version


def made(directory: Path, *commands: tuple[str, ...]) -> None:
    """Carry commands of git out."""
    for command in commands:
        subprocess.run(("git", "-C", str(directory), *command), check=True, capture_output=True)


def test_a_version_may_be_missing_where_there_is_no_history_and_must_not_in_a_whole_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (VARIABLE, REQUIRED):
        monkeypatch.delenv(name, raising=False)
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

    # Where the control plane is required, a clone that can be completed has to be.
    monkeypatch.setenv(REQUIRED, "1")
    (tmp_path / "to-be-completed").mkdir()
    with pytest.raises(pytest.fail.Exception, match="git fetch --unshallow"):
        previous_version(tmp_path / "to-be-completed", tmp_path / "shallow")
    origin.rename(tmp_path / "out-of-reach")
    for name in ("export", "shallow"):
        (tmp_path / f"required-for-{name}").mkdir()
        with pytest.raises(pytest.skip.Exception, match="no previous version"):
            previous_version(tmp_path / f"required-for-{name}", tmp_path / name)


def test_the_version_before_is_the_last_whose_definition_differs() -> None:
    found = differing()

    assert found == [PINNED], f"pin {found[0]}" if found else "nothing differs any more"
