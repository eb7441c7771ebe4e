"""VMs moved by KubeVirt, and what becomes of a pod that is ended, by what its owner says."""

from __future__ import annotations

import msgspec
import structlog

from extender.cluster.outcome import outcome
from extender.service.ports import ClusterUnavailable
from extender.service.relocation import Leaving, Migration, Prospect
from nodeagent.api import keys
from nodeagent.api.gpunode import OwnerRef, PodRef
from nodeagent.apiserver.events import VIRTUAL_MACHINE_INSTANCE
from nodeagent.apiserver.protocol import (
    MIGRATIONS,
    PODS,
    REPLICA_SETS,
    STATEFUL_SETS,
    VIRTUAL_MACHINE_INSTANCES,
    VIRTUAL_MACHINES,
    ApiServer,
    Conflict,
    Kind,
    NotFound,
    Refused,
)

log = structlog.get_logger()

_MAKES: dict[str, Kind] = {
    "VirtualMachineInstance": VIRTUAL_MACHINES,
    "StatefulSet": STATEFUL_SETS,
    "ReplicaSet": REPLICA_SETS,
}
"""What makes an owner's next pod, by the owner's kind."""

ALWAYS = "Always"
"""The one ``runStrategy`` by which a VM starts again, however it was stopped."""


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    uid: str = ""
    deletion_timestamp: str | None = None


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    replicas: int = 1
    run_strategy: str = ""
    running: bool | None = None


class _MakerMetadata(_Metadata, frozen=True):
    annotations: dict[str, str] | None = None


class _Maker(msgspec.Struct, frozen=True):
    metadata: _MakerMetadata
    spec: _Spec = _Spec()


class _Condition(msgspec.Struct, frozen=True):
    type: str
    status: str = ""


class _InstanceStatus(msgspec.Struct, frozen=True):
    conditions: tuple[_Condition, ...] = ()


class _InstanceSpec(msgspec.Struct, frozen=True, rename="camel"):
    eviction_strategy: str | None = None


class _Instance(msgspec.Struct, frozen=True):
    metadata: _Metadata
    spec: _InstanceSpec = _InstanceSpec()
    status: _InstanceStatus = _InstanceStatus()


class _MigrationStatus(msgspec.Struct, frozen=True):
    phase: str = ""


class _Migration(msgspec.Struct, frozen=True):
    metadata: _Metadata
    status: _MigrationStatus = _MigrationStatus()


class _Reference(msgspec.Struct, frozen=True):
    kind: str = ""
    uid: str = ""
    controller: bool = False


class _PodMetadata(_Metadata, frozen=True, rename="camel"):
    owner_references: tuple[_Reference, ...] | None = None


class _Pod(msgspec.Struct, frozen=True):
    metadata: _PodMetadata


_MAKER = msgspec.json.Decoder(_Maker)
_INSTANCE = msgspec.json.Decoder(_Instance)
_MIGRATION = msgspec.json.Decoder(_Migration)
_POD = msgspec.json.Decoder(_Pod)


