"""How an order of moves is printed for people: what is made, under way, and yet to come."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from extender.cli.advised import who
from extender.moving.document import At, Stage, Underway
from extender.moving.order import Outcome

_STYLES = {
    Stage.MADE: "green",
    Stage.UNDER_WAY: "yellow",
    Stage.TO_COME: "",
    Stage.NOT_MADE: "dim",
}


def progress(said: Underway) -> Iterator[Text | Table]:
    """Yield an order as it is printed."""
    if not said.order:
        yield Text("No moves have been applied.")
        return
    goals = f"to {'; '.join(said.goals)}" if said.goals else "for goals you may not know of"
    by = f" by {said.by}" if said.by else ""
    yield Text(f"Order {said.order} of {said.since}{by}, {goals}:", style="bold")
    yield Text(f"  {_state(said)}", style="green" if said.outcome == Outcome.DONE else "")
    yield Text()
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in ("", "VM", "FROM", "TO", "HOW", ""):
        table.add_column(heading, overflow="fold")
    for number, move in enumerate(said.moves, 1):
        stage = Text(move.stage.value.replace("-", " "), style=_STYLES[move.stage])
        places = _spot(move.source), _spot(move.target)
        table.add_row(str(number), who(move.vm), *places, move.how, stage)
    yield table
    for place in said.places:
        yield Text(f"  then {who(place.pod)} on {_spot(place.on)}")


def _state(said: Underway) -> str:
    made = sum(move.stage is Stage.MADE for move in said.moves)
    count = f"{made} of {len(said.moves)} moves made"
    if said.outcome:
        why = f": {said.why}" if said.why else ""
        return f"{said.outcome}, {count}{why}"
    state = "stopping" if said.stopping else "waiting" if said.waiting else "under way"
    whys = [why for why in (said.stopping or said.waiting, said.held) if why]
    return f"{state}, {count}: {'; '.join(whys)}" if whys else f"{state}, {count}"


def _spot(at: At) -> str:
    last = at.start + at.size - 1
    slices = f"slice {at.start}" if at.size == 1 else f"slices {at.start}-{last}"
    return f"{at.node} {at.gpu} {slices}"
