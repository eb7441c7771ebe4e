"""A control plane that runs: etcd, kube-apiserver, kube-scheduler, kube-controller-manager."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from . import commands, identities
from .binaries import Binaries
from .certificates import Authority, service_account_keys
from .commands import Files, Options, Ports
from .identities import ADMIN, CONTROLLER_MANAGER, SCHEDULER
from .processes import LOOPBACK, Process, held_port

READY_WITHIN_SECONDS = 120.0  # measured: 4 to 6 s on two idle cores


@asynccontextmanager
async def control_plane(
    binaries: Binaries,
    *,
    users: Iterable[str] = (),
    scheduler: Mapping[str, Any] | None = None,
    controller_manager: bool = False,
    options: Options | None = None,
    directory: Path | None = None,
    ready_within: float = READY_WITHIN_SECONDS,
) -> AsyncIterator[ControlPlane]:
    """Run etcd and kube-apiserver, and what else is asked for, until the block ends.

    *users* get tokens beside the three built-in ones (`identities.service_account` names an
    account as a user). *scheduler* is a KubeSchedulerConfiguration, ``{}`` for the default one;
    with None there is no scheduler yet. *directory*, an empty one, keeps the logs and all else;
    without it they go with the block. *ready_within* seconds are for each program.
    """
    with ExitStack() as held:
        if directory is None:
            temporary = TemporaryDirectory(prefix="tangram-controlplane-")
            directory = Path(held.enter_context(temporary))
        sockets = [held.enter_context(held_port()) for _ in range(4)]
        ports = Ports(*(socket.getsockname()[1] for socket in sockets))
        plane = ControlPlane(binaries, directory, ports, users, options or Options(), ready_within)
        try:
            await plane.start_etcd()
            await plane.start_apiserver()
            if controller_manager:
                await plane.start_controller_manager()
            if scheduler is not None:
                await plane.start_scheduler(scheduler)
            yield plane
        finally:
            await plane.stop()


class ControlPlane:
    """The handle of a running control plane; `control_plane` makes one."""

    def __init__(
        self,
        binaries: Binaries,
        directory: Path,
        ports: Ports,
        users: Iterable[str],
        options: Options,
        ready_within: float,
    ) -> None:
        self.authority = Authority(directory)
        self.ca_file = self.authority.file
        self.url = f"https://{LOOPBACK}:{ports.apiserver}"
        self.scheduler_url = f"https://{LOOPBACK}:{ports.scheduler}"
        self.etcd_url = f"http://{LOOPBACK}:{ports.etcd}"
        self._ports = ports
        self._directory = directory
        self._ready_within = ready_within
        self._trust = ssl.create_default_context(cafile=self.ca_file)
        self._tokens = identities.tokens([ADMIN, SCHEDULER, CONTROLLER_MANAGER, *users])
        self._configuration = directory / "scheduler-configuration.json"
        files = Files(
            directory=directory,
            ca=self.ca_file,
            serving=self.authority.issue("control-plane"),
            service_accounts=service_account_keys(directory),
            tokens=directory / "tokens.csv",
        )
        files.tokens.write_text(identities.token_file(self._tokens))
        set_up = (binaries, ports, files)
        self.processes = {
            name: Process(name, command, directory / f"{name}.log")
            for name, command in {
                "etcd": commands.etcd(*set_up),
                "kube-apiserver": commands.apiserver(*set_up, options),
                "kube-controller-manager": commands.controller_manager(
                    *set_up, options, self.kubeconfig(CONTROLLER_MANAGER)
                ),
                "kube-scheduler": commands.scheduler(*set_up, options, self._configuration),
            }.items()
        }
        """In the order they start; each has its log, and can be killed as by a crash."""

    def token(self, user: str) -> str:
        """Answer the bearer token of *user*."""
        return self._tokens[user]

    def kubeconfig(self, user: str, *, by_way_of: int | None = None) -> Path:
        """Write the kubeconfig of *user*, who connects to port *by_way_of* if that is given."""
        name = user.replace(":", "_") + (f"-{by_way_of}" if by_way_of else "")
        url = f"https://{LOOPBACK}:{by_way_of}" if by_way_of else self.url
        file = self._directory / f"{name}.kubeconfig"
        file.write_text(identities.kubeconfig(url, self.ca_file, self.token(user)))
        return file

    def client(self, user: str = ADMIN) -> aiohttp.ClientSession:
        """Open a session with the API server as *user*; paths are relative to its root."""
        return aiohttp.ClientSession(
            self.url,
            connector=aiohttp.TCPConnector(ssl=self._trust),
            headers={"Authorization": f"Bearer {self.token(user)}"},
        )

    async def start_etcd(self) -> None:
        """Start etcd, with the data it had."""
        await self._start("etcd", f"{self.etcd_url}/health")

    async def start_apiserver(self) -> None:
        """Start kube-apiserver, and wait until its roles and namespaces exist."""
        await self._start("kube-apiserver", f"{self.url}/readyz", as_user=ADMIN)

    async def start_controller_manager(self) -> None:
        """Start kube-controller-manager, all but what needs kubelets."""
        url = f"https://{LOOPBACK}:{self._ports.controller_manager}/healthz"
        await self._start("kube-controller-manager", url)

    async def start_scheduler(self, configuration: Mapping[str, Any]) -> None:
        """Start kube-scheduler with a KubeSchedulerConfiguration, completed to run here."""
        kubeconfig = self.kubeconfig(SCHEDULER)
        complete = commands.scheduler_configuration(configuration, kubeconfig)
        self._configuration.write_text(json.dumps(complete, indent=2))
        await self._start("kube-scheduler", f"{self.scheduler_url}/readyz")

    async def stop_scheduler(self) -> None:
        """Stop kube-scheduler; it may start again with another configuration."""
        await self.processes["kube-scheduler"].stop()

    async def stop(self) -> None:
        """Stop everything, last started first, whatever happens on the way."""
        async with AsyncExitStack() as stops:
            for process in self.processes.values():
                stops.push_async_callback(process.stop)

    async def _start(self, name: str, url: str, *, as_user: str | None = None) -> None:
        process = self.processes[name]
        process.start()
        try:
            await process.ready(
                url,
                trust=self._trust,
                headers={"Authorization": f"Bearer {self.token(as_user)}"} if as_user else {},
                within=self._ready_within,
            )
        except BaseException:
            await process.stop()
            raise
