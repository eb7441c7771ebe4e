"""Programs of an installation as processes: there are no containers to run them in.

Each has the arguments of its container, but for where it is; the token of its account, as the
kubelet would mount one; and a certificate of an authority of the test's.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import yaml

from extender.cli.scheduler_config import SERVICE
from extender.kubescheduler.configuration import KIND
from nodeagent.api import keys
from tests.e2e.controlplane import identities
from tests.e2e.controlplane.certificates import KeyPair
from tests.e2e.controlplane.cluster import ControlPlane
from tests.e2e.controlplane.processes import LOOPBACK, held_port
from tests.e2e.installation import Installer, Manifest
from tests.e2e.process import ROOT, Process
from tests.waiting import until

EXTENDER, SCHEDULER = "tangram-extender", "tangram-scheduler"
"""Accounts, named as the Deployments are."""
CLIENT = "system:kube-scheduler"
OWN_POD = f"{EXTENDER}-0"


class Ports(NamedTuple):
    """Where the extender listens."""

    hooks: int
    probes: int
    admission: int
    desk: int

    @classmethod
    def free(cls) -> Ports:
        """Return ports that nobody listens on."""
        with contextlib.ExitStack() as held:
            sockets = [held.enter_context(held_port()) for _ in cls._fields]
            return cls(*(int(each.getsockname()[1]) for each in sockets))


class Secret:
    """The files of a mounted Secret with a certificate."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.ca, self.cert, self.key = (directory / n for n in ("ca.crt", "tls.crt", "tls.key"))

    def put(self, pair: KeyPair, *authorities: Path) -> None:
        """Replace what is in it, as the kubelet does some time after the Secret was changed."""
        trusted = b"".join(each.read_bytes() for each in authorities)
        for file, content in (
            (self.ca, trusted),
            (self.cert, pair.public.read_bytes()),
            (self.key, pair.key.read_bytes()),
        ):
            new = file.with_suffix(".new")
            new.write_bytes(content)
            new.replace(file)


class Secrets(NamedTuple):
    """Those of the installation."""

    extender: Secret
    scheduler: Secret

    @classmethod
    def issued(cls, plane: ControlPlane, directory: Path) -> Secrets:
        """Return certificates by the control plane's authority, in new directories."""
        made = cls(Secret(directory / "extender-tls"), Secret(directory / "scheduler-tls"))
        made.extender.put(plane.authority.issue(EXTENDER, SERVICE), plane.ca_file)
        made.scheduler.put(plane.authority.issue(CLIENT), plane.ca_file)
        return made


def kubeconfig(plane: ControlPlane, pod: str) -> Path:
    """Return where the kubeconfig of a pod of Tangram's is, once it has `credentials`."""
    return plane.ca_file.parent / f"{pod}.kubeconfig"


async def credentials(
    plane: ControlPlane,
    installer: Installer,
    account: str,
    node: str,
    pod: str = "",
    *,
    by_way_of: int | None = None,
) -> Path:
    """Return a kubeconfig with a token such as the kubelet of *node* would mount into the *pod*.

    The pod connects to port *by_way_of*, if that is given.
    """
    pod = pod or f"{account}-0"
    await installer.pod(pod, account, node)
    file = kubeconfig(plane, pod)
    token = await installer.token(account, pod)
    url = f"https://{LOOPBACK}:{by_way_of}" if by_way_of else plane.url
    file.write_text(identities.kubeconfig(url, plane.ca_file, token))
    return file


def arguments(manifests: Iterable[Manifest], kind: str, name: str) -> list[str]:
    """Return the arguments of the one container of a workload."""
    (found,) = (m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name)
    (container,) = found["spec"]["template"]["spec"]["containers"]
    args: list[str] = container["args"]
    return args


