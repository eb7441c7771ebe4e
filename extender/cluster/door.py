"""What the service does to a cluster, as calls to the API server."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
import structlog

from extender.cluster import objects
from extender.cluster.outcome import outcome
from extender.service.ports import (
    PLAN_TIMEOUT_SECONDS,
    BindingRefused,
    ClusterUnavailable,
    PlanConflict,
    PodFacts,
)
from nodeagent.api import keys
from nodeagent.api.gpunode import Assignment, GpuNode, OwnerRef, PodRef
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    PODS,
    REPLICA_SETS,
    STATEFUL_SETS,
    VIRTUAL_MACHINES,
    ApiServer,
    Conflict,
    Invalid,
    Kind,
    NotFound,
    PatchType,
    Refused,
)

log = structlog.get_logger()

_KEEPS_UP: dict[str, Kind] = {
    # A launcher belongs to a VirtualMachineInstance, which is made anew under its VM's name.
    "VirtualMachineInstance": VIRTUAL_MACHINES,
    "StatefulSet": STATEFUL_SETS,
    "ReplicaSet": REPLICA_SETS,
}
"""What makes an owner's next pod, by the owner's kind."""


class OwnPod(msgspec.Struct, frozen=True):
    """The extender's own pod: changing its annotation wakes the pods kube-scheduler rejected."""

    namespace: str
    name: str


