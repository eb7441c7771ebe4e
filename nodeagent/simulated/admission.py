"""What a kubelet's admission does: choose a pod's slots, remember them, give them back."""

from __future__ import annotations

import msgspec

from nodeagent.driver import DriverError
from nodeagent.kubelet import Holder, Offer
from nodeagent.simulated.hardware import Hardware
from nodeagent.simulated.pods import Pod


class Admitted(msgspec.Struct, frozen=True):
    """What the kubelet remembers of a pod it has let in.

    ``elsewhere`` is what another plugin gave the pod, before us.
    """

    slots: tuple[str, ...]
    boot_id: str
    elsewhere: tuple[Holder, ...] = ()


class Checkpoint:
    """The admitted pods by UID: what a restarted kubelet finds on disk."""

    def __init__(self) -> None:
        self.admitted: dict[str, Admitted] = {}
        self.rivals: dict[str, str] = {}
        """How other plugins show that advertise the same resources."""

    @property
    def claims(self) -> dict[str, str]:
        """Which pod has which slot."""
        return {slot: uid for uid, pod in self.admitted.items() for slot in pod.slots}

    @property
    def holders(self) -> tuple[Holder, ...]:
        """Which pod has which device that is no slot."""
        return tuple(each for pod in self.admitted.values() for each in pod.elsewhere)


class Rejected(Exception):
    """The pod cannot be admitted."""


class Admission:
    """Lets pods use *hardware*, and keeps account of it in *checkpoint*."""

    def __init__(self, hardware: Hardware, checkpoint: Checkpoint) -> None:
        self._hardware = hardware
        self._checkpoint = checkpoint

    def admit(self, pod: Pod, offer: Offer) -> tuple[str, ...]:
        """Choose slots, have them allocated, and let the pod use them; return the slots.

        Raises:
            Rejected: the pod has none of them.
        """
        slots = tuple(
            slot
            for resource, count in pod.devices.items()
            for slot in self._choose(offer, resource, count)
        )
        devices = []
        for slot in slots:
            if slot not in offer.devices:
                raise Rejected(f"Allocate failed due to no assignment for {slot}")
            devices.append(offer.devices[slot])
        self._checkpoint.admitted[pod.uid] = Admitted(slots, self._hardware.boot_id)
        try:
            for device in devices:
                self._hardware.open(device.gpu, device.gi_id, pod.uid)
        except DriverError as error:
            self.release(pod.uid)
            raise Rejected(f"the device cannot be opened: {error}") from error
        return slots

    def release(self, uid: str) -> bool:
        """End what the pod runs, then its claims; tell whether it had any."""
        self._hardware.close(uid)
        admitted = self._checkpoint.admitted.pop(uid, None)
        return bool(admitted and (admitted.slots or admitted.elsewhere))

    def _choose(self, offer: Offer, resource: str, count: int) -> tuple[str, ...]:
        claimed = self._checkpoint.claims
        free = tuple(slot for slot in offer.slots.get(resource, ()) if slot not in claimed)
        preferred = offer.preferred(resource, free, count)
        if len(free) < count:
            raise Rejected(f"Allocate failed due to too few slots of {resource}")
        if len(preferred) < count:  # the kubelet picks others by itself, which are refused
            other = next(slot for slot in free if slot not in preferred)
            raise Rejected(f"Allocate failed due to {other}, in which no pod is expected")
        return preferred
