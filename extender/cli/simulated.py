"""The outcome of ``tangram simulate`` as tables."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from extender.simulation.outcome import Outcome, PolicyOutcome
from extender.simulation.paired import Estimate


def show(console: Console, found: Outcome) -> None:
    """Print what a comparison came to."""
    console.print(_title(found))
    console.print(_contenders(found))
    console.print(
        "Requests and slices are what was accepted; no room: not even moving everything would have"
        " helped. GPUs and used (slices) are means over time; µs is what a decision takes."
    )
    console.print(_profiles(found))
    if found.compare:
        console.print(_comparisons(found))
        console.print(
            "Differences in percentage points, seed by seed, with 95 % t intervals; p for requests,"
            " adjusted for the number of comparisons (Holm)."
        )
    if found.bound is not None:
        console.print(
            f"Without migration no policy accepts more than {found.bound.requests:.1%} of requests"
            f" or {found.bound.slices:.1%} of slices, on however many GPUs."
        )
    for name, each in found.policies.items():
        if each.guard is not None:
            console.print(
                f"{name}: its weights gained {_points(each.guard)} points of acceptance beyond"
                f" default on demands of the guard's own; {each.decides} decides."
            )
    console.print(f"{found.seconds:.1f} s.")


def _title(found: Outcome) -> str:
    s = found.scenario
    models = s.model if "=" in s.model else f"{s.gpus} {s.model}"
    if s.trace:
        demand = f"trace {s.trace}, rule {s.rule}, " + (
            f"resampled at load {s.load:g}" if s.resampled else "in its order"
        )
    else:
        mix = f"{s.mix}, then {s.then}" if s.then else s.mix
        demand = f"mix {mix}, load {s.load:g}, lifetimes {s.lifetime}"
    counted = (
        "all of it counted" if s.trace and not s.resampled else f"{s.arrivals} requests counted"
    )
    waiting = "; who finds no room waits" if s.queueing else ""
    return f"{models}: {demand}; seeds: {len(found.seeds)}, {counted}{waiting}."


def _contenders(found: Outcome) -> Table:
    table = _table("", "requests", "slices", "refused", "no room", "fragmented")
    for column in ("GPUs", "used", "µs p50/p99"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, each in found.policies.items():
        table.add_row(name, *_row(each))
    return table


def _row(each: PolicyOutcome) -> tuple[str, ...]:
    refused, mean, took = each.rejections, each.averages, each.decision_us
    return (
        f"{each.requests.mean:.2%}",
        f"{each.slices.mean:.2%}",
        f"{refused.total}",
        "" if refused.capacity is None else f"{refused.capacity:.0f}",
        "" if refused.fragmentation is None else f"{refused.fragmentation:.0f}",
        "" if mean is None else f"{mean.active_gpus:.1f}",
        "" if mean is None else f"{mean.used:.1%}",
        "" if took is None else f"{took.p50:.1f}/{took.p99:.1f}",
    )


def _profiles(found: Outcome) -> Table:
    names = list(found.policies[found.policy].profiles)
    table = _table("accepted of", *names)
    for name, each in found.policies.items():
        shares = [each.profiles[profile].acceptance for profile in names]
        table.add_row(name, *("" if share is None else f"{share:.2%}" for share in shares))
    return table


def _comparisons(found: Outcome) -> Table:
    table = _table(f"{found.policy} against", "requests", "slices", "refusals avoided", "p")
    for name, each in found.compare.items():
        avoided = each.rejections_avoided_pct
        table.add_row(
            name,
            _points(each.requests_pp),
            _points(each.slices_pp),
            "" if avoided is None else f"{avoided:.0f} %",
            "" if each.p_holm is None else f"{each.p_holm:.2g}",
        )
    return table


def _points(each: Estimate) -> str:
    return f"{each.mean:+.3f}" + ("" if each.ci95 is None else f" ± {each.ci95:.3f}")


def _table(first: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