class KubeVirtRelocator:
    """The service's :class:`~extender.service.relocation.Relocator` over an API server."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api

    async def comes_back(self, owner: OwnerRef) -> bool:
        """Tell whether an owner makes another pod, however the last one ended."""
        maker = await self._maker(owner)
        if maker is None or maker.metadata.deletion_timestamp:
            return False
        if owner.kind != VIRTUAL_MACHINE_INSTANCE:
            return maker.spec.replicas > 0
        return maker.spec.run_strategy == ALWAYS or maker.spec.running is True

    async def movable(self, owner: OwnerRef) -> bool:
        """Tell whether the annotation of what makes an owner's pods says nothing against it."""
        maker = await self._maker(owner)
        said = {} if maker is None else maker.metadata.annotations or {}
        return said.get(keys.MOVABLE, "true") in keys.MOVABLE_VALUES

    async def _maker(self, owner: OwnerRef) -> _Maker | None:
        """Return what makes an owner's pods, None if there is nothing such, or none to be read."""
        kind = _MAKES.get(owner.kind)
        if kind is None:
            return None
        try:
            with outcome(NotFound, Refused):
                raw = await self._api.get(kind, owner.name, namespace=owner.namespace)
                return _MAKER.decode(raw)
        except (NotFound, Refused):
            return None

    async def prospect(self, owner: OwnerRef) -> Prospect:
        """Return what a VirtualMachineInstance says: its conditions, and its evictionStrategy.

        Of one that may not be read nothing is known: it might migrate.
        """
        if owner.kind != VIRTUAL_MACHINE_INSTANCE:
            return Prospect()
        try:
            with outcome(NotFound):
                raw = await self._api.get(
                    VIRTUAL_MACHINE_INSTANCES, owner.name, namespace=owner.namespace
                )
                found = _INSTANCE.decode(raw)
        except NotFound:
            return Prospect()
        said = {each.type: each.status for each in found.status.conditions}
        return Prospect(said.get("LiveMigratable") == "True", found.spec.eviction_strategy or "")

    async def migrate(self, owner: OwnerRef, name: str) -> Migration:
        """Begin a migration, unless one of that name is there; its phase tells how far it is."""
        body = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstanceMigration",
            "metadata": {"name": name, "namespace": owner.namespace},
            "spec": {"vmiName": owner.name},
        }
        try:
            with outcome(Conflict, NotFound, Refused):
                raw = await self._api.create(MIGRATIONS, body, namespace=owner.namespace)
        except Conflict:
            with outcome():
                raw = await self._api.get(MIGRATIONS, name, namespace=owner.namespace)
        except (NotFound, Refused):
            return Migration.FAILED
        with outcome():
            return _how_far(raw)

    async def cancel(self, owner: OwnerRef, name: str) -> None:
        """Delete a migration, which KubeVirt takes as its end: the VM runs on where it is.

        The object stays until it has come to that.
        """
        try:
            with outcome(NotFound, Conflict, Refused):
                raw = await self._api.get(MIGRATIONS, name, namespace=owner.namespace)
                found = _MIGRATION.decode(raw).metadata
                if not found.deletion_timestamp:
                    await self._api.delete(
                        MIGRATIONS, name, namespace=owner.namespace, uid=found.uid
                    )
        except (NotFound, Conflict):
            return
        except Refused as error:
            log.warning("migration_not_cancelled", migration=name, error=str(error))

    async def leaves(self, owner: OwnerRef, pod: PodRef, name: str) -> Leaving:
        """Tell whether a pod is deleted, or its VM, or the VM has that migration, under way."""
        try:
            with outcome(NotFound):
                raw = await self._api.get(PODS, pod.name, namespace=pod.namespace)
                found = _POD.decode(raw).metadata
        except NotFound:
            return Leaving.ENDING
        if found.uid != pod.uid or found.deletion_timestamp:
            return Leaving.ENDING
        if owner.kind != VIRTUAL_MACHINE_INSTANCE:
            return Leaving.NOT
        if await self._stops(owner):
            return Leaving.STOPPING
        return Leaving.MIGRATING if await self._migrates(owner, name) else Leaving.NOT

    async def _migrates(self, owner: OwnerRef, name: str) -> bool:
        try:
            with outcome(NotFound, Refused):
                raw = await self._api.get(MIGRATIONS, name, namespace=owner.namespace)
                return _how_far(raw) is not Migration.FAILED
        except (NotFound, Refused):
            return False

    async def _stops(self, owner: OwnerRef) -> bool:
        try:
            with outcome(NotFound, Refused):
                return bool((await self._runs(owner)).deletion_timestamp)
        except (NotFound, Refused):
            return False

    async def _runs(self, owner: OwnerRef) -> _Metadata:
        """Return the metadata of what a VM is while it runs; as the API server says, if it does."""
        raw = await self._api.get(VIRTUAL_MACHINE_INSTANCES, owner.name, namespace=owner.namespace)
        return _INSTANCE.decode(raw).metadata

    async def instance(self, owner: OwnerRef, pod: PodRef) -> str:
        """Return the UID of the VirtualMachineInstance that a launcher runs, "" for none."""
        try:
            with outcome(NotFound):
                raw = await self._api.get(PODS, pod.name, namespace=pod.namespace)
                found = _POD.decode(raw).metadata
        except NotFound:
            return ""
        runs = (
            each.uid
            for each in (found.owner_references or ())
            if each.controller and each.kind == VIRTUAL_MACHINE_INSTANCE
        )
        return next(runs, "") if found.uid == pod.uid else ""

    async def restart(self, owner: OwnerRef, instance: str) -> None:
        """Delete a VirtualMachineInstance: its VM makes another.

        What runs in another pod by now has another UID, and is left alone. That is what a conflict
        says, unless it is about something else; then the VM is as it was.
        """
        try:
            with outcome(NotFound, Conflict):
                await self._api.delete(
                    VIRTUAL_MACHINE_INSTANCES,
                    owner.name,
                    namespace=owner.namespace,
                    uid=instance,
                )
        except NotFound:
            return  # it runs no more
        except Conflict as error:
            try:
                with outcome(NotFound):
                    found = await self._runs(owner)
            except NotFound:
                return
            if found.uid == instance and not found.deletion_timestamp:
                raise ClusterUnavailable(str(error), undone=True) from error


def _how_far(migration: bytes) -> Migration:
    phase = _MIGRATION.decode(migration).status.phase
    return {"Succeeded": Migration.DONE, "Failed": Migration.FAILED}.get(phase, Migration.RUNNING)
