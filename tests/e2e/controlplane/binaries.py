"""The control plane's programs: which versions, where they lie, and how they are built.

The versions are those of go.mod, and nowhere else. Standard library only, so that this file also
runs as a script, before anything is installed:

    python tests/e2e/controlplane/binaries.py --build
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MODULE = Path(__file__).resolve().parent

PROGRAMS: Mapping[str, str] = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
"""What is built, and from which Go package; go.mod lists the same packages as tools."""

OPTIONAL = frozenset({"kubectl"})
"""No control plane needs it: it is for people, and builds the manifests in their tests."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """A complete set of programs."""

    etcd: Path
    kube_apiserver: Path
    kube_scheduler: Path
    kube_controller_manager: Path
    kubectl: Path | None


@dataclass(frozen=True, slots=True)
class Missing:
    """No complete set was found."""

    reason: str
    """One line, with the remedy."""


class CannotBuild(Exception):
    """The programs could not be built; the message is one line, with the remedy."""


@dataclass(frozen=True, slots=True)
class Versions:
    """What go.mod asks for."""

    go: tuple[int, ...]
    kubernetes: str
    etcd: str

    @classmethod
    def read(cls, module: Path = MODULE) -> Versions:
        """Read go.mod."""
        text = (module / "go.mod").read_text()

        def found(pattern: str) -> str:
            match = re.search(pattern, text, re.MULTILINE)
            if match is None:
                raise ValueError(f"{module / 'go.mod'} has no line like {pattern!r}")
            return match[1]

        return cls(
            go=_numbers(found(r"^go ([\d.]+)$")),
            kubernetes=found(r"^\s*k8s\.io/kubernetes (v\S+)"),
            etcd=found(r"^\s*go\.etcd\.io/etcd/server/v3 (v\S+)"),
        )


def cache() -> Path:
    """Where build() puts the programs: one directory for each set of versions and platform."""
    versions = Versions.read()
    recipe = b"".join((MODULE / name).read_bytes() for name in ("go.mod", "go.sum"))
    digest = hashlib.sha256(recipe + " ".join(_flags(versions)).encode()).hexdigest()[:8]
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    key = f"k8s-{versions.kubernetes}_etcd-{versions.etcd}_{sys.platform}-{machine}_{digest}"
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "tangram" / "controlplane" / key


def locate() -> Binaries | Missing:
    """Find the programs, in KUBEBUILDER_ASSETS or else where build() leaves them; build nothing."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    directories = ([Path(assets)] if assets else []) + [cache()]
    lacking = {directory: _lacking(directory) for directory in directories}
    for directory, absent in lacking.items():
        if not absent:
            return _binaries(directory)
    seen = "; ".join(f"{directory} lacks {', '.join(it)}" for directory, it in lacking.items())
    return Missing(
        f"no control plane ({seen}): build it once with `make ci-tools`,"
        " or set KUBEBUILDER_ASSETS to a directory that has these programs"
    )


def build() -> Binaries:
    """Build what the cache lacks; a killed build leaves whole programs, and the next goes on."""
    destination = cache()
    versions = Versions.read()
    destination.mkdir(parents=True, exist_ok=True)
    with _alone(destination):
        for name, package in PROGRAMS.items():
            if _runs(destination / name):
                continue
            go = _go(versions)
            print(f"{name}: building {package}", flush=True)
            began = time.monotonic()
            with _workplace(destination) as workplace:
                _compile(go, package, workplace / name, versions)
                size_mb = (workplace / name).stat().st_size / 1e6
                (workplace / name).replace(destination / name)
            print(f"{name}: {size_mb:.0f} MB in {time.monotonic() - began:.0f} s", flush=True)
    return _binaries(destination)


def _compile(go: str, package: str, output: Path, versions: Versions) -> None:
    command = [go, "build", *_flags(versions), "-o", str(output), package]
    settings = {
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly",
        "GOWORK": "off",
    }
    if subprocess.run(command, cwd=MODULE, env=os.environ | settings).returncode:
        raise CannotBuild(f"`go build {package}` failed: its own words are above")


def _flags(versions: Versions) -> list[str]:
    # Without gitVersion, /version answers v0.0.0-master.
    major, minor, *_ = versions.kubernetes.removeprefix("v").split(".")
    stamps = {"gitVersion": versions.kubernetes, "gitMajor": major, "gitMinor": minor}
    stamped = " ".join(f"-X k8s.io/component-base/version.{k}={v}" for k, v in stamps.items())
    return ["-trimpath", "-buildvcs=false", f"-ldflags=-s -w {stamped}"]


def _go(versions: Versions) -> str:
    """Find a Go that is new enough; GOTOOLCHAIN=local means that it will not fetch another."""
    wanted = ".".join(map(str, versions.go))
    remedy = f"install Go {wanted} or newer (https://go.dev/dl) and put it on PATH"
    go = shutil.which("go")
    if go is None:
        raise CannotBuild(f"no `go` on PATH: {remedy}")
    # Asked away from go.mod: within its reach, an older Go refuses to say even its own version.
    asked = subprocess.run(
        [go, "env", "GOVERSION"],
        cwd=Path(go).parent,
        env=os.environ | {"GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
    )
    match = re.search(r"go(\d+(?:\.\d+)*)", asked.stdout)
    if match is None or _numbers(match[1]) < versions.go:
        raise CannotBuild(f"{go} is {asked.stdout.strip() or 'of no known version'}: {remedy}")
    return go


@contextmanager
def _alone(destination: Path) -> Iterator[None]:
    """Keep other builds of the same programs waiting; a killed build lets go by itself."""
    with (destination / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another build of {destination.name} is under way: waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _workplace(destination: Path) -> Iterator[Path]:
    """Make a directory inside the cache, so that a finished program appears by one rename."""
    for abandoned in destination.glob(".building-*"):  # by a killed build: we hold the lock
        shutil.rmtree(abandoned, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=destination) as workplace:
        yield Path(workplace)


def _binaries(directory: Path) -> Binaries:
    kubectl = directory / "kubectl"
    return Binaries(
        etcd=directory / "etcd",
        kube_apiserver=directory / "kube-apiserver",
        kube_scheduler=directory / "kube-scheduler",
        kube_controller_manager=directory / "kube-controller-manager",
        kubectl=kubectl if _runs(kubectl) else None,
    )


def _lacking(directory: Path) -> list[str]:
    return [name for name in PROGRAMS if name not in OPTIONAL and not _runs(directory / name)]


def _runs(program: Path) -> bool:
    return program.is_file() and os.access(program, os.X_OK)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def main() -> int:
    """Say where the programs are, or build them."""
    parser = argparse.ArgumentParser(description="Find or build the control plane that tests run.")
    parser.add_argument("--build", action="store_true", help="build what is missing, once")
    try:
        found = build() if parser.parse_args().build else locate()
    except CannotBuild as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if isinstance(found, Missing):
        print(found.reason, file=sys.stderr)
        return 1
    print(found.etcd.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