class KubernetesCluster:
    """The service's :class:`~extender.service.ports.Cluster` over an API server.

    Without *own_pod* nobody is woken: rejected pods then wait for the scheduler's own retries.
    """

    def __init__(
        self, api: ApiServer, *, own_pod: OwnPod | None = None, devices_per_pod: int = 64
    ) -> None:
        self._api = api
        self._own_pod = own_pod
        self._devices_per_pod = devices_per_pod

    async def write_plan(
        self,
        node: GpuNode,
        *,
        add: Collection[Assignment] = (),
        remove: Collection[str] = (),
        hold: Collection[str] = (),
    ) -> GpuNode:
        """Change the plan by a JSON Patch that tests UID and generation.

        The generation moves with the spec only: the agent's reports never fail this test, and of
        two writers of the same plan never both succeed.
        """
        try:
            with outcome(Conflict, Invalid, NotFound):
                raw = await self._api.patch(
                    GPU_NODES,
                    node.name,
                    plan_patch(node, add=add, remove=remove, hold=hold),
                    patch_type=PatchType.JSON,
                    timeout=PLAN_TIMEOUT_SECONDS,
                )
                return objects.gpu_node(raw)
        except (Conflict, Invalid, NotFound) as error:
            raise PlanConflict(error.message, refused=isinstance(error, Invalid)) from error

    async def read_gpu_node(self, name: str) -> GpuNode | None:
        """Return a GpuNode as it is now."""
        try:
            with outcome(NotFound):
                return objects.gpu_node(await self._api.get(GPU_NODES, name))
        except NotFound:
            return None

    async def create_gpu_node(self, name: str, plan: Collection[Assignment] = ()) -> None:
        """Create a GpuNode whose plan has these entries."""
        body = {
            "apiVersion": keys.API_VERSION,
            "kind": keys.GPU_NODE_KIND,
            "metadata": {"name": name},
            "spec": {"assignments": [msgspec.to_builtins(each) for each in plan]},
        }
        try:
            with outcome(Conflict):
                await self._api.create(GPU_NODES, body)
        except Conflict:
            return  # it exists: another replica, or an earlier attempt

    async def delete_gpu_node(self, node: GpuNode) -> None:
        """Delete a GpuNode, if it still is the object given."""
        try:
            with outcome(NotFound, Conflict):
                await self._api.delete(
                    GPU_NODES,
                    node.name,
                    uid=node.metadata.uid,
                    resource_version=node.metadata.resource_version,
                )
        except (NotFound, Conflict):
            return  # gone, or somebody else's by now

    async def read_pod(self, namespace: str, name: str) -> PodFacts | None:
        """Return a pod as it is now."""
        try:
            with outcome(NotFound):
                raw = await self._api.get(PODS, name, namespace=namespace)
                return objects.pod(raw, devices_per_pod=self._devices_per_pod)
        except NotFound:
            return None

    async def pods_wanted(self, owner: OwnerRef) -> int:
        """Return how many pods an owner keeps up; one we may not read is as good as none."""
        kind = _KEEPS_UP.get(owner.kind)
        if kind is None:
            return 0
        try:
            with outcome(NotFound, Refused):
                raw = await self._api.get(kind, owner.name, namespace=owner.namespace)
                return objects.replicas(raw)
        except NotFound:
            return 0
        except Refused as error:
            log.warning("owner_unreadable", kind=owner.kind, name=owner.name, error=str(error))
            return 0

    async def mark_managed(self, pod: PodRef) -> bool:
        """Label that very pod as ours; the UID is a precondition of the patch."""
        labels = {keys.MANAGED_LABEL: "true"}
        try:
            with outcome(Conflict, NotFound, Invalid):
                await self._api.patch(
                    PODS,
                    pod.name,
                    {"metadata": {"uid": pod.uid, "labels": labels}},
                    patch_type=PatchType.MERGE,
                    namespace=pod.namespace,
                )
        except (Conflict, NotFound, Invalid):
            return False  # it is gone, or another by that name
        return True

    async def bind(
        self,
        pod: PodRef,
        node: str,
        annotations: Mapping[str, str],
        *,
        version: str,
        timeout: float,
    ) -> None:
        """Post a Binding; the API server copies its annotations to the pod in the same write.

        Its UID and resourceVersion are preconditions there (``BindingREST`` in
        pkg/registry/core/pod/storage).
        """
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {
                "name": pod.name,
                "namespace": pod.namespace,
                "uid": pod.uid,
                "resourceVersion": version,
                "annotations": dict(annotations),
            },
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            with outcome(Conflict, NotFound, Invalid, Refused):
                await self._api.create(
                    PODS,
                    body,
                    namespace=pod.namespace,
                    name=pod.name,
                    subresource="binding",
                    timeout=timeout,
                )
        except (Conflict, NotFound, Invalid, Refused) as error:
            raise BindingRefused(error.message) from error

    async def void_bindings(self, pod: PodFacts, ids: Collection[str]) -> PodFacts | None:
        """Change an annotation of the pod, and so its version, if it still has that."""
        ref = pod.ref
        stamp = secrets.token_hex(6)  # any other than before: to say the same would change nothing
        said = {keys.UNBOUND_ANNOTATION: objects.unbound(pod, ids, stamp)}
        change = {"uid": ref.uid, "resourceVersion": pod.version, "annotations": said}
        try:
            with outcome(Conflict, NotFound, Invalid, Refused):
                raw = await self._api.patch(
                    PODS,
                    ref.name,
                    {"metadata": change},
                    patch_type=PatchType.MERGE,
                    namespace=ref.namespace,
                )
                return objects.pod(raw, devices_per_pod=self._devices_per_pod)
        except NotFound:
            return None
        except Conflict as error:
            raise ClusterUnavailable(f"the pod keeps changing: {error}", undone=True) from error
        except (Invalid, Refused) as error:
            facts = await self.read_pod(ref.namespace, ref.name)
            if facts is None or facts.ref.uid != ref.uid:
                return None
            # An admission policy of somebody's, or a pod that takes no more annotations: that must
            # not keep its place for ever. What was posted has had the time that it mostly takes.
            log.warning("bindings_not_voided", pod=ref.name, uid=ref.uid, error=str(error))
            return facts

    @property
    def can_wake(self) -> bool:
        """Whether there is a pod of our own to wake others by."""
        return self._own_pod is not None

    async def wake(self, stamp: str) -> None:
        """Change an annotation of the extender's own pod, upon which rejected pods retry."""
        if self._own_pod is None:
            return
        patch = {"metadata": {"annotations": {keys.WAKE_ANNOTATION: stamp}}}
        with outcome():
            await self._api.patch(
                PODS,
                self._own_pod.name,
                patch,
                patch_type=PatchType.MERGE,
                namespace=self._own_pod.namespace,
            )


def plan_patch(
    node: GpuNode,
    *,
    add: Collection[Assignment] = (),
    remove: Collection[str] = (),
    hold: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Return the JSON Patch that changes the plan of *node*, if it still is that plan."""
    entries = node.spec.assignments
    patch: list[dict[str, Any]] = [
        {"op": "test", "path": "/metadata/uid", "value": node.metadata.uid},
        {"op": "test", "path": "/metadata/generation", "value": node.metadata.generation},
    ]
    # From the end, so that the indices before stay what they are.
    for index in reversed(range(len(entries))):
        if entries[index].id in remove:
            patch.append({"op": "remove", "path": f"/spec/assignments/{index}"})
        elif entries[index].id in hold:
            patch.append({"op": "remove", "path": f"/spec/assignments/{index}/pod"})
    added = [msgspec.to_builtins(each) for each in add]
    if entries:
        patch += [{"op": "add", "path": "/spec/assignments/-", "value": a} for a in added]
    elif added:
        patch.append({"op": "add", "path": "/spec", "value": {"assignments": added}})
    return patch
