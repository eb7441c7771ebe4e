"""``tangram policy shadow``: what the policy beside the live one has shown, in words and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from extender.cli.asked import answer
from extender.cli.desk import Ca, DeskUrl, Kubeconfig, Token, Where
from extender.cli.output import Output, print_as
from extender.cli.printable import literal, printable
from extender.replay.words import length
from extender.server.shadowed import SHADOW
from extender.shadow import Evidence, Standing, State
from extender.shadow.document import Refusals
from extender.simulation.paired import Estimate

NO_EVIDENCE = 2
"""What the command exits with where there is nothing to show."""

LAGS_SECONDS = 30.0
"""For how long what a shadow shows may be behind before that is said."""

MOST_ROWS = 20
"""Of profiles, and of tenants, in a table."""

_NONE = {
    State.NONE: "There is no shadow: give `tangram serve` --shadow-policy, or, where that is a key"
    " of the ConfigMap, add the key.",
    State.WAITING: "The shadow is not running: this extender does not lead, or it will begin soon.",
    State.RUNNING: "The shadow has begun, and has nothing to tell yet.",
}


def shadow(
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print it.")] = (
        Output.TEXT
    ),
    desk: DeskUrl = "",
    token: Token = "",
    ca: Ca = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show what a policy beside the live one would have decided, and what would have come of it.

    It ends with exit code 2 where there is no evidence yet.
    """
    said = answer("policy shadow", Where(desk, token, ca, kubeconfig), SHADOW, {}, Standing)
    if output is Output.TEXT:
        show(said, Console(highlight=False))
    else:
        print_as(output, said)
    if said.evidence is None:
        raise typer.Exit(NO_EVIDENCE)


def show(said: Standing, console: Console) -> None:
    """Print how a shadow stands."""
    for each in shown(said):
        console.print(each, soft_wrap=True)


def shown(said: Standing) -> Iterator[Text | Table]:
    """Yield what is printed."""
    if said.fault:
        yield Text(f"Its policy file is not used: {printable(said.fault)}", style="red")
    of = said.evidence
    if said.lag_seconds >= LAGS_SECONDS:
        behind = f"{said.behind} inputs and decisions, for {length(said.lag_seconds)}"
        yield Text(f"What it shows is behind by {behind}.", style="red")
    if of is None:
        yield Text(_NONE[said.state])
        return
    decided = of.agreement.decided
    since = f", since {said.began}" if said.began else ""
    yield Text.assemble(
        ("Shadow ", "bold"),
        f"{of.policy} beside the live policy {of.live_policy} for {length(of.seconds)}{since}:"
        f" {decided} VMs decided about by both",
    )
    if said.stretches > 1:
        why = f", the last for {said.ended}" if said.ended else ""
        yield Text(
            f"The evidence is of this stretch alone: {said.stretches - 1} before it were broken"
            f" off{why}.",
            style="dim",
        )
    yield Text()
    yield _levels(of)
    yield Text()
    yield Text(_agreement(of))
    yield Text(_certainty(of), style="bold")
    if of.refusals_more.ci95 is not None:
        yield Text(
            "That is of one look: who looks until it is beyond chance finds it so more often.",
            style="dim",
        )
    if of.predicted_within is not None:
        more = f"{of.refusals_more.mean:+.0f} ± {of.predicted_within:.0f}"
        yield Text(f"Had it been live, it would have refused {more} VMs more (95 %).")
    for heading, groups in (("PROFILE", of.profiles), ("TENANT", of.tenants)):
        if groups:
            yield Text()
            yield _groups(heading, groups)
    if of.because:
        reasons = ", ".join(f"{count} {printable(code)}" for code, count in of.because.items())
        yield Text()
        yield Text(f"The shadow refuses for: {reasons}.")
    yield Text(
        f"Not counted: {of.uncounted} VMs that were there, or asked about, before it began."
        f" {of.waiting} wait in the shadow now.",
        style="dim",
    )


def _levels(of: Evidence) -> Table:
    table = _table("", "LIVE", "SHADOW", "DIFFERENCE")
    refusals = of.refusals
    table.add_row(
        "Refused when they came",
        str(refusals.live),
        str(refusals.shadow),
        _interval(of.refusals_more, ".0f"),
    )
    for name, live, shadow, more in (
        ("Unusable slices, in the mean", of.live.unusable, of.shadow.unusable, of.unusable_more),
        ("Whole GPUs, in the mean", of.live.whole, of.shadow.whole, of.whole_more),
    ):
        table.add_row(name, f"{live:.1f}", f"{shadow:.1f}", _interval(more, ".2f"))
    return table


def _agreement(of: Evidence) -> str:
    each = of.agreement
    if not each.decided:
        return "No VM has been decided about by both yet."
    return (
        f"Alike: {each.alike} of {each.decided} ({each.alike / each.decided:.1%}). Placed by both:"
        f" {each.same} in the same places, {each.gpu} elsewhere on the same GPUs, {each.node} on"
        f" other GPUs of the node, {each.elsewhere} on other nodes. Refused: {each.refused} by"
        f" both, {each.live_refused} by the live policy alone, {each.shadow_refused} by the shadow"
        " alone."
    )


def _certainty(of: Evidence) -> str:
    """Say whether one refuses fewer than the other, as far as the stretch tells."""
    more = of.refusals_more
    if more.below_zero:
        return "The shadow refuses fewer VMs, beyond what chance would bring about (95 %)."
    if more.above_zero:
        return "The shadow refuses more VMs, beyond what chance would bring about (95 %)."
    if more.ci95 is None:
        return "The stretch is too short, or too uneven, to tell who refuses fewer VMs."
    if not of.refusals.live and not of.refusals.shadow:
        return "There was room for all: nothing is known of a shortage."
    return "Who refuses fewer VMs is within what chance would bring about (95 %)."


def _groups(heading: str, groups: Mapping[str, Refusals]) -> Table:
    table = _table(heading, "ASKED", "LIVE REFUSED", "SHADOW REFUSED")
    ordered = sorted(groups.items(), key=lambda item: (-item[1].asked, item[0]))
    for name, each in ordered[:MOST_ROWS]:
        table.add_row(literal(name), str(each.asked), str(each.live), str(each.shadow))
    if len(ordered) > MOST_ROWS:
        table.add_row(f"and {len(ordered) - MOST_ROWS} more", "", "", "")
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for at, heading in enumerate(headings):
        table.add_column(heading, justify="right" if at else "left", overflow="fold")
    return table


def _interval(of: Estimate, form: str) -> str:
    mean = of.mean if abs(of.mean) > 1e-9 else 0.0
    width = "" if of.ci95 is None else f" ± {of.ci95:{form}}"
    return f"{mean:+{form}}{width}"
