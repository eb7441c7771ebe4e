"""``tangram serve``: the extender beside a real API server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
import uvloop

from extender.admission import Schedulers
from extender.cli import decision_logs, electing, heap, policies, secured
from extender.cli.doors import Doors
from extender.cli.garbage import collected_between_answers
from extender.cli.seconds import finite
from extender.cli.switching import threads_take_short_turns
from extender.cluster import Election, OwnPod, PolicySource, Replica, Reviews, ShadowSource
from extender.decision_log import DecisionLog
from extender.kubescheduler.configuration import DEFAULT_SCHEDULER
from extender.packing.rules import values_states
from extender.policy import InForce, PolicyName
from extender.settings import Settings
from nodeagent.apiserver.protocol import ApiError
from nodeagent.apiserver.rest import RestApi

log = structlog.get_logger()

API_CONNECTIONS = 256  # the watches, and more binds at once than kube-scheduler was seen to send


def serve(
    kubeconfig: Annotated[
        Path | None,
        typer.Option(help="Credentials for the API server; in a cluster, the pod's own."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the hooks; 0 takes a free one.")
    ] = 8443,
    probe_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port for /healthz and /readyz over plain HTTP, for who has no certificate.",
            show_default="none",
        ),
    ] = None,
    admission_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port of the admission webhook, with the hooks' certificate; it asks for none.",
            show_default="none",
        ),
    ] = None,
    desk_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port of the page, /api/v1 and /metrics, with the hooks' certificate: for whoever"
            " shows a bearer token that the API server says may GET them.",
            show_default="none",
        ),
    ] = None,
    scheduler_name: Annotated[
        list[str] | None,
        typer.Option(
            help="A scheduler that asks this extender (repeatable): the webhook gives pods that"
            " name none the first, and refuses those of others.",
            show_default=DEFAULT_SCHEDULER,
        ),
    ] = None,
    prefix: Annotated[
        str, typer.Option(help="Path before the verbs, as in the scheduler's urlPrefix.")
    ] = "",
    policy: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help=f"{policies.HELP} A file is read again when it changes; one with a fault is not"
            " adopted.",
        ),
    ] = PolicyName.DEFAULT.value,
    shadow_policy: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="A policy that decides beside the one in force, in a process of its own and for"
            " nobody: `tangram policy shadow` tells what would come of it. A file may come and go.",
            show_default="none",
        ),
    ] = "",
    http_timeout: Annotated[
        float,
        typer.Option(
            callback=finite,
            min=4.0,
            help="httpTimeout of the scheduler's extender entry, in seconds.",
        ),
    ] = 30.0,
    reservation: Annotated[
        float,
        typer.Option(
            callback=finite,
            min=0.0,
            help="Seconds a place is kept for a pod that does not come to bind.",
        ),
    ] = Settings().reservation_seconds,
    restart_hold: Annotated[
        float,
        typer.Option(
            callback=finite,
            min=0.0,
            help="Seconds the place of a pod that has ended is held for the next pod of the same"
            " VirtualMachine, StatefulSet or ReplicaSet; 0: not at all.",
        ),
    ] = Settings().restart_hold_seconds,
    avoid_gpu: Annotated[
        float,
        typer.Option(
            callback=finite,
            min=0.0,
            help="Seconds a GPU is chosen last on which an instance could not be made; doubles"
            " each time it happens again.",
        ),
    ] = Settings().avoidance_seconds,
    circuit_failures: Annotated[
        int,
        typer.Option(
            min=0,
            help="So many assignments failed in a row, and their node takes nothing new for a"
            " while; 0: it always does.",
        ),
    ] = Settings().circuit_failures,
    circuit_seconds: Annotated[
        float,
        typer.Option(
            callback=finite,
            min=0.0,
            help="For so many seconds; then one assignment is let through, and if that fails, it"
            " is twice as long.",
        ),
    ] = Settings().circuit_seconds,
    plan_bursts: Annotated[
        int,
        typer.Option(
            min=0,
            help="So many pods in a second wait to be placed as one problem; 0: none ever waits."
            " With best-fit, worst-fit and capability, which do not value a GPU's state, joint"
            " plans are proven in what they admit, not in where they place it.",
        ),
    ] = Settings().plan_burst_pods,
    preemption: Annotated[
        bool,
        typer.Option(
            help="Evict pods for pods of higher priority that find no room; never past a disruption"
            " budget, and not for those whose preemptionPolicy is Never."
        ),
    ] = Settings().preempts,
    nominate: Annotated[
        bool,
        typer.Option(
            help="While pods leave for one of higher priority, have kube-scheduler nominate it for"
            " their node, so that nobody below it gets their CPU and memory. For kube-scheduler"
            " 1.38 or later: up to 1.37 its own preemption takes that for an error."
        ),
    ] = Settings().nominates,
    body_limit: Annotated[
        int,
        typer.Option(
            min=1024,
            help="Bytes of a request's body that are read at most, of a larger one none. Whole Node"
            " objects of 1,000 nodes are 30 MB; names, as they are to be sent, some kilobytes.",
        ),
    ] = Settings().body_limit_bytes,
    decision_log: decision_logs.Folder = None,
    decision_log_file_mib: decision_logs.FileMib = decision_logs.FILE_MIB,
    decision_log_files: decision_logs.Files = decision_logs.FILES,
    decision_log_hash_names: decision_logs.HashNames = False,
    decision_log_hash_key: decision_logs.HashKey = None,
    own_pod: electing.Own = "",
    leader_elect: electing.Elects = None,
    identity: electing.Identity = "",
    lease_duration: electing.LeaseDuration = electing.USUAL.lease_duration_seconds,
    renew_deadline: electing.RenewDeadline = electing.USUAL.renew_deadline_seconds,
    retry_period: electing.RetryPeriod = electing.USUAL.retry_period_seconds,
    tls_cert: secured.Cert = None,
    tls_key: secured.Key = None,
    client_ca: secured.ClientCa = None,
    client_name: secured.ClientNames = None,
) -> None:
    """Answer kube-scheduler's hooks from live inventory."""
    prefix = "/" + prefix.strip("/") if prefix.strip("/") else ""
    tls, anybody_tls = secured.certificates(tls_cert, tls_key, client_ca)
    if tls is None and not secured.loopback(host):
        raise typer.BadParameter(
            "beyond loopback the hooks need --tls-cert, --tls-key and --client-ca: whoever may"
            " call bind may bind any pod",
            param_hint="--host",
        )
    if tls is None and client_name:
        raise typer.BadParameter(
            "without certificates nobody has a name", param_hint="--client-name"
        )
    how_kept = decision_logs.kept(
        decision_log,
        file_mib=decision_log_file_mib,
        files=decision_log_files,
        hashed=decision_log_hash_names,
        key=decision_log_hash_key,
    )
    chosen, file = policies.in_force(policy)
    settings = Settings(
        http_timeout_seconds=http_timeout,
        reservation_seconds=reservation,
        restart_hold_seconds=restart_hold,
        avoidance_seconds=avoid_gpu,
        circuit_failures=circuit_failures,
        circuit_seconds=circuit_seconds,
        plan_burst_pods=plan_bursts,
        preempts=preemption,
        nominates=nominate,
        body_limit_bytes=body_limit,
        plan_solve_seconds=chosen.policy.plan_seconds,
    )
    pod = electing.own_pod(own_pod)
    timing = electing.timing(lease_duration, renew_deadline, retry_period)
    election = electing.election(
        leader_elect, timing, identity=identity, pod=pod, outside=kubeconfig is not None
    )
    clients = frozenset(client_name or ())
    first, *others = scheduler_name or [DEFAULT_SCHEDULER]
    doors = Doors(
        host=host,
        port=port,
        probe_port=probe_port,
        admission_port=admission_port,
        desk_port=desk_port,
        prefix=prefix,
        tls=tls,
        anybody_tls=anybody_tls,
        clients=clients,
        schedulers=Schedulers(first, frozenset(others)),
    )
    api = RestApi(kubeconfig=kubeconfig, connections=API_CONNECTIONS)
    heap.bound()
    with decision_logs.opened(
        how_kept, policy=chosen, settings=settings, leads=election is None
    ) as log_kept:
        beside = policies.beside(shadow_policy) if shadow_policy else None
        work = _serve(api, doors, chosen, file, settings, pod, election, log_kept, beside)
        _run(work, doors)


