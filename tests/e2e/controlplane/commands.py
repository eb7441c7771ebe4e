"""The command lines of the control plane's programs. Values only; nothing is started here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .binaries import Binaries
from .certificates import KeyPair
from .processes import LOOPBACK

OPEN_PATHS = "/healthz,/readyz,/livez,/metrics,/configz"
ETCD_QUOTA_BYTES = 4 << 30  # 5000 nodes of 30 kB, each rewritten now and then, pass the usual 2 GiB
WITHOUT_KUBELETS = (
    # Nobody renews the nodes' leases, so it would taint every node after 50 s.
    "-node-lifecycle-controller",
)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where each program listens."""

    etcd: int
    apiserver: int
    scheduler: int
    controller_manager: int


@dataclass(frozen=True, slots=True)
class Files:
    """What the programs read and write."""

    directory: Path
    ca: Path
    serving: KeyPair
    service_accounts: KeyPair
    tokens: Path


@dataclass(frozen=True, slots=True)
class Options:
    """What a test may want otherwise."""

    authorization: str = "RBAC"
    """``--authorization-mode``; AlwaysAllow lets every user do everything."""
    disabled_admission: tuple[str, ...] = ("ServiceAccount", "TaintNodesByCondition")
    """The one wants a ``default`` account in each namespace, the other taints each new node."""
    apiserver_flags: tuple[str, ...] = ()
    scheduler_flags: tuple[str, ...] = ()
    controller_manager_flags: tuple[str, ...] = ()


def etcd(binaries: Binaries, ports: Ports, files: Files) -> list[str]:
    """One member, without TLS, that loses everything with the machine."""
    client = f"http://{LOOPBACK}:{ports.etcd}"
    return [
        str(binaries.etcd),
        f"--data-dir={files.directory / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls=http://{LOOPBACK}:0",
        "--socket-reuse-port=true",
        "--unsafe-no-fsync",
        f"--quota-backend-bytes={ETCD_QUOTA_BYTES}",
        "--log-level=warn",
    ]


def apiserver(binaries: Binaries, ports: Ports, files: Files, options: Options) -> list[str]:
    """Serve tokens only, with limits that a load test does not meet."""
    return [
        str(binaries.kube_apiserver),
        f"--etcd-servers=http://{LOOPBACK}:{ports.etcd}",
        *_serving(ports.apiserver, files),
        f"--advertise-address={LOOPBACK}",
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--allow-privileged=true",
        "--anonymous-auth=false",
        f"--token-auth-file={files.tokens}",
        f"--authorization-mode={options.authorization}",
        f"--service-account-key-file={files.service_accounts.public}",
        f"--service-account-signing-key-file={files.service_accounts.key}",
        "--service-account-issuer=https://kubernetes.default.svc",
        *_unless_empty("--disable-admission-plugins", options.disabled_admission),
        "--max-requests-inflight=2000",
        "--max-mutating-requests-inflight=1000",
        *options.apiserver_flags,
    ]


def scheduler(
    binaries: Binaries, ports: Ports, files: Files, options: Options, configuration: Path
) -> list[str]:
    """Schedule as *configuration* says."""
    return [
        str(binaries.kube_scheduler),
        f"--config={configuration}",
        *_serving(ports.scheduler, files),
        *_open_to_probes(),
        *options.scheduler_flags,
    ]


def controller_manager(
    binaries: Binaries, ports: Ports, files: Files, options: Options, kubeconfig: Path
) -> list[str]:
    """Run all the usual controllers that can do without kubelets, each as its own account."""
    return [
        str(binaries.kube_controller_manager),
        f"--kubeconfig={kubeconfig}",
        *_serving(ports.controller_manager, files),
        *_open_to_probes(),
        f"--controllers={','.join(('*', *WITHOUT_KUBELETS))}",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={files.service_accounts.key}",
        f"--root-ca-file={files.ca}",
        *options.controller_manager_flags,
    ]


def scheduler_configuration(given: Mapping[str, Any], kubeconfig: Path) -> dict[str, Any]:
    """Complete a KubeSchedulerConfiguration with what it takes to run here; *given* wins."""
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        **given,
        "clientConnection": {
            "kubeconfig": str(kubeconfig),
            "qps": 1000,
            "burst": 1000,
            **given.get("clientConnection", {}),
        },
    }


def _serving(port: int, files: Files) -> Iterable[str]:
    return (
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        "--permit-port-sharing=true",  # with our held_port() alone
        f"--tls-cert-file={files.serving.public}",
        f"--tls-private-key-file={files.serving.key}",
        f"--cert-dir={files.directory}",
    )


def _open_to_probes() -> Iterable[str]:
    return (
        "--authentication-skip-lookup=true",
        f"--authorization-always-allow-paths={OPEN_PATHS}",
    )


def _unless_empty(flag: str, values: tuple[str, ...]) -> Iterable[str]:
    return (f"{flag}={','.join(values)}",) if values else ()
