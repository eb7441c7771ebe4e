"""What the page is looked at on: a demo as people start it, or a fleet of a size in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

from benchmarks.fleet import KnownFleet
from extender.server import desk
from extender.service import Service

STARTED_WITHIN_SECONDS = 60.0


@contextlib.contextmanager
def demo(*arguments: str) -> Iterator[str]:
    """Run ``tangram demo --serve`` and yield the page's address; it must end well."""
    process = subprocess.Popen(
        [sys.executable, "-m", "extender", "demo", "--serve", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    watch = threading.Timer(STARTED_WITHIN_SECONDS, process.kill)
    watch.start()
    try:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if found := re.search(r"Watch it at (http://\S+)", line):
                break
        else:
            raise AssertionError(f"the demo did not start: {said}")
        watch.cancel()
        yield found.group(1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=STARTED_WITHIN_SECONDS)
        assert process.returncode == 0, f"{process.returncode}: {said}"
    finally:
        watch.cancel()
        process.kill()
        process.communicate()


@contextlib.contextmanager
def known_fleet(nodes: int) -> Iterator[tuple[str, KnownFleet, asyncio.AbstractEventLoop]]:
    """Serve the desk of a service that knows so many nodes; yield its URL, fleet and loop."""
    with unserved_fleet(nodes) as (fleet, loop), served(fleet.service, loop) as url:
        yield url, fleet, loop


@contextlib.contextmanager
def served(service: Service, loop: asyncio.AbstractEventLoop, port: int = 0) -> Iterator[str]:
    """Serve the desk of a service, and yield its URL."""
    opened = desk(service, reviewer=None, port=port)
    url = asyncio.run_coroutine_threadsafe(opened.__aenter__(), loop).result(10)
    try:
        yield url
    finally:
        ended = opened.__aexit__(None, None, None)
        asyncio.run_coroutine_threadsafe(ended, loop).result(30)


@contextlib.contextmanager
def unserved_fleet(nodes: int) -> Iterator[tuple[KnownFleet, asyncio.AbstractEventLoop]]:
    """Yield a service that knows so many nodes, and the loop it is to be used from."""
    with looping() as loop:
        made = asyncio.run_coroutine_threadsafe(_made(nodes), loop)
        yield made.result(STARTED_WITHIN_SECONDS), loop


@contextlib.contextmanager
def looping() -> Iterator[asyncio.AbstractEventLoop]:
    """Yield an event loop that runs in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="desk")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _made(nodes: int) -> KnownFleet:
    return KnownFleet(nodes, seed=1)


def told(url: str, path: str = "/api/v1/fleet") -> Any:
    """Return what the API says."""
    with urllib.request.urlopen(f"{url.rstrip('/')}{path}", timeout=30) as answer:
        return json.loads(answer.read())
