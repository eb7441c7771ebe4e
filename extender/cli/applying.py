"""Plans of moves looked at, applied, and followed, whatever they are for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from extender.advice import Advice, Asked
from extender.cli.advised import shown
from extender.cli.asked import answer, fail, once
from extender.cli.desk import Unanswered, Where
from extender.cli.output import Output, print_as
from extender.cli.underway import progress
from extender.moving.document import Underway
from extender.moving.order import Outcome
from extender.server.advised import MOVES
from extender.server.ordered import UNDER_WAY, Application

NO_PLAN, NOT_ALL_MADE = 2, 3
"""What commands exit with."""

LOOK_SECONDS = 2.0
MOST_FAILED_LOOKS = 30
"""In a row: a minute and more, in which another extender has come to lead."""

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether to go on.")]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the moves until they are over.")]


class Applied(msgspec.Struct, frozen=True):
    """What programs read of a plan applied: the plan, and the order to make its moves, if any."""

    plan: Advice
    order: Underway | None = None


def advised(command: str, asked: Asked, where: Where, output: Output) -> Advice:
    """Ask for advice, print it, and exit where it is that there is no plan."""
    said = _advice(command, asked, where)
    if output is not Output.TEXT:
        print_as(output, said)
    else:
        _print_plan(said)
    if not said.attains:
        raise typer.Exit(NO_PLAN)
    return said


def applied(
    command: str, asked: Asked, where: Where, output: Output, *, yes: bool, wait: bool
) -> None:
    """Look at a plan, and have it carried out if whoever asks says so."""
    if output is not Output.TEXT and not yes:
        raise typer.BadParameter("for programs it takes --yes: nobody is asked", param_hint="--yes")
    said = _advice(command, asked, where)
    if output is Output.TEXT:
        _print_plan(said)
    if not said.attains or not said.moves:
        if output is not Output.TEXT:
            print_as(output, Applied(said))
        if not said.attains:
            raise typer.Exit(NO_PLAN)
        return
    if not yes and not typer.confirm("Have these moves made?"):
        raise typer.Exit(1)
    goals: dict[str, tuple[str, ...]] = {}
    for parameter, value in asked.query():
        goals[parameter] = (*goals.get(parameter, ()), value)
    body = msgspec.json.encode(Application(goals, said.digest))
    order = answer(command, where, MOVES, {}, Underway, method="POST", body=body)
    if wait:
        order = _followed(command, where, order, time.sleep)
    if output is Output.TEXT:
        _print(order, output)
    else:
        print_as(output, Applied(said, order))
    if wait and order.outcome != Outcome.DONE:
        raise typer.Exit(NOT_ALL_MADE)


def under_way(command: str, where: Where, output: Output) -> None:
    """Say how far the moves have come that were applied last."""
    _print(answer(command, where, UNDER_WAY, {}, Underway), output)


def stopped(command: str, where: Where, output: Output) -> None:
    """Let no further move begin, and say how far it has come."""
    _print(answer(command, where, UNDER_WAY, {}, Underway, method="DELETE"), output)


def _advice(command: str, asked: Asked, where: Where) -> Advice:
    return answer(command, where, MOVES, asked.query(), Advice)


def _followed(
    command: str, where: Where, given: Underway, pause: Callable[[float], None]
) -> Underway:
    """Follow the very order that was given, though a look or some of them may fail."""
    order, failed = given, 0
    while not order.over:
        pause(LOOK_SECONDS)
        try:
            found = once(where, UNDER_WAY, {}, Underway)
        except (Unanswered, TimeoutError) as error:
            failed += 1
            if failed >= MOST_FAILED_LOOKS:
                fail(command, error)
            continue
        failed = 0
        if found.order != given.order:
            typer.echo(
                f"tangram {command}: another order was given meanwhile: what became of"
                f" {given.order} is in the extender's log",
                err=True,
            )
            raise typer.Exit(NOT_ALL_MADE)
        order = found
    return order


def _print_plan(said: Advice) -> None:
    console = Console(highlight=False)
    for each in shown(said):
        console.print(each, soft_wrap=True)


def _print(order: Underway, output: Output) -> None:
    if output is not Output.TEXT:
        print_as(output, order)
        return
    console = Console(highlight=False)
    for each in progress(order):
        console.print(each, soft_wrap=True)
