"""Programs as child processes: held ports, logs, readiness, and an end that always comes.

Tied to no event loop: a process started in one may be stopped in another.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp

LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.05
TERMINATE_WITHIN_SECONDS = 15.0  # kube-apiserver, the slowest of ours, takes 1.2 s at rest
LOG_TAIL_LINES = 20

# Killed tests can stop nothing, and etcd would run on for ever: setpriv (util-linux) has the kernel
# see to it. It watches the thread that started a program, so start them from one that stays.
_SETPRIV = shutil.which("setpriv")
_DIE_WITH_PARENT = [_SETPRIV, "--pdeathsig", "KILL", "--"] if _SETPRIV else []


class StartFailed(Exception):
    """A program ended, or was not ready in time; the message has the end of its log."""


def held_port() -> socket.socket:
    """Take a free loopback port that nobody else is given, until the socket is closed.

    The socket is bound and never listens, so connections go to the server alone, even across its
    restarts. The server must bind with SO_REUSEPORT; all of the control plane have a flag for it.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((LOOPBACK, 0))
    return held


class Process:
    """One program, started and stopped any number of times."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the program runs now."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """The process id, 0 while it does not run."""
        return self._child.pid if self._child is not None and self.running else 0

    def start(self) -> None:
        """Start the program; its output is added to the log."""
        if self.running:
            raise StartFailed(f"{self.name} is running already")
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [*_DIE_WITH_PARENT, *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop us in order
            )

    async def ready(
        self, url: str, *, trust: ssl.SSLContext | None, headers: Mapping[str, str], within: float
    ) -> None:
        """Wait until *url* answers 200, for at most *within* seconds."""
        deadline = time.monotonic() + within
        answer = "nothing asked yet"
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            while time.monotonic() < deadline:
                if not self.running:
                    raise StartFailed(f"{self.name} ended before it was ready:\n{self.tail()}")
                try:
                    async with session.get(url, ssl=trust or True) as response:
                        if response.status == 200:
                            return
                        answer = f"{response.status} {await response.text()}"
                except (aiohttp.ClientError, TimeoutError) as error:
                    answer = repr(error)
                await asyncio.sleep(POLL_SECONDS)
        raise StartFailed(
            f"{self.name} not ready within {within:g} s, {url}: {answer}\n{self.tail()}"
        )

    async def stop(self) -> None:
        """End the program: SIGTERM, and SIGKILL if that does not do or we are cancelled."""
        child = self._child
        if child is None:
            return
        try:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(child.wait, TERMINATE_WITHIN_SECONDS)
        finally:
            self.kill()

    def kill(self) -> None:
        """End the program at once, as a crash would."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def signal(self, number: int) -> None:
        """Signal the program, and wait for nothing."""
        if self._child is not None:
            self._child.send_signal(number)

    def tail(self) -> str:
        """Quote the end of the log."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(f"  {self.name}| {line}" for line in lines)
