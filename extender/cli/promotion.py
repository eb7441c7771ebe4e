"""``tangram policy promote`` and ``rollback``: policies change places in the ConfigMap."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated

import typer
from rich.console import Console

from extender.cli import policy_map
from extender.cli.applying import Yes
from extender.cli.asked import answer, fail
from extender.cli.desk import Ca, DeskUrl, Kubeconfig, Token, Where
from extender.cli.policy_map import ChangedMeanwhile, PolicyMap
from extender.cli.shadowed import LAGS_SECONDS, show
from extender.policy.file import MalformedPolicy, PolicyFile, parsed
from extender.policy.promotion import POLICY, SHADOW, CannotSwap, promoted, rolled_back
from extender.server.shadowed import SHADOW as STANDING
from extender.shadow import Standing
from nodeagent.api import keys
from nodeagent.apiserver.protocol import ApiError, NotFound
from nodeagent.apiserver.rest import RestApi

Name = Annotated[
    str, typer.Option("--config-map", metavar="NAMESPACE/NAME", help="Where the policies are.")
]
DEFAULT_NAME = f"{keys.SYSTEM_NAMESPACE}/tangram-policy"

LEARNED = (
    "Its weights decided everywhere in the shadow. Live they decide only where the extender has"
    " found them better than `default`, which decides until then: so the evidence need not hold."
)


def promote(
    yes: Yes = False,
    without_evidence: Annotated[
        bool,
        typer.Option(
            "--without-evidence",
            help="Even if the shadow has not run with both, or not for long enough to tell.",
        ),
    ] = False,
    config_map: Name = DEFAULT_NAME,
    desk: DeskUrl = "",
    token: Token = "",
    ca: Ca = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show what the shadow has shown, and put its policy in force if whoever asks says so.

    The policy that was in force runs beside it then, and `tangram policy rollback` returns to it.
    """
    command = "policy promote"
    before = _read(command, config_map, kubeconfig)
    try:
        after = promoted(before.texts)
        live, shadow = _file(before, POLICY), _file(before, SHADOW)
    except (CannotSwap, MalformedPolicy) as error:
        fail(command, error)
    if not without_evidence:
        said = answer(command, Where(desk, token, ca, kubeconfig), STANDING, {}, Standing)
        show(said, Console(highlight=False))
        if lacking := lacks(said, live.version, shadow.version):
            typer.echo(f"tangram {command}: {lacking}", err=True)
            raise typer.Exit(1)
    if shadow.in_force.candidate is not None:
        typer.echo(LEARNED)
    if not yes and not typer.confirm(f"Put {shadow.version} in force instead of {live.version}?"):
        raise typer.Exit(1)
    _write(command, before, after, kubeconfig)
    typer.echo(
        f"{shadow.version} is in force as soon as the extender has read it, within a minute or two;"
        f" {live.version} runs beside it. `tangram policy rollback` returns to it. Where the"
        " ConfigMap is made from files, change them as well."
    )


def rollback(
    yes: Yes = False, config_map: Name = DEFAULT_NAME, kubeconfig: Kubeconfig = None
) -> None:
    """Put the policy in force again that was before the last promotion."""
    command = "policy rollback"
    before = _read(command, config_map, kubeconfig)
    try:
        after = rolled_back(before.texts)
        version = parsed(after[POLICY].encode(), POLICY).version
    except (CannotSwap, MalformedPolicy) as error:
        fail(command, error)
    if not yes and not typer.confirm(f"Put {version} in force again?"):
        raise typer.Exit(1)
    _write(command, before, after, kubeconfig)
    typer.echo(
        f"{version} is in force as soon as the extender has read it, within a minute or two; what"
        " was promoted runs beside it. Where the ConfigMap is made from files, change them as well."
    )


def lacks(said: Standing, live: str, shadow: str) -> str:
    """Return why a standing does not tell two policies apart, by their versions; "" if it does."""
    of = said.evidence
    anyway = "; --without-evidence promotes all the same"
    if of is None:
        return f"there is no evidence{anyway}"
    found = of.live_policy.partition("+")[0], of.policy.partition("+")[0]
    if found != (live, shadow):
        return (
            f"the evidence is of {of.policy} beside {of.live_policy}, the ConfigMap has {shadow}"
            f" beside {live}: wait until the extender has read it; where it goes by another file,"
            f" exchange what --policy and --shadow-policy name{anyway}"
        )
    if not of.agreement.decided:
        return f"no VM has been decided about by both yet: wait{anyway}"
    if said.lag_seconds >= LAGS_SECONDS:
        return f"the evidence has been behind for {said.lag_seconds:.0f} s: wait{anyway}"
    if of.refusals_more.ci95 is None:
        return (
            f"{of.agreement.decided} VMs are too few, or came too unevenly, to tell who refuses"
            f" fewer: wait{anyway}"
        )
    return ""


def _file(of: PolicyMap, key: str) -> PolicyFile:
    return parsed(of.texts[key].encode(), f"{of.name}: {key}")


def _read(command: str, config_map: str, kubeconfig: Kubeconfig) -> PolicyMap:
    namespace, slash, name = config_map.partition("/")
    if not (namespace and slash and name):
        raise typer.BadParameter(f"{config_map} is not NAMESPACE/NAME", param_hint="--config-map")

    async def read() -> PolicyMap:
        async with RestApi(kubeconfig=kubeconfig) as api:
            return await policy_map.read(api, namespace, name)

    try:
        return asyncio.run(read())
    except NotFound:
        text = (
            f"there is no ConfigMap {config_map}: give --config-map. Where the policies are files,"
            " exchange those that `tangram serve` --policy and --shadow-policy name: it reads them"
            " again when they change"
        )
        fail(command, CannotSwap(text))
    except ApiError as error:
        fail(command, error)


def _write(
    command: str, before: PolicyMap, texts: Mapping[str, str], kubeconfig: Kubeconfig
) -> None:
    async def write() -> None:
        async with RestApi(kubeconfig=kubeconfig) as api:
            await policy_map.write(api, before, texts)

    try:
        asyncio.run(write())
    except (ChangedMeanwhile, ApiError) as error:
        fail(command, error)
