"""What a kubelet's device manager decides: which devices a container gets, and who has what."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from random import Random
from typing import NamedTuple, Protocol

from nodeagent.deviceplugin.proto import deviceplugin_pb2 as v1beta1
from tests.fakes.kubelet.checkpoint import NO_TOPOLOGY, Entry
from tests.fakes.kubelet.pods import Container, Pod

_Held = dict[tuple[str, str, str], tuple[frozenset[str], v1beta1.ContainerAllocateResponse]]
_Reusable = dict[str, frozenset[str]]


class NotAdmitted(Exception):
    """The pod is rejected: UnexpectedAdmissionError."""


class Allocation(NamedTuple):
    """What a container has of a resource, and what the plugin has answered for it."""

    uid: str
    container: str
    resource: str
    devices: frozenset[str]
    answer: v1beta1.ContainerAllocateResponse


class Plugin(Protocol):
    """Whoever has registered a resource last; every call may raise :class:`NotAdmitted`."""

    async def preferred(
        self, available: Sequence[str], must_include: Sequence[str], size: int
    ) -> Collection[str]:
        """Return the devices that should be taken."""

    async def allocate(self, devices: Sequence[str]) -> v1beta1.ContainerAllocateResponse:
        """Return what goes with *devices*."""


class Manager:
    """A device manager that chooses as *chance* will have it, where nothing is preferred.

    *active* names the UIDs of the pods that have not ended, *written* is called when there is
    something to be written to the checkpoint. What it *shuns* for a pod that pod gets last.
    """

    def __init__(
        self,
        chance: Random,
        *,
        active: Callable[[], Set[str]],
        written: Callable[[], None],
        shuns: Callable[[Pod], Collection[str]] = lambda pod: (),
    ) -> None:
        self._chance = chance
        self._active = active
        self._written = written
        self._shuns = shuns
        self.plugins: dict[str, Plugin | None] = {}
        self.healthy: dict[str, set[str]] = {}
        self._taken: dict[str, set[str]] = {}
        self._held: _Held = {}

    @property
    def allocations(self) -> Sequence[Allocation]:
        """What every container has."""
        return [Allocation(*key, *held) for key, held in self._held.items()]

    @property
    def entries(self) -> list[Entry]:
        """What the checkpoint says of pods, in an order that means nothing."""
        entries = [
            Entry(uid, container, resource, {NO_TOPOLOGY: self._shuffled(ids)}, answer)
            for (uid, container, resource), (ids, response) in self._held.items()
            for answer in [response.SerializeToString()]
        ]
        self._chance.shuffle(entries)
        return entries

    def recall(self, entries: Iterable[Entry], registered: Iterable[str]) -> None:
        """Begin where the checkpoint says that one has ended; no plugin is there yet."""
        self._held = {
            (each.uid, each.container, each.resource): (
                frozenset(device for ids in each.devices.values() for device in ids),
                v1beta1.ContainerAllocateResponse.FromString(each.answer),
            )
            for each in entries
        }
        self._retake()
        for resource in registered:
            self.plugins[resource] = None
            self.healthy[resource] = set()

    def connected(self, resource: str, plugin: Plugin) -> None:
        """Take *plugin* for the one of its resource, whoever was before."""
        self.plugins[resource] = plugin

    def listed(self, resource: str, devices: Iterable[v1beta1.Device]) -> None:
        """Take a new list of devices, from whichever plugin it is."""
        self.healthy[resource] = {each.ID for each in devices if each.health == "Healthy"}
        self._written()

    def disconnected(self, resource: str) -> None:
        """Give up a resource's devices because a plugin of it has gone, whichever it was."""
        if resource in self.plugins:
            self.healthy[resource] = set()
            self.plugins[resource] = None

    def devices(self, pod: Pod, container: Container) -> Mapping[str, frozenset[str]]:
        """Return what *container* has of each resource."""
        return {
            resource: ids
            for (uid, name, resource), (ids, _) in self._held.items()
            if (uid, name) == (pod.ref.uid, container.name)
        }

    def forget_ended(self) -> None:
        """Take back what pods have that have ended: at the next allocation, or when listed."""
        active = self._active()
        if any(uid not in active for uid, _, _ in self._held):
            self._held = {key: held for key, held in self._held.items() if key[0] in active}
            self._retake()

    async def admit(self, pod: Pod) -> Mapping[str, Sequence[v1beta1.ContainerAllocateResponse]]:
        """Give every container of *pod* its devices; return what plugins answered, by container.

        Raises:
            NotAdmitted: one of them cannot get them. What others have got stays theirs for now.
        """
        reusable: _Reusable = {}
        for container, ends in pod.ordered:
            await self._allocate(pod, container, reusable)
            for resource, ids in self.devices(pod, container).items():
                left = reusable.get(resource, frozenset())
                reusable[resource] = left | ids if ends else left - ids
        return {
            container.name: [
                response
                for (uid, name, _), (_, response) in self._held.items()
                if (uid, name) == (pod.ref.uid, container.name)
            ]
            for container, _ in pod.ordered
        }

    async def _allocate(self, pod: Pod, container: Container, reusable: _Reusable) -> None:
        changed = False
        for resource, count in container.limits.items():
            if resource not in self.healthy and resource not in self._taken:
                continue  # no plugin has ever had it: not the device manager's affair
            self.forget_ended()
            chosen = await self._choose(pod, container, resource, count, reusable)
            if not chosen:
                continue
            plugin = self.plugins.get(resource)
            try:
                if plugin is None:
                    raise NotAdmitted(f"endpoint of {resource} has been stopped")
                response = await plugin.allocate(self._shuffled(chosen))
            except NotAdmitted:
                self._retake()
                raise
            self._held[pod.ref.uid, container.name, resource] = frozenset(chosen), response
            changed = True
        if changed:
            self._written()

    async def _choose(
        self, pod: Pod, container: Container, resource: str, count: int, reusable: _Reusable
    ) -> set[str]:
        had = self._held.get((pod.ref.uid, container.name, resource))
        needed = count - len(had[0]) if had else count
        if had and needed:
            raise NotAdmitted(f"{pod.name} has changed its request for {resource}")
        healthy = self.healthy.get(resource)
        if not healthy:
            raise NotAdmitted(f"no healthy devices present; cannot allocate {resource}")
        if had and not had[0] <= healthy:
            raise NotAdmitted(f"previously allocated devices of {resource} are no longer healthy")
        chosen: set[str] = set()
        taken = self._taken.setdefault(resource, set())

        shunned = self._shuns(pod)

        def take(devices: Iterable[str]) -> bool:
            shuffled = self._shuffled(set(devices) - chosen)
            for device in sorted(shuffled, key=lambda each: each in shunned):
                if len(chosen) < needed:
                    chosen.add(device)
                    taken.add(device)
            return len(chosen) == needed

        if take(reusable.get(resource, ())):
            return chosen
        available = healthy - taken
        if len(available) < needed - len(chosen):
            raise NotAdmitted(f"requested number of devices unavailable for {resource}")
        if (plugin := self.plugins.get(resource)) is None:
            raise NotAdmitted(f"endpoint of {resource} has been stopped")
        named = await plugin.preferred(
            self._shuffled(available | chosen), self._shuffled(chosen), count
        )
        if not take(available & set(named)):
            take(available)
        return chosen

    def _retake(self) -> None:
        self._taken = {}
        for (_, _, resource), (ids, _) in self._held.items():
            self._taken.setdefault(resource, set()).update(ids)

    def _shuffled(self, devices: Iterable[str]) -> list[str]:
        ordered = sorted(devices)
        self._chance.shuffle(ordered)
        return ordered
