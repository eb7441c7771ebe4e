"""Carries a Containerfile out where nothing builds images: its commands, as they are written.

Each stage is this machine's own root with a layer of its own over it, in which the Python that runs
the tests is where the base image has its own. All of it is in memory, in a mount namespace that
ends with the process: it takes root, and leaves nothing behind. The base image itself is not tried.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.manifests.containerfile import Stage, Step, stages
from tests.manifests.generate import ROOT

PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
"""That of Debian's and of Python's images."""
PIP = '#!/bin/sh\nexec /usr/local/bin/python -m pip "$@"\n'
"""This machine's would install into this machine's Python."""
MARK = "-- tried --"


class Trial(NamedTuple):
    """A command in the finished image, as *user* (UID:GID), and what became of it."""

    command: str
    user: str
    status: int = -1
    said: str = ""


def build_and_try(file: Path, where: Path, trials: Sequence[Trial]) -> list[Trial]:
    """Build what *file* says and try commands in it, whose code nobody may change by then.

    *where* is an empty directory.

    Raises:
        CalledProcessError: a command of the Containerfile has failed.
    """
    script = "\n".join(_script(stages(file), where, trials))
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", script],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, file, done.stdout, done.stderr)
    _, *results = done.stdout.split(f"{MARK}\n")
    told = (text.split("\n", 1) for text in results)
    return [
        trial._replace(status=int(status), said=said.removesuffix("\n"))
        for trial, (status, said) in zip(trials, told, strict=True)
    ]


def _script(built: Sequence[Stage], where: Path, trials: Sequence[Trial]) -> Iterator[str]:
    yield f"mount -t tmpfs tmpfs {where}"
    for number, stage in enumerate(built):
        root = where / (stage.name or f"stage{number}")
        yield from _begun(root, where / f"layers{number}")
        directory = "/"
        for step in stage.steps:
            if step.instruction == "WORKDIR":
                directory = step.text
                yield f"mkdir -p {root}{directory}"
            elif step.instruction == "COPY":
                yield from _copied(step, where, root, directory)
            elif step.instruction == "RUN":
                within = f"cd {directory} && {step.text}"
                command = f"env PATH={PATH} chroot {root} sh -euc {shlex.quote(within)}"
                yield f"{command} >&2"
    yield f"mount -o remount,ro {root}"
    yield f"mount -o remount,ro {root}/usr/local"
    settings = shlex.split(built[-1].last("ENV"))
    path = f"PATH={PATH}"
    environment = [each.replace("$PATH", PATH) for each in settings]
    for trial in trials:
        run = ["chroot", f"--userspec={trial.user}", "--groups=", str(root)]
        run += ["env", "-i", path, *environment, "sh", "-c", f"cd / && {trial.command}"]
        yield f"said=$({shlex.join(run)} 2>&1) && status=0 || status=$?"
        yield f'printf \'%s\\n\' {shlex.quote(MARK)} "$status" "$said"'


def _begun(root: Path, layers: Path) -> Iterator[str]:
    """Lay a root whose Python is in /usr/local, as in the base image."""
    yield f"mkdir -p {root} {layers}/upper {layers}/work {layers}/python {layers}/python-work"
    yield _overlay("/", layers / "upper", layers / "work", root)
    yield f"mkdir -p {layers}/python/bin"
    yield f"printf %s {shlex.quote(PIP)} > {layers}/python/bin/pip"
    yield f"chmod -R a+rX {layers}/python && chmod a+x {layers}/python/bin/pip"
    prefix = Path(sys.base_prefix)
    yield _overlay(str(prefix), layers / "python", layers / "python-work", root / "usr/local")
    yield f"chroot {root} ldconfig"  # it may have been linked to look where only root may
    for each in ("proc", "dev"):
        yield f"mount --bind /{each} {root}/{each}"
    yield f"mount -t tmpfs tmpfs {root}/tmp"


def _overlay(lower: str, upper: Path, work: Path, at: Path) -> str:
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    return f"mount -t overlay overlay -o {options} {at}"


def _copied(step: Step, where: Path, root: Path, directory: str) -> Iterator[str]:
    *sources, target = step.words
    origin = ROOT
    if sources[0].startswith("--from="):
        origin = where / sources.pop(0).removeprefix("--from=")
    at = Path(f"{root}{directory}") / target if not target.startswith("/") else f"{root}{target}"
    several = len(sources) > 1 or target.endswith("/")
    yield f"mkdir -p {at if several else Path(at).parent}"
    for source in sources:
        found = origin / source.lstrip("/")
        into = f"{at}/" if several or target in (".", "./") else f"{at}"
        yield f"cp -r {found} {into}"


def entrypoint(file: Path) -> list[str]:
    """Return the words of what a Containerfile starts."""
    found: list[str] = json.loads(stages(file)[-1].last("ENTRYPOINT"))
    return found
