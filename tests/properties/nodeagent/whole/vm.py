"""A pod with what was planned for it, and what must hold of it while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from nodeagent.api.gpunode import Assignment
from nodeagent.deviceplugin.proto import deviceplugin_pb2 as v1beta1
from tests.fakes.kubelet import Pod
from tests.properties.nodeagent.whole import devices
from tests.properties.nodeagent.whole.devices import Place
from tests.properties.nodeagent.whole.site import Profile, Site

PLANNED, RUNNING, OVER = "planned", "running", "over"

Answers = Mapping[str, Sequence[v1beta1.ContainerAllocateResponse]]
"""What the plugin has answered for each container."""


class Vm(msgspec.Struct):
    """A pod (a VM's or a container's) with its places, from when it is planned until it is not.

    ``opened`` are the devices that it uses.
    """

    pod: Pod
    profile: Profile
    places: frozenset[Place]
    assignments: tuple[Assignment, ...]
    state: str = PLANNED
    answers: Answers = {}
    opened: frozenset[str] = frozenset()

    def run(self, site: Site, answers: Answers) -> None:
        """Begin to run with what the plugin has answered."""
        self.state, self.answers = RUNNING, answers
        self.examine(site)
        every = [each for answers in self.answers.values() for each in answers]
        self.opened = frozenset(devices.ids(site, every))
        devices.set_opened(site, self.pod.name, self.opened, True)

    def end(self, site: Site) -> None:
        """Close what it uses, and end."""
        devices.set_opened(site, self.pod.name, self.opened, False)
        self.state = OVER

    def examine(self, site: Site) -> None:
        """Assert that each container has its share of what was planned, and all have all of it.

        For a container that is what it would find if it were started again now.
        """
        planned = f"{self.pod.name} was planned at {sorted(self.places)}"
        found = Counter[Place | None]()
        for container, ends in self.pod.ordered:
            here = [
                devices.place(site, device, self.profile)
                for device in devices.ids(site, self.answers.get(container.name, ()))
            ]
            assert len(here) == sum(container.limits.values()), f"{planned}; it has {here}"
            assert len(set(here)) == len(here), f"{planned}; {container.name} has {here}"
            assert self.places.issuperset(here), f"{planned}; {container.name} is at {here}"
            if not ends:
                found.update(here)
        assert found == Counter(self.places), f"{planned}, and is at {found}"
        if self.opened:
            kept = {devices.place(site, device, self.profile) for device in self.opened}
            assert kept == self.places, f"{planned}; what it has opened is at {kept} now"
