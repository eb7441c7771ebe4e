"""``--leader-elect``, and what goes with it: which pod and which of several replicas this is."""

from __future__ import annotations

import os
import secrets
import socket
from typing import Annotated

import typer

from extender.cli.seconds import finite
from extender.cluster import Election, OwnPod
from extender.settings import InvalidTiming, LeaseTiming

IN_CLUSTER = "KUBERNETES_SERVICE_HOST"  # what Kubernetes sets in every container
USUAL = LeaseTiming()

Own = Annotated[
    str,
    typer.Option(
        help="NAMESPACE/NAME of the extender's own pod, patched to wake others and to be found"
        " by the Service while it leads."
    ),
]
Elects = Annotated[
    bool | None,
    typer.Option(
        help="Answer and write only as the one leader of several replicas.",
        show_default="in a cluster",
    ),
]
Identity = Annotated[
    str,
    typer.Option(
        help="Name in the Lease; a random end makes it this process's own.",
        show_default="the own pod's, or the host's",
    ),
]
LeaseDuration = Annotated[
    int, typer.Option(min=1, help="Seconds after which a silent leader may be replaced.")
]
RenewDeadline = Annotated[
    float,
    typer.Option(
        callback=finite, min=0.0, help="Seconds after which a leader that cannot renew stops."
    ),
]
RetryPeriod = Annotated[
    float,
    typer.Option(
        callback=finite, min=0.0, help="Seconds between two renewals, or looks at the Lease."
    ),
]


def own_pod(text: str) -> OwnPod | None:
    """Return the pod that ``--own-pod`` names, if any.

    Raises:
        typer.BadParameter: it names none.
    """
    if not text:
        return None
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name):
        raise typer.BadParameter(f"{text} is not NAMESPACE/NAME", param_hint="--own-pod")
    return OwnPod(namespace, name)


def timing(lease_duration: int, renew_deadline: float, retry_period: float) -> LeaseTiming:
    """Return how the Lease is kept, in seconds.

    Raises:
        typer.BadParameter: it could not be kept so.
    """
    try:
        return LeaseTiming(
            lease_duration_seconds=lease_duration,
            renew_deadline_seconds=renew_deadline,
            retry_period_seconds=retry_period,
        )
    except InvalidTiming as error:
        raise typer.BadParameter(
            str(error), param_hint="--lease-duration, --renew-deadline, --retry-period"
        ) from error


def election(
    elects: bool | None, timing: LeaseTiming, *, identity: str, pod: OwnPod | None, outside: bool
) -> Election | None:
    """Return what this process is to be elected by, None if it leads alone.

    Where it is not said whether it *elects*, it does in a cluster, but not from *outside* of it.
    """
    if elects is None:
        elects = not outside and IN_CLUSTER in os.environ
    name = identity or (pod.name if pod else socket.gethostname())
    return Election(f"{name}_{secrets.token_hex(4)}", timing) if elects else None
