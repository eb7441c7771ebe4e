"""The version before this one, whole, as the repository's history has it.

Until there are releases it is the last commit whose definition of GpuNode differs from today's.
``TANGRAM_PREVIOUS`` names another, such as a release's tag.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.controlplane.required import REQUIRED
from tests.e2e.process import ROOT

PINNED = "091d8961915c6c6d427d0649598d5468fd50f3e2"
VARIABLE = "TANGRAM_PREVIOUS"
DEFINITION = "manifests/base/crd/gpunodes.yaml"
PARTS = ("extender", "nodeagent", "manifests/base")


def previous_version(directory: Path, repository: Path = ROOT) -> Path:
    """Unpack the version before into *directory*, and return where it can be run.

    Where no history can be had (an export, a repository that is no clone, a shallow clone of one
    that does not answer) the calling test is skipped: that is no fault of the code. In a whole
    clone the version must be there, and so must one that ``TANGRAM_PREVIOUS`` names; where the
    control plane is required, a shallow clone has to be completed, too.
    """
    git = _git(repository)
    commit = os.environ.get(VARIABLE, PINNED)
    tree = directory / "previous"
    tree.mkdir()
    archive = directory / "previous.tar"
    for command in (
        (*git, "archive", f"--output={archive}", commit, *PARTS),
        ("tar", "-xf", str(archive), "-C", str(tree)),
    ):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            reason = f"no previous version {commit}: {said.strip()} (git fetch --unshallow)"
            if VARIABLE in os.environ or _is_whole_clone(git) or _is_to_be_completed(git):
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
    return tree


def differing(repository: Path = ROOT) -> list[str]:
    """Return the commits since the pinned one whose definition of GpuNode is not today's.

    It ought to be the only one, and thus the last. Newest first, and where the pinned one is not in
    the history, the calling test is skipped.
    """
    git = _git(repository)
    if subprocess.run((*git, "cat-file", "-e", PINNED), capture_output=True).returncode:
        pytest.skip(f"no history: {PINNED} is not in it")
    today = _answer(git, "hash-object", DEFINITION)
    since = [*_answer(git, "rev-list", "--ancestry-path", f"{PINNED}..HEAD").split(), PINNED]
    asked = subprocess.run(
        (*git, "cat-file", "--batch-check=%(objectname)"),
        input="".join(f"{commit}:{DEFINITION}\n" for commit in since),
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = asked.stdout.splitlines()
    return [commit for commit, blob in zip(since, found, strict=True) if blob != today]


def _git(repository: Path) -> tuple[str, ...]:
    # Whoever owns the files: they are only read.
    return ("git", "-c", "safe.directory=*", "-C", str(repository))


def _answer(git: tuple[str, ...], *question: str) -> str:
    asked = subprocess.run((*git, *question), capture_output=True, text=True, timeout=60)
    return asked.stdout.strip()


def _is_whole_clone(git: tuple[str, ...]) -> bool:
    """Tell whether a repository has been cloned from another, with all its history."""
    shallow = _answer(git, "rev-parse", "--is-shallow-repository")
    return shallow == "false" and _answer(git, "remote") != ""


def _is_to_be_completed(git: tuple[str, ...]) -> bool:
    """Tell whether the whole history is required, and whoever has it answers."""
    remotes = _answer(git, "remote").split()
    if os.environ.get(REQUIRED) != "1" or not remotes:
        return False
    try:
        return _answer(git, "ls-remote", "--quiet", remotes[0], "HEAD") != ""
    except subprocess.TimeoutExpired:
        return False
