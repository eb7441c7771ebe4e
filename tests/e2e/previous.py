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
GIT = ("git", "-c", "safe.directory=*", "-C", str(ROOT))
PARTS = ("extender", "nodeagent", "manifests/base/crd")


def previous_version(directory: Path) -> Path:
    """Unpack the version before into *directory*, and return where it can be run.

    Where the history is not at hand (an export, a shallow clone) the calling test is skipped: that
    is no fault of the code. One that ``TANGRAM_PREVIOUS`` names must be there.
    """
    commit = os.environ.get(VARIABLE, PINNED)
    tree = directory / "previous"
    tree.mkdir()
    archive = directory / "previous.tar"
    for command in (
        # Whoever owns the files: they are only read.
        (*GIT, "archive", f"--output={archive}", commit, *PARTS),
        ("tar", "-xf", str(archive), "-C", str(tree)),
    ):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            _left_out(f"no previous version {commit}: {said.strip()} (git fetch --unshallow)")
    return tree


def _left_out(reason: str) -> None:
    if VARIABLE in os.environ:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
