"""How advice on moves is printed for people: what to move, the slices before and after, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.table import Table
from rich.text import Text

from extender.advice import Advice
from extender.advice.document import Cell, Map, Obstacle, Otherwise, Outcome, Step, Who
from extender.advice.pricing import Price
from extender.cli.printable import printable
from extender.explain.explanation import Spot

FREE, STAYS, MORE = "·", "▪", "━"
SYMBOLS = "123456789abcdefghijklmnopqrstuvwxyz"
"""For VMs that move and pods that come, by their number; beyond these, the last stands for all."""

MOST_NAMED = 3
"""VMs named that would move in the place of one."""

MOST_MAPS = 40
"""GPUs drawn; a drain of many nodes touches more than anybody looks at."""


def shown(said: Advice) -> Iterator[Text | Table]:
    """Yield advice as it is printed."""
    yield Text(f"To {'; '.join(said.goals)}:", style="bold")
    yield from _verdict(said)
    if said.moves:
        yield Text()
        yield steps(said.moves)
        yield from reasons(said.moves)
    for place in said.places:
        name = who(place.pod) if place.pod.name else f"room for {place.profile}"
        yield Text(f"  {symbol(place.number)}  then {name} ({place.profile}) on {spot(place.on)}")
    if said.gpus:
        yield Text()
        yield from maps(said.gpus)
    yield Text()
    yield Text(_account(said), style="dim")


def _verdict(said: Advice) -> Iterator[Text]:
    match said.outcome:
        case Outcome.PLAN if not said.moves:
            yield Text("  Nothing has to move: there is room as it is.", style="green")
        case Outcome.PLAN:
            count, stays = len(said.moves), said.asked - said.attained
            moves = f"  {count} move{'' if count == 1 else 's'}, in this order"
            if said.some_stay:
                yield Text(f"{moves}; {stays} of {said.asked} stay.", style="yellow")
            else:
                yield Text(f"{moves}.", style="green")
        case Outcome.INFEASIBLE:
            yield Text("  No moves attain that.", style="red")
        case Outcome.UNKNOWN:
            yield Text("  No plan was found; there may be one.", style="yellow")
    for each in said.obstacles:
        yield Text(f"  {obstacle(each)}")
    for warning in said.warnings:
        yield Text(f"  {warning[:1].upper()}{warning[1:]}.", style="yellow")
    if said.moves and not said.attains:
        yield Text(f"  Nearest, {said.attained} of {said.asked}:")


def obstacle(each: Obstacle) -> str:
    """Return an obstacle in a sentence."""
    if each.on is not None:
        holder = who(each.vm) if each.vm is not None and each.vm.name else "Something"
        answer = f" ({printable(each.answer)})" if each.answer else ""
        return f"{holder} on {spot(each.on)} cannot go: {each.why}{answer}."
    what = f"{each.missing} x {each.what}" if each.missing else each.what
    return f"{what}: {each.why}." if what else f"{each.why[:1].upper()}{each.why[1:]}."


def steps(moves: Sequence[Step]) -> Table:
    """Return moves as lines of a table."""
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in ("", "VM", "PROFILE", "FROM", "TO", "HOW"):
        table.add_column(heading, overflow="fold")
    for step in moves:
        places = spot(step.source), spot(step.target)
        table.add_row(symbol(step.number), who(step.vm), step.profile, *places, step.how)
    return table


def reasons(moves: Sequence[Step]) -> Iterator[Text]:
    """Yield what each move costs, and why its VM moves and not another."""
    for number, same in groupby(sorted(moves, key=_number), key=_number):
        step = next(same)
        parts = [_paid(step.price)] if step.price is not None else []
        parts += [_instead(step.otherwise)] if step.otherwise is not None else []
        if parts:
            yield Text(f"  {symbol(number)}  {'; '.join(parts)}", style="dim")


def _number(step: Step) -> int:
    return step.number


def _paid(price: Price) -> str:
    weight = "1 memory slice" if price.weight == 1 else f"{price.weight} memory slices"
    aged = f", {price.added} for {price.hours} hours there" if price.added else ""
    return f"costs {price.cost}: {price.each} for each of {weight}{aged}"


def _instead(otherwise: Otherwise) -> str:
    if not otherwise.attained:
        return "if it stayed, no plan would do"
    names = [who(vm) for vm in otherwise.vms[:MOST_NAMED]]
    more = len(otherwise.vms) - len(names)
    names += [f"{more} more"] if more else []
    whom = f"{' and '.join(names)} would move" if names else "the others would move otherwise"
    if otherwise.moves:
        moves = "1 move" if otherwise.moves == 1 else f"{otherwise.moves} moves"
        return f"if it stayed, {whom}: {moves} more"
    if otherwise.cost:
        return f"if it stayed, {whom} at {otherwise.cost} more"
    return f"if it stayed, {whom} at the same cost"


def who(vm: Who) -> str:
    """Return a VM by its name, where the reader may know it."""
    return f"{vm.namespace}/{vm.name}" if vm.name else "a VM of another namespace"


def spot(on: Spot) -> str:
    """Return where slices are."""
    last = on.start + on.size - 1
    slices = f"slice {on.start}" if on.size == 1 else f"slices {on.start}-{last}"
    return f"{on.node} GPU {on.gpu} {slices}"


def maps(gpus: Sequence[Map]) -> Iterator[Text]:
    """Yield the memory slices of GPUs, before and after, a line for each GPU."""
    yield Text("Memory slices before and after:", style="bold")
    width = max(len(gpu.node) for gpu in gpus)
    for node, of_node in groupby(gpus[:MOST_MAPS], key=lambda gpu: gpu.node):
        for gpu in of_node:
            line = Text(f"  {node:{width}}  GPU {gpu.gpu:<3} ")
            line.append_text(cells(gpu.before, gpu.slices))
            line.append("  →  ")
            line.append_text(cells(gpu.after, gpu.slices))
            yield line
    if len(gpus) > MOST_MAPS:
        yield Text(f"  … and {len(gpus) - MOST_MAPS} more GPUs", style="dim")
    yield Text(f"  numbers: who moves, and what comes   {STAYS} stays   {FREE} free", style="dim")


def cells(there: Sequence[Cell], slices: int) -> Text:
    """Return what is on a GPU: a symbol for each instance, and a line as long as it is."""
    drawn, at = Text(), 0
    for cell in there:
        drawn.append(FREE * (cell.start - at), style="dim")
        style = "cyan" if cell.number else "white"
        drawn.append(symbol(cell.number) + MORE * (cell.size - 1), style=style)
        at = cell.start + cell.size
    return drawn.append(FREE * (slices - at), style="dim")


def symbol(number: int) -> str:
    """Return the sign of who moves or comes; of what stays, for 0."""
    return SYMBOLS[min(number, len(SYMBOLS)) - 1] if number else STAYS


def _account(said: Advice) -> str:
    bound = "no plan is better" if said.optimal else f"none takes fewer than {said.least_moves}"
    budgets = (
        "Disruption budgets were looked up."
        if said.budgets
        else "Disruption budgets were not looked up: the API server holds to them at an eviction."
    )
    stops = f"It costs {said.cost} by the policy's moves.costs; {bound}. " if said.moves else ""
    return (
        f"{stops}{budgets} {said.nodes} nodes looked at."
        f" CPU, memory and volumes of the VMs, and which pods they shun, were not looked at."
        f" Policy {said.policy}, version {said.policy_version}. Nothing was moved."
    )
