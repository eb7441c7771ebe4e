"""Who is to be kept out, and tries to get in."""

from __future__ import annotations

import ssl
from pathlib import Path

import aiohttp

from tests.e2e.controlplane.certificates import Authority
from tests.e2e.deployed import CLIENT
from tests.e2e.running import Installed

SHUT = 0
"""For a status where there is no answer: no handshake either."""


async def bind_asked(hooks: str, trust: ssl.SSLContext) -> int:
    """Ask for a bind; return the status of the answer."""
    async with aiohttp.ClientSession() as http:
        try:
            async with http.post(f"{hooks}/bind", data=b"{}", ssl=trust) as answer:
                return answer.status
        except aiohttp.ClientError:
            return SHUT


async def at_the_hooks(running: Installed, directory: Path) -> dict[str, int]:
    """Return what becomes of those who ask for a bind and are not the scheduler.

    A foreign authority has its files in *directory*, an empty one.
    """
    authority, ca = running.plane.authority, running.plane.ca_file
    shown = {
        "no certificate": None,
        "another's name": authority.issue("somebody-else"),
        "the name, by nobody we know": Authority(directory).issue(CLIENT),
    }
    found = {}
    for what, pair in shown.items():
        trust = ssl.create_default_context(cafile=ca)
        if pair is not None:
            trust.load_cert_chain(pair.public, pair.key)
        found[what] = await bind_asked(running.hooks, trust)
    return found


KEPT_OUT = {
    "no certificate": SHUT,
    "another's name": 403,
    "the name, by nobody we know": SHUT,
}
"""What is to become of them."""


async def past_the_extender(running: Installed, node: str) -> dict[str, tuple[int, bool]]:
    """Return what becomes of pods that would not be asked about, and whether they are told why."""
    found = {}
    for field, value in (("nodeName", node), ("schedulerName", "theirs")):
        trial = running.trial()
        trial["spec"][field] = value
        status, answer = await running.create(trial)
        told = "vGPU: a pod that asks for" in answer.get("message", "")
        found[field] = (status, told)
    return found


TOLD = {"nodeName": (403, True), "schedulerName": (403, True)}
"""What is to become of these."""
