"""Where the processes of a case are forked from: it is warm, and opens neither gRPC nor NVML.

A process that has opened gRPC has threads and cannot be forked. So the site, which has, asks its
parent for each life of the agent, by a pair of sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tests.crash.home import Home, Life
from tests.crash.life import live

LARGEST_ORDER = 4096


class Lives:
    """The site's end of the pair: it has agents brought to life."""

    def __init__(self, pair: socket.socket) -> None:
        pair.setblocking(False)
        self._pair = pair
        self.pid = 0

    async def begin(self, life: Life) -> None:
        """Let an agent live; there may be no other."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._pair, pickle.dumps(life))
        self.pid = int(await loop.sock_recv(self._pair, LARGEST_ORDER))

    async def ended(self) -> int:
        """Wait until the agent has ended, and return its exit code, negative for a signal."""
        code = int(await asyncio.get_running_loop().sock_recv(self._pair, LARGEST_ORDER))
        self.pid = 0
        return code

    def kill(self) -> None:
        """Kill the agent, if there is one, and return when it does nothing any more."""
        if not self.pid:
            return
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            os.kill(self.pid, signal.SIGKILL)
            while Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.0002)


def grow(home: Home, site: Callable[[Lives], None]) -> int:
    """Fork *site* and the agents it wants, and return its exit status when it has ended."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        ours.close()
        _be(lambda: site(Lives(theirs)))
    theirs.close()
    while order := _order(ours):
        life: Life = pickle.loads(order)
        agent = os.fork()
        if agent == 0:
            ours.close()
            _be(lambda: live(home, life))  # noqa: B023 - it is called here, in the child
        with contextlib.suppress(BrokenPipeError):  # the site has ended meanwhile
            ours.send(str(agent).encode())
            _, status = os.waitpid(agent, 0)
            ours.send(str(os.waitstatus_to_exitcode(status)).encode())
    _, status = os.waitpid(child, 0)
    return status


def _order(pair: socket.socket) -> bytes:
    try:
        return pair.recv(LARGEST_ORDER)
    except ConnectionResetError:  # the site has ended with our last answer unread
        return b""


def _be(what: Callable[[], None]) -> NoReturn:
    """Be that, and nothing else."""
    try:
        what()
    except BaseException:  # noqa: BLE001 - this is where the process ends
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)
