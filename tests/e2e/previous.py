"""The version before this one, whole, as the repository's history has it.

Until there are releases it is the last commit whose definition of GpuNode differs from today's.
``TANGRAM_PREVIOUS`` names another, such as a release's tag.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.process import ROOT

PINNED = "35b9b5f8d1768eeebdc1caceb0edec82bafbd8f5"
VARIABLE = "TANGRAM_PREVIOUS"
PARTS = ("extender", "nodeagent", "manifests/base")


def previous_version(directory: Path, repository: Path = ROOT) -> Path:
    """Unpack the version before into *directory*, and return where it can be run.

    Where no history is to be expected (an export, a shallow clone, a repository that is no clone)
    the calling test is skipped: that is no fault of the code. In a whole clone the version must be
    there, and so must one that ``TANGRAM_PREVIOUS`` names.
    """
    git = ("git", "-c", "safe.directory=*", "-C", str(repository))
    commit = os.environ.get(VARIABLE, PINNED)
    tree = directory / "previous"
    tree.mkdir()
    archive = directory / "previous.tar"
    for command in (
        # Whoever owns the files: they are only read.
        (*git, "archive", f"--output={archive}", commit, *PARTS),
        ("tar", "-xf", str(archive), "-C", str(tree)),
    ):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            reason = f"no previous version {commit}: {said.strip()} (git fetch --unshallow)"
            if VARIABLE in os.environ or _is_whole_clone(git):
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
    return tree


def _is_whole_clone(git: tuple[str, ...]) -> bool:
    """Tell whether a repository has been cloned from another, with all its history."""
    told = [
        subprocess.run((*git, *question), capture_output=True, text=True, timeout=60).stdout.strip()
        for question in (("rev-parse", "--is-shallow-repository"), ("remote",))
    ]
    return told[0] == "false" and told[1] != ""
