"""The kubelet's own device manager, built from the sources that the real control plane is."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from nodeagent.api.gpunode import PodRef
from nodeagent.deviceplugin.places import Places
from nodeagent.deviceplugin.proto import deviceplugin_pb2 as v1beta1
from tests.e2e.controlplane.binaries import MODULE, cache
from tests.e2e.controlplane.required import REQUIRED
from tests.fakes.kubelet import Container, NotAdmitted, Pod

SOURCES = MODULE / "devicemanager"
GO_SECONDS = 600.0


class Unavailable(Exception):
    """What the control plane is built from is not to be had here."""


def built_for_tests() -> Path:
    """Return the program, compiled once for each content of its sources."""
    content = b"".join(path.read_bytes() for path in sorted(SOURCES.iterdir()))
    program = cache() / f"devicemanager-{hashlib.sha256(content).hexdigest()[:8]}"
    if not program.exists():
        with _or_no_test():
            _compile(program)
    return program


def published(module: str, path: str) -> Path:
    """Return a file of a Go module, of the version that the control plane is built from."""
    with _or_no_test():
        return Path(json.loads(_go("mod", "download", "-json", module))["Dir"]) / path


def _compile(program: Path) -> None:
    program.parent.mkdir(parents=True, exist_ok=True)
    with (program.parent / ".devicemanager.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            partial = program.with_suffix(".partial")
            flags = ["-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", str(partial)]
            _go("build", *flags, "./devicemanager")
            partial.replace(program)


def _go(*command: str) -> str:
    """Run Go where the control plane is built; nothing is fetched unless one is required."""
    beside = str(Path(sys.executable).parent)  # where `make ci-tools` puts a Go
    go = shutil.which("go", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if go is None:
        raise Unavailable("no Go on PATH")
    settings = {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    if os.environ.get(REQUIRED) != "1":
        settings["GOPROXY"] = "off"
    done = subprocess.run(
        [go, *command],
        cwd=MODULE,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=GO_SECONDS,
        check=False,
    )
    if done.returncode:
        raise Unavailable((done.stderr.strip().splitlines() or [f"go {command[0]} failed"])[-1])
    return done.stdout


@contextlib.contextmanager
def _or_no_test() -> Iterator[None]:
    """Skip the test without a control plane's sources, or fail it where one is required."""
    try:
        yield
    except Unavailable as reason:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(f"no sources of a real kubelet ({reason}): `make ci-tools` fetches them")


class RealDeviceManager:
    """Runs *program* for *places*; told of pods as a kubelet tells it."""

    def __init__(self, program: Path, places: Places) -> None:
        self.places = places
        self._program = program
        self._pods: dict[str, Pod] = {}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start, with the pods that there are."""
        self.places.device_plugins.mkdir(parents=True, exist_ok=True)
        pods = {uid: _manifest(pod) for uid, pod in self._pods.items()}
        self._process = await asyncio.create_subprocess_exec(
            self._program,
            self.places.device_plugins,
            self.places.pod_resources,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PODS": json.dumps(pods)},
        )
        await self._answer()

    async def stop(self) -> None:
        """Kill it."""
        assert self._process is not None
        self._process.kill()
        await self._process.communicate()

    async def allocatable(self) -> Mapping[str, int]:
        """Return how many devices of each resource the Node would show."""
        answer = await self._ask(op="allocatable")
        return dict(answer.get("allocatable", {}))

    async def admit(self, pod: Pod) -> Mapping[str, Sequence[v1beta1.ContainerAllocateResponse]]:
        """Have *pod* admitted, and return what each of its containers is given.

        Raises:
            NotAdmitted: it has failed.
        """
        answer = await self._ask(op="admit", pod=_manifest(pod))
        if "error" in answer:
            raise NotAdmitted(answer["error"])
        self._pods[pod.ref.uid] = pod
        return {
            name: [
                v1beta1.ContainerAllocateResponse.FromString(base64.b64decode(each))
                for each in given
            ]
            for name, given in answer.get("containers", {}).items()
        }

    async def end(self, pod: Pod) -> None:
        """Have *pod* end."""
        self._pods.pop(pod.ref.uid, None)
        await self._ask(op="end", uid=pod.ref.uid)

    def active_pods(self) -> Collection[PodRef]:
        """Return the pods that have not ended."""
        return [pod.ref for pod in self._pods.values()]

    async def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        return await self._answer()

    async def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(30.0):
            line = await self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line)
        return answer


def _manifest(pod: Pod) -> dict[str, Any]:
    return {
        "metadata": {"namespace": pod.namespace, "name": pod.name, "uid": pod.ref.uid},
        "spec": {
            "initContainers": [_container(each) for each in pod.init],
            "containers": [_container(each) for each in pod.containers],
        },
    }


def _container(container: Container) -> dict[str, Any]:
    limits = {resource: str(count) for resource, count in container.limits.items()}
    always = {"restartPolicy": "Always"} if container.lasting else {}
    return {"name": container.name, "resources": {"limits": limits}, **always}
