"""Refusals that nobody could have spared: read from the log of deeds.

A controller takes its device plugins along when it ends, and the kubelet has no devices, or not
all, until the next one has told of them again: who comes just then is sent away, and the VM gets
another launcher. A real kubelet does so, too: it closes its connection as soon as the stream of
lists ends, and Allocate then fails with gRPC's "the client connection is closing".

Harvester notes what a VM has only once it runs. If the VM is off again by then, its agent may be
about to have the device taken away, and only Harvester's webhook can tell which of the two writes
came first. The agent hears of the note, and does not ask again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from tests.e2e.harvester.writes import AGENTS_ACCOUNT
from tests.fakes.kubevirt.nodes import KUBELET
from tests.fakes.pcidevices.log import ENDED, NAMED, REFUSED, Entry

AGAIN_SECONDS: Final = 10.0
"""How long after a controller's end, on a busy machine, the next has told of all its devices."""
HEARD_SECONDS: Final = 10.0
"""How long after the API server is told that a VM names a device, on a busy machine, a write may
come that an agent decided on before it had heard of that."""

_WITHOUT_DEVICES = re.compile(
    r"(?P<node>[^:]+): (rpc error: code = (UNAVAILABLE|CANCELLED|Canceled) .*"
    r"|endpoint of \S+ has been stopped"
    r"|no healthy devices present; cannot allocate \S+"
    r"|requested number of devices unavailable for \S+)"
)
_IN_USE = re.compile(r"device (?P<device>\S+) is in use with VM (?P<vm>\S+) in namespace \S+")


def unexcused(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the refusals that somebody is to blame for.

    Each end of a controller, and each time that a VM comes to name a device, excuses one.
    """
    occasions: list[Entry] = []
    for each in sorted(entries, key=lambda entry: entry.at):
        if each.action in (ENDED, NAMED):
            occasions.append(each)
        elif each.action == REFUSED:
            excuse = next((it for it in occasions if _excuses(it, each)), None)
            if excuse is None:
                yield each
            else:
                occasions.remove(excuse)


def _excuses(occasion: Entry, refusal: Entry) -> bool:
    since = refusal.at - occasion.at
    if occasion.action == ENDED:
        sent_away = refusal.actor == KUBELET and _WITHOUT_DEVICES.fullmatch(refusal.detail)
        return bool(sent_away and sent_away["node"] == occasion.actor and since <= AGAIN_SECONDS)
    told = refusal.actor == AGENTS_ACCOUNT and _IN_USE.fullmatch(refusal.detail)
    return bool(
        told
        and occasion.subject == refusal.subject == f"vgpudevices {told['device']}"
        and occasion.detail == told["vm"]
        and since <= HEARD_SECONDS
    )
