"""``tangram policy check``: what a policy file says, what is wrong with it, what it comes to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from extender.cli.against import CLUSTER, lines, seen_in, told_by
from extender.cli.asked import fail
from extender.cli.desk import Ca, Token, Unanswered, Where
from extender.cli.output import Output, print_as
from extender.outlook import Effect, Outlook
from extender.policy.costs import Costs
from extender.policy.file import MalformedPolicy, PolicyFile, contents, parsed
from extender.policy.moving import Mode, Moving
from extender.policy.rules import Release, Rules
from extender.policy.strict import Problem

LIKELY_WRONG = 2
"""The exit status where the policy can be used, and something of it is likely a mistake there."""


class Rule(msgspec.Struct, frozen=True, rename="camel"):
    """One of a policy's rules, in words; ``kind`` is the field it stands in."""

    kind: str
    name: str
    says: str


class Checked(msgspec.Struct, frozen=True, rename="camel"):
    """What a check finds: ``problems``, or what the policy says.

    ``decides`` is the value that really decides, ``why`` on what grounds, where weights do or do
    not. ``cluster`` is null where the policy was not held against one.
    """

    file: str
    problems: tuple[Problem, ...] = ()
    decides: str = ""
    why: str = ""
    version: str = ""
    rules: tuple[Rule, ...] = ()
    cluster: Outlook | None = None


def check(
    file: Annotated[Path, typer.Argument(help="The policy file.")],
    against: Annotated[
        str,
        typer.Option(
            metavar="cluster|URL",
            help="Look what it comes to there: whom it matches, what is over it, and what changes"
            " for the pods that are there; in a cluster as its API server lists it, or by what a"
            " running Tangram knows, at its desk's URL.",
        ),
    ] = "",
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print it.")] = (
        Output.TEXT
    ),
    kubeconfig: Annotated[
        Path | None,
        typer.Option(help="Credentials for --against cluster; in a cluster, the pod's own."),
    ] = None,
    token: Token = "",
    ca: Ca = None,
) -> None:
    """Say whether a policy file can be used, which policy really decides by it, and its rules.

    Exits with 1 where it cannot be used or held against what was named, and with 2 where something
    of it is likely a mistake there: a rule that matches nothing, a cap that is exceeded already,
    headroom that is not there, pods that it refuses and the policy in force does not.
    """
    if against and against != CLUSTER and not against.startswith(("http://", "https://")):
        raise typer.BadParameter(
            f"{against!r} is neither {CLUSTER} nor the URL of a desk, such as"
            " http://127.0.0.1:8444",
            param_hint="--against",
        )
    try:
        content = contents(file)
        found = parsed(content, str(file))
    except MalformedPolicy as error:
        if output is not Output.TEXT:
            print_as(output, Checked(str(file), error.problems))
        for line in str(error).splitlines():
            typer.echo(f"tangram policy check: {line}", err=True)
        raise typer.Exit(1) from error
    there: Outlook | None = None
    try:
        if against == CLUSTER:
            there = seen_in(kubeconfig, found.in_force)
        elif against:
            there = told_by(Where(against, token, ca), content)
    except (Unanswered, TimeoutError) as error:
        fail("policy check", error)
    checked = Checked(
        file=str(file),
        decides=found.policy.effective.value,
        why=_why(found),
        version=found.version,
        rules=(*_rules(found.rules), *_moves(found.moves), *_seconds(found)),
        cluster=there,
    )
    if output is not Output.TEXT:
        print_as(output, checked)
    else:
        console = Console(highlight=False)
        for each in shown(checked):
            console.print(each, soft_wrap=isinstance(each, Text))
    if there is not None and there.warns:
        raise typer.Exit(LIKELY_WRONG)


def shown(checked: Checked) -> Iterator[Text | Table]:
    """Yield what is found as it is printed: a heading, the rules, and what they come to."""
    why = f" ({checked.why})" if checked.why else ""
    yield Text(f"{checked.file}: {checked.decides}{why}")
    yield Text(f"version {checked.version}", style="dim")
    if checked.rules:
        yield Text()
        yield _table("SAYS", ((each.kind, each.name, Text(each.says)) for each in checked.rules))
    if checked.cluster is not None:
        yield Text()
        yield _table("IN THE CLUSTER", map(_marked, lines(checked.cluster)))
        if checked.cluster.version:
            yield Text(f"in force there: version {checked.cluster.version}", style="dim")


