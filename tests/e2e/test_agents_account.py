"""The agent as it really is, on fake GPUs and a fake kubelet, with its account and no other."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from nodeagent.api.gpunode import Mode, PodRef
from nodeagent.apiserver.protocol import EVENTS, PODS, ApiServer
from nodeagent.apiserver.rest import RestApi
from nodeagent.deviceplugin import Places
from nodeagent.pod_events import COMPONENT
from tests.e2e.audit import REFUSED, asked, audited, unused
from tests.e2e.controlplane import identities
from tests.e2e.controlplane.cluster import ControlPlane, control_plane
from tests.e2e.controlplane.commands import Options
from tests.e2e.controlplane.required import required_binaries
from tests.e2e.installation import Installer
from tests.e2e.stack import artifacts
from tests.fakes.kubelet import temporary_places
from tests.manifests.kustomize import Manifest, overlay
from tests.manifests.roles import granted
from tests.unit.nodeagent.real_station import RealStation
from tests.unit.nodeagent.station import NAME
from tests.waiting import until

ACCOUNT, POD = "tangram-agent", "tangram-agent-0"


class InstalledStation(RealStation):
    """The node, and an API server that knows its agent by an account's token."""

    def __init__(self, directory: Path, places: Places, api: RestApi, agents_api: RestApi) -> None:
        super().__init__(directory, places, Mode.CONTAINER)
        self.api = api  # type: ignore[assignment]  # the real one, as its administrator
        self._agents_api = agents_api

    @property
    def agents_api(self) -> ApiServer:
        return self._agents_api

    async def create_pod(self, name: str, devices: Mapping[str, int]) -> PodRef:
        limits = {resource: str(count) for resource, count in devices.items()}
        container = {"name": "c", "image": "none", "resources": {"limits": limits}}
        spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
        body = {"metadata": {"name": name}, "spec": spec}
        made = msgspec.json.decode(await self.api.create(PODS, body, namespace="default"))
        return PodRef("default", name, made["metadata"]["uid"])


def without_the_extender(manifests: list[Manifest]) -> list[Manifest]:
    """Return an overlay without what only works, or lets others work, with an extender."""
    extenders = (
        ("MutatingWebhookConfiguration", "tangram-pods"),
        *(
            (kind, name)
            for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
            for name in ("tangram-created-pods", "tangram-plans")
        ),
    )
    return [
        each
        for each in copy.deepcopy(manifests)
        if (each["kind"], each["metadata"]["name"]) not in extenders
    ]


async def credentials(plane: ControlPlane, installer: Installer, directory: Path) -> Path:
    """Return a kubeconfig with the token that the kubelet mounts into the agent's pod."""
    await installer.pod(POD, ACCOUNT, NAME)
    file = directory / "agent.kubeconfig"
    token = await installer.token(ACCOUNT, POD)
    file.write_text(identities.kubeconfig(plane.url, plane.ca_file, token))
    return file


@asynccontextmanager
async def stationed(directory: Path, log: Path) -> AsyncIterator[tuple[InstalledStation, Path]]:
    audit, flags = audited(log)
    options = Options(apiserver_flags=flags)
    async with (
        control_plane(
            required_binaries(), directory=log / "controlplane", options=options
        ) as plane,
        plane.client() as session,
        RestApi(kubeconfig=plane.kubeconfig("admin")) as api,
    ):
        installer = Installer(plane, session)
        await installer.install(without_the_extender(overlay("default")))
        file = await credentials(plane, installer, directory)
        with temporary_places() as places:
            async with RestApi(kubeconfig=file) as agents_api:
                station = InstalledStation(directory, places, api, agents_api)
                await station.install()
                async with station.kubelet.serving():
                    yield station, audit
                await station.fakes.close()


async def events(station: InstalledStation) -> list[dict[str, Any]]:
    listed = (await station.api.list(EVENTS, namespace="default")).items
    return [msgspec.json.decode(each) for each in listed]


async def test_it_serves_a_pod_and_warns_it_with_exactly_the_permissions_of_its_role(
    tmp_path: Path,
) -> None:
    async with stationed(tmp_path, artifacts(tmp_path)) as (station, audit):
        vm = await station.create_vm("vm")
        await station.plan(station.assignment("a", 2, vm.ref))
        async with station.agent():
            await station.until_realized("a")
            await station.bind_pod("vm")
            assert station.start_of(await station.admitted(vm)) == 2

            station.fakes.machine.xid(0, 79)

            async def warned() -> bool:
                sources = [
                    each["source"] for each in await events(station)
                ]  # others' are there too
                return {"component": COMPONENT, "host": NAME} in sources

            await until(warned, within=60, every=0.2)

            manifests = overlay("default")
            await until(lambda: not unused(audit, manifests, ACCOUNT), within=90, every=0.2)
        found = asked(audit, ACCOUNT)

    assert not {what for what, codes in found.items() if codes & REFUSED}
    assert found.keys() == granted(overlay("default"), ACCOUNT)