def _run(work: Coroutine[Any, Any, None], doors: Doors) -> None:
    try:
        with threads_take_short_turns():
            uvloop.run(work)
    except OSError as error:
        ports = " or ".join(map(str, doors.ports))
        typer.echo(f"tangram serve: cannot listen on {doors.host}:{ports}: {error}", err=True)
        raise typer.Exit(1) from error
    except ApiError as error:
        typer.echo(f"tangram serve: cannot use the API server: {error}", err=True)
        raise typer.Exit(1) from error


async def _serve(
    api: RestApi,
    doors: Doors,
    policy: InForce,
    file: PolicySource | None,
    settings: Settings,
    own_pod: OwnPod | None,
    election: Election | None,
    kept: DecisionLog | None,
    beside: ShadowSource | None,
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with api:
        replica = Replica(
            api,
            settings,
            policy,
            election=election,
            own_pod=own_pod,
            policy_file=file,
            witness=kept,
            shadow_policy=beside,
        )
        if kept is not None:
            kept.follow(replica.service.knowledge)
        # Without certificates all of this is on loopback, where whoever asks is let in.
        reviewer = Reviews(api) if doors.anybody_tls else None
        async with (
            collected_between_answers(replica.service),
            doors.opened(replica.service, reviewer, replica.shadow) as urls,
        ):
            identity = election.identity if election else ""
            in_force = replica.service.knowledge.in_force
            ranking = in_force.policy
            if not values_states(ranking):
                log.warning("joint_plans_prove_admission_only", policy=ranking.effective.value)
            if ranking.name is PolicyName.LEARNED and ranking.weights is None:
                log.warning(
                    "learned_without_weights",
                    policy=ranking.effective.value,
                    remedy="tangram policy train FILE --mix MIX, then --policy FILE",
                )
            log.info(
                "serving",
                url=urls.hooks,
                probes=urls.probes,
                webhook=urls.webhook,
                desk=urls.desk,
                policy=ranking.effective.value,
                policy_version=in_force.version,
                identity=identity,
            )
            if election and own_pod is None:
                log.warning("leader_not_labelled", remedy="--own-pod, or no Service finds it")
            await replica.run(stop)