def extender(
    log: Path,
    manifests: Iterable[Manifest],
    kubeconfig: Path,
    ports: Ports,
    secret: Secret,
    *further: str,
) -> Process:
    """Return the extender as its Deployment has it, but for where it is; *further* arguments.

    That a leader is to be elected it finds out by itself in a cluster only.
    """
    here = {
        "--host=$(POD_IP)": "--host=127.0.0.1",
        "--port=8443": f"--port={ports.hooks}",
        "--probe-port=8081": f"--probe-port={ports.probes}",
        "--admission-port=9443": f"--admission-port={ports.admission}",
        "--desk-port=8444": f"--desk-port={ports.desk}",
        "--own-pod=$(POD_NAMESPACE)/$(POD_NAME)": f"--own-pod={keys.SYSTEM_NAMESPACE}/{OWN_POD}",
        "--tls-cert=/etc/tangram/tls/tls.crt": f"--tls-cert={secret.cert}",
        "--tls-key=/etc/tangram/tls/tls.key": f"--tls-key={secret.key}",
        "--client-ca=/etc/tangram/tls/ca.crt": f"--client-ca={secret.ca}",
    }
    given = arguments(manifests, "Deployment", EXTENDER)
    assert here.keys() <= set(given)
    return Process(
        log,
        "extender",
        *(here.get(argument, argument) for argument in given),
        *further,
        f"--kubeconfig={kubeconfig}",
    )


def scheduler_configuration(
    manifests: Iterable[Manifest], kubeconfig: Path, secret: Secret, port: int
) -> dict[str, Any]:
    """Return the configuration in its ConfigMap, but for where things are."""
    texts = (text for m in manifests if m["kind"] == "ConfigMap" for text in m["data"].values())
    (found,) = (document for text in texts if (document := yaml.safe_load(text))["kind"] == KIND)
    configuration: dict[str, Any] = copy.deepcopy(found)
    (entry,) = configuration["extenders"]
    entry["urlPrefix"] = f"https://127.0.0.1:{port}"
    entry["tlsConfig"] = {
        "caFile": str(secret.ca),
        "certFile": str(secret.cert),
        "keyFile": str(secret.key),
    }
    return configuration | {"clientConnection": {"kubeconfig": str(kubeconfig)}}


async def tangram(*arguments: str) -> str:
    """Run a command of ``tangram``'s, and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "extender", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    return out.decode()


async def printed_configuration(plane: ControlPlane, secret: Secret, port: int) -> dict[str, Any]:
    """Return what ``tangram scheduler-config`` prints for a scheduler that has that *secret*.

    It says all but who calls the API server, which a scheduler in a pod knows by itself.
    """
    printed = await tangram(
        "scheduler-config",
        f"--kubeconfig={plane.kubeconfig('admin')}",
        f"--url=https://127.0.0.1:{port}",
        f"--tls-dir={secret.directory}",
    )
    configuration: dict[str, Any] = yaml.safe_load(printed)
    return configuration


def calling(kubeconfig: Path) -> dict[str, Any]:
    """Return what a scheduler is told of the API server: whom it is, and its own usual pace."""
    return {"clientConnection": {"kubeconfig": str(kubeconfig), "qps": 50, "burst": 100}}


async def ready(ports: Ports) -> None:
    """Wait until the extender says that it is ready."""
    url = f"http://127.0.0.1:{ports.probes}/readyz"
    async with aiohttp.ClientSession() as http:

        async def answers() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(url) as answer:
                    return answer.status == 200
            return False

        await until(answers, within=90, every=0.2)


async def admission_in_force(session: aiohttp.ClientSession, trial: Mapping[str, Any]) -> None:
    """Wait until the API server has taken the webhook up, some time after it was applied.

    *trial* is a pod that it labels.
    """
    probe = {**trial, "metadata": {"name": "probe"}}
    path = "/api/v1/namespaces/default/pods?dryRun=All"

    async def labelled() -> bool:
        async with session.post(path, json=probe) as answer:
            made = await answer.json()
            return keys.MANAGED_LABEL in made.get("metadata", {}).get("labels", {})

    await until(labelled, within=60, every=0.2)
