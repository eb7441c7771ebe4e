"""A simulated kubelet: it advertises slots, admits pods, and ends them when they are to end.

As the real one, it hands out slots without knowing for which pod they were tied, prefers what the
agent names, keeps its claims in a checkpoint, and rejects a pod whose slot the agent does not know
(see ``admission``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import structlog

from nodeagent.apiserver.protocol import (
    NODES,
    PODS,
    ApiError,
    ApiServer,
    NotFound,
    PatchType,
)
from nodeagent.apiserver.reflector import (
    DEFAULT_PACE,
    Deleted,
    Object,
    Pace,
    Replaced,
    Upserted,
    reflect,
)
from nodeagent.kubelet import Holder, KubeletError, Offer
from nodeagent.simulated.admission import Admission, Checkpoint, Rejected
from nodeagent.simulated.hardware import Hardware
from nodeagent.simulated.pods import Pod, decoder

log = structlog.get_logger()

RETRY_SECONDS = 1.0


class SimulatedKubelet:
    """A :class:`~nodeagent.kubelet.Kubelet` of the node that *hardware* is in.

    Its Node must exist; pods are taken from *api* and their phases written there. *timeout* is for
    each call of it, in seconds.
    """

    def __init__(
        self,
        api: ApiServer,
        hardware: Hardware,
        checkpoint: Checkpoint | None = None,
        *,
        timeout: float = 8.0,
        pace: Pace = DEFAULT_PACE,
    ) -> None:
        self._api = api
        self._hardware = hardware
        self._checkpoint = checkpoint or Checkpoint()
        self._admission = Admission(hardware, self._checkpoint)
        self._timeout = timeout
        self._pace = pace
        self._offer: Offer | None = None
        self._advertised: dict[str, int] = {}
        self._pods: dict[str, Pod] = {}
        self._due = asyncio.Event()
        self._changed: Callable[[], None] = lambda: None

    async def run(self, changed: Callable[[], None]) -> None:
        """Admit and end pods until cancelled."""
        self._changed = changed
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(), name="kubelet-follow-pods")
            tasks.create_task(self._sync(), name="kubelet-sync-pods")

    async def offer(self, offer: Offer) -> None:
        """Put *offer* in place of the one before, and advertise its slots if they changed."""
        self._offer = offer
        self._due.set()
        counts = {resource: len(slots) for resource, slots in offer.slots.items()}
        if counts != self._advertised:
            await self._advertise(dict.fromkeys(self._advertised, 0) | counts)
            self._advertised = counts

    async def claims(self) -> Mapping[str, str]:
        """Return the UID of the pod to which each slot has been given."""
        return self._checkpoint.claims

    async def holders(self) -> Sequence[Holder]:
        """Return the pods that were served before this kubelet had our agent."""
        return self._checkpoint.holders

    async def rivals(self) -> Mapping[str, str]:
        """Return how other plugins show that advertise our resources."""
        return dict(self._checkpoint.rivals)

    async def _advertise(self, counts: Mapping[str, int]) -> None:
        amounts = {resource: str(count) for resource, count in counts.items()}
        try:
            await self._api.patch(
                NODES,
                self._hardware.node,
                {"status": {"capacity": amounts, "allocatable": amounts}},
                patch_type=PatchType.MERGE,
                subresource="status",
                timeout=self._timeout,
            )
        except ApiError as error:
            raise KubeletError(f"the slots cannot be advertised: {error}") from error

    async def _follow(self) -> None:
        changes = reflect(
            self._api, PODS, field_selector=f"spec.nodeName={self._hardware.node}", pace=self._pace
        )
        async with contextlib.aclosing(changes):
            async for change in changes:
                match change:
                    case Replaced(objects=found):
                        self._pods = {each.uid: pod for each in found if (pod := _read(each))}
                        for uid in self._checkpoint.admitted.keys() - {o.uid for o in found}:
                            self._release(uid)
                    case Upserted(object=found):
                        if pod := _read(found):
                            self._pods[pod.uid] = pod
                    case Deleted(object=found):
                        self._pods.pop(found.uid, None)
                        self._release(found.uid)
                    case _:
                        continue
                self._due.set()

    async def _sync(self) -> None:
        """Bring every pod to where it should be, one after the other as a kubelet does."""
        while True:
            await self._due.wait()
            self._due.clear()
            failed = [pod for pod in list(self._pods.values()) if not await self._synced(pod)]
            if failed:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_SECONDS):
                        await self._due.wait()
                self._due.set()

    async def _synced(self, pod: Pod) -> bool:
        """Bring *pod* to where it should be; tell whether the API server let us.

        What somebody else has changed, or replaced, the watch will tell of.
        """
        try:
            await self._settle(pod)
        except NotFound:
            self._forget(pod)
            self._release(pod.uid)
        except ApiError as error:
            if pod.uid not in self._pods:  # the watch has told of its end meanwhile
                self._release(pod.uid)
                return True
            log.warning("pod_not_synced", pod=pod.metadata.name, error=str(error))
            return False
        return True

    async def _settle(self, pod: Pod) -> None:
        admitted = self._checkpoint.admitted.get(pod.uid)
        if pod.deleting:
            self._release(pod.uid)
            await self._delete(pod)
        elif pod.over:
            self._release(pod.uid)
            self._forget(pod)
        elif pod.status.phase == "Running":
            if pod.devices and not (admitted and admitted.boot_id == self._hardware.boot_id):
                await self._set_phase(pod, "Failed", "NodeRebooted", "Its GPU instances are gone")
            self._forget(pod)
        elif self._offer is not None:
            if not admitted:
                try:
                    slots = self._admission.admit(pod, self._offer)
                except Rejected as reason:
                    log.warning("pod_rejected", pod=pod.metadata.name, reason=str(reason))
                    await self._set_phase(pod, "Failed", "UnexpectedAdmissionError", str(reason))
                    return
                if slots:
                    log.info("pod_admitted", pod=pod.metadata.name, slots=slots)
                    self._changed()
            await self._set_phase(pod, "Running")

    def _release(self, uid: str) -> None:
        if self._admission.release(uid):
            self._changed()

    async def _set_phase(self, pod: Pod, phase: str, reason: str = "", message: str = "") -> None:
        """Write a pod's phase, unless it is not the pod we know any more: it may have ended."""
        known = {"uid": pod.uid, "resourceVersion": pod.metadata.resource_version}
        ready = {"type": "Ready", "status": "True" if phase == "Running" else "False"}
        others = [each for each in pod.status.conditions if each.get("type") != "Ready"]
        status: dict[str, Any] = {"phase": phase, "conditions": [*others, ready]}
        if reason:
            status |= {"reason": reason, "message": message}
        await self._api.patch(
            PODS,
            pod.metadata.name,
            {"metadata": known, "status": status},
            patch_type=PatchType.MERGE,
            namespace=pod.metadata.namespace,
            subresource="status",
            timeout=self._timeout,
        )
        if phase == "Failed":
            self._release(pod.uid)
        self._forget(pod)

    async def _delete(self, pod: Pod) -> None:
        await self._api.delete(
            PODS,
            pod.metadata.name,
            namespace=pod.metadata.namespace,
            uid=pod.uid,
            grace_seconds=0,
            timeout=self._timeout,
        )
        self._forget(pod)

    def _forget(self, pod: Pod) -> None:
        """Leave the pod alone until something new is heard of it."""
        if self._pods.get(pod.uid) is pod:
            del self._pods[pod.uid]


def _read(found: Object) -> Pod | None:
    try:
        return decoder.decode(found.raw)
    except msgspec.MsgspecError as error:
        log.warning("pod_unreadable", pod=found.name, error=str(error))
        return None