def _table(heading: str, rows: Iterator[tuple[str, str, Text]]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    table.add_column("RULE")
    table.add_column("NAME", overflow="fold")
    table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _marked(each: Effect) -> tuple[str, str, Text]:
    text = Text(f"WARNING: {each.text}", style="red") if each.warning else Text(each.text)
    return each.kind, each.name, text


def _rules(rules: Rules) -> Iterator[Rule]:
    """Yield what the rules come to, in words."""
    for pool in rules.pools:
        yield Rule("pool", pool.name, _listed(pool.profiles, "all profiles"))
    for tenant in rules.tenants:
        caps = [f"at most {n} x {profile}" for profile, n in tenant.caps.profiles.items()]
        if tenant.caps.memory_slices is not None:
            caps.insert(0, f"at most {tenant.caps.memory_slices} memory slices")
        parts = [
            _listed(tenant.profiles, "all profiles"),
            _listed(tenant.pools, "all pools"),
            *caps,
        ]
        if tenant.dedicated is not None:
            parts.append(f"shares no {tenant.dedicated}".replace("gpu", "GPU"))
        if tenant.priority:
            parts.append(f"priority {tenant.priority:+}")
        if not tenant.movable:
            parts.append("its VMs are not moved")
        yield Rule("tenant", tenant.name, "; ".join(parts))
    for room in rules.headroom:
        where = f"in pool {room.pool}" if room.pool else "on all nodes"
        kept = f"{room.keep} x {room.profile} kept free {where}"
        yield Rule("headroom", room.pool, kept + _but_for(room.released_to))
    for at, avoided in enumerate(rules.avoid):
        whom = ", ".join((*avoided.tenants, *avoided.profiles)) or "all"
        yield Rule("avoid", f"[{at}]", f"nodes taken only where no other will do, for {whom}")


def _but_for(released: Release) -> str:
    to = [f"tenant {name}" for name in released.tenants]
    if released.priority is not None:
        to.append(f"pods of priority {released.priority} or above")
    return f"; released to {', '.join(to)}" if to else ""


def _moves(moves: Moving) -> Iterator[Rule]:
    """Yield how VMs are moved, if the policy says anything about it."""
    if moves == Moving():
        return
    yield Rule("moves", moves.mode.value, _MODES[moves.mode])
    if moves.advises:
        yield from _costs(moves.costs)
    if moves.mode is not Mode.APPLY:
        return
    if moves.paused:
        yield Rule("moves", "paused", "no move is begun")
    yield Rule("moves", "perHour", f"at most {moves.per_hour} begun within an hour")
    for at, window in enumerate(moves.windows):
        yield Rule("moves", f"windows[{at}]", f"begun {window} UTC")


def _costs(costs: Costs) -> Iterator[Rule]:
    """Yield what moves cost, where that is other than usual."""
    if costs == Costs():
        return
    for name, points in (
        ("liveMigration", costs.live_migration),
        ("eviction", costs.eviction),
        ("restart", costs.restart),
    ):
        yield Rule("costs", name, f"{points} points for each memory slice")
    for profile, weight in costs.profiles.items():
        yield Rule("costs", profile, f"counts for {weight} memory slices")
    for age in sorted(costs.ages, key=lambda each: each.hours):
        yield Rule("costs", "ages", f"{age.adds} points more from {age.hours} hours on")


_MODES = {
    Mode.OFF: "no plan of moves is made for anybody",
    Mode.ADVISE: "plans of moves are made for whoever asks; no move is made",
    Mode.APPLY: "moves of plans that somebody applies are made",
}


def _seconds(file: PolicyFile) -> Iterator[Rule]:
    """Yield the times and deadlines that differ from the usual ones."""
    for kind, seconds in (("times", file.times), ("deadlines", file.deadlines)):
        usual = msgspec.to_builtins(type(seconds)())
        for name, each in msgspec.to_builtins(seconds).items():
            if each != usual[name]:
                yield Rule(kind, name, f"{each:g} s")


def _listed(names: Sequence[str], without: str) -> str:
    return ", ".join(names) or without


def _why(file: PolicyFile) -> str:
    """Say of weights whether they decide, and on what grounds."""
    if file.weights is None:
        return ""
    if file.trained is None:
        return "by weights that no simulation has judged"
    gained = f"{file.trained.gain:+.3f} ± {file.trained.gain_ci95:.3f} percentage points"
    if file.trained.better:
        return f"its weights gained {gained}"
    return f"not {file.value.value}: its weights gained {gained}, which is not certain"
