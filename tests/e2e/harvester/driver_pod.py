"""Harvester's driver pod on a node, as far as an agent looks: a pod, and files of its processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from nodeagent.apiserver.protocol import PODS
from nodeagent.apiserver.rest import RestApi
from nodeagent.nvml.library import NAME as LIBRARY

NAMESPACE = "harvester-system"
LABELS = {"app": "nvidia-driver-daemonset"}


class DriverPod:
    """The one on *node*, whose processes show in *proc*; in its files is NVML's *library*.

    ``/proc/PID/root`` is a link to a directory here: the kernel's own leads through the process's
    mounts, which only a container has.
    """

    def __init__(self, api: RestApi, node: str, proc: Path, library: Path) -> None:
        self._api = api
        self._node = node
        self._proc = proc
        self._library = library
        self._lives = 0

    async def start(self) -> None:
        """Have a pod, with a process in it that has the driver's files."""
        self._lives += 1
        spec = {
            "nodeName": self._node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "driver", "image": "nvidia-driver"}],
        }
        body = {"metadata": {"name": self._name, "labels": LABELS}, "spec": spec}
        made = msgspec.json.decode(await self._api.create(PODS, body, namespace=NAMESPACE))
        self._show(made["metadata"]["uid"])

    async def replace(self) -> None:
        """Let another pod take its place, as an upgrade of the addon does."""
        shutil.rmtree(self._process)
        await self._api.delete(PODS, self._name, namespace=NAMESPACE)
        await self.start()

    @property
    def _name(self) -> str:
        return f"nvidia-driver-{self._node}-{self._lives}"

    @property
    def _process(self) -> Path:
        return self._proc / str(4000 + self._lives)

    def _show(self, uid: str) -> None:
        files = self._proc.parent / "driver-pods" / str(self._lives)
        for name in ("usr/lib64", "usr/lib/nvidia"):
            (files / name).mkdir(parents=True)
        shutil.copy(self._library, files / "usr/lib64" / LIBRARY)
        (files / "usr/lib/nvidia/sriov-manage").touch()
        self._process.mkdir(parents=True)
        (self._process / "root").symlink_to(files)
        slices = f"kubepods-besteffort.slice/kubepods-besteffort-pod{uid.replace('-', '_')}.slice"
        (self._process / "cgroup").write_text(
            f"0::/kubepods.slice/{slices}/cri-containerd-1.scope\n"
        )
        number = self._process.name
        (self._process / "stat").write_text(f"{number} (nvidia-vgpud) S {'0 ' * 18}{number} 0\n")
