"""The report's section on recorded traces: what was mapped how, and who places more of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.quality import plots
from benchmarks.quality.cells import RIVALS, TODAY
from benchmarks.quality.claims import reference
from benchmarks.quality.differences import Below, comparisons
from benchmarks.quality.mapping import Mapped, mapped, workload
from benchmarks.quality.store import Result
from benchmarks.quality.traced import HELD_AT
from benchmarks.reporting.page import Section, Table, points
from extender.simulation.outcome import compared
from extender.simulation.paired import difference, estimate

Results = Mapping[str, Result]

_PLOT = "plots/trace.svg"


def public_trace(traces: Results, folder: Path) -> Iterator[Section]:
    """Yield the section, if any trace has been run; its plot is drawn into *folder*."""
    if not traces:
        return
    in_order = {name: each for name, each in traces.items() if not each.scenario.resampled}
    drawn = {name: each for name, each in traces.items() if each.scenario.resampled}
    found = list(comparisons(drawn, "default", RIVALS))
    requests = [each for each in found if each.metric == "requests"]
    plots.differences(requests, f"default minus {' and '.join(RIVALS)}", folder / _PLOT)
    yield Section(
        title="A public trace",
        text=(
            *_origin(traces),
            "Every pod that asked for one GPU or a part of one becomes a request for one profile,"
            " by three rules. A: the smallest profile with at least its share of the GPU's seven"
            " compute slices (nobody gets less than was asked for: the rule to look at first). B:"
            " the nearest by compute. C: the nearest by compute times memory. Pods without a GPU,"
            " and those with several, are left out; processors, memory and GPU types are not"
            " looked at. No GPU in the trace can be cut by MIG: all are taken for"
            f" {_models(traces)}, as in the literature. Most pods ask for a whole GPU or become"
            " such a request, and where GPUs are either full or empty there is nothing to choose:"
            " so 'shared' leaves out those that asked for a whole one. Most pods live for minutes"
            " and a few for months; VMs may be otherwise.",
            "In order: the pods come when they came and leave when they left, if they were"
            " admitted. The clusters are just big enough for all who would be there, if instances"
            f" could be moved at will, at {_shares()} of the arrivals; so on the biggest whatever"
            " is refused is refused because of where others were put. This happened once: there is"
            f" no interval, and a few requests more or less say nothing ({TODAY} throws dice, and"
            " did so once).",
            "Drawn: each request is any pod's profile and lifetime, Poisson arrivals at a set load"
            " of 100 GPUs' slices, begun with who would be there already, seeds as above;"
            " differences have intervals. A GPU holds one 4g at most, so where a rule makes many of"
            " them the load asks for more GPUs than its slices tell. Lifetimes are so unequal (the"
            " mean is tens of times the median) that one pod admitted or not is felt for a long"
            " time: intervals are wide.",
            "learned decides only where its guard, which is shown the mix with exponential"
            " lifetimes, says that it beats default; the nearest of its stored weights are those"
            " of a mix that was made up, not of this trace.",
            _verdict(found, " or ".join(RIVALS)),
            _verdict(list(comparisons(drawn, "default", (TODAY,))), f"{TODAY} (today's)"),
        ),
        tables=(
            _mapping(list(mapped(traces.values()))),
            _refused(in_order),
            _differences(drawn),
            _accepted(drawn),
            _ahead(traces),
            _starved(traces),
        ),
        plots=(_PLOT,),
    )


def _origin(traces: Results) -> Iterator[str]:
    """Yield where the traces come from, as far as the reference knows them."""
    files = {Path(each.scenario.trace).stem: each for each in traces.values()}
    known = reference().traces
    if any(stem in known.shares for stem in files):
        yield known.about
    checksums = {each.scenario.trace: each.sha256 for each in traces.values()}
    named = "; ".join(f"{name} (SHA-256 {checksum})" for name, checksum in checksums.items())
    yield f"Files, read where they lie and no part of this project: {named}."


def _contenders(results: Results) -> list[str]:
    return list(dict.fromkeys(name for result in results.values() for name in result.series))


def _models(traces: Results) -> str:
    return " and ".join(dict.fromkeys(each.scenario.model for each in traces.values()))


def _shares() -> str:
    *most, last = (f"{share:.0%}" for share in HELD_AT)
    return f"{', '.join(most)} and {last}"


def _verdict(found: Sequence[Below], rivals: str) -> str:
    below = [each for each in found if each.significant]
    above = [each for each in found if each.significantly_above]
    worst = "".join(f"; {e.cell}, {e.rival}, {e.metric}: {e.mean:+.2f}" for e in below)
    return (
        f"Of {len(found)} differences between default and {rivals} in the drawn demands (requests"
        f" and slices), default is significantly above (Holm) in {len(above)} and significantly"
        f" below in {len(below)}{worst}."
    )


def _workload(result: Result) -> str:
    return ", ".join(workload(result))


def _demand(result: Result) -> str:
    s = result.scenario
    return f"drawn, load {s.load:g}" if s.resampled else f"in order, {s.gpus} GPUs"


def _mapping(found: Sequence[Mapped]) -> Table:
    rows = [
        (
            each.workload,
            f"{each.pods:,}",
            *(f"{ours:.3f}" for ours in each.ours.values()),
            "" if each.agrees is None else "yes" if each.agrees else "NO",
        )
        for each in found
    ]
    profiles = found[0].ours
    return Table(("mapped", "pods", *profiles, "as in the reference"), tuple(rows))


def _refused(results: Results) -> Table:
    contenders = _contenders(results)
    rows = []
    for result in results.values():
        asked = sum(map(sum, result.asked.values()))
        row = [_workload(result), f"{result.scenario.gpus}", f"{asked:,}"]
        for name in contenders:
            if name not in result.series:
                row.append("")
                continue
            (measured,) = result.measures(name)
            row.append(f"{measured.rejections} ({100 * measured.slices:.2f})")
        broken = result.series["default"].fragmentation
        row.append(f"{sum(broken):.0f}")
        row.append(result.series["learned"].decides if "learned" in result.series else "")
        rows.append(tuple(row))
    return Table(
        (
            "in order",
            "GPUs",
            "requests",
            *(f"{name}: refused (slices accepted, %)" for name in contenders),
            "default: for fragmentation",
            "learned: decides",
        ),
        tuple(rows),
    )


def _differences(results: Results) -> Table:
    rows = []
    for result in results.values():
        measured = {name: result.measures(name) for name in result.series}
        ours = compared("default", measured)
        row = [_workload(result), f"{result.scenario.load:g}"]
        for rival in RIVALS:
            found = ours[rival]
            avoided = found.rejections_avoided_pct
            row += [
                points(found.requests_pp),
                points(found.slices_pp),
                "" if avoided is None else f"{avoided:.1f} %",
            ]
        if "learned" in measured:
            found = compared("learned", measured)["default"]
            row += [points(found.requests_pp), result.series["learned"].decides]
        else:
            row += ["", ""]
        rows.append(tuple(row))
    against = (f"minus {rival}: requests" for rival in RIVALS)
    header = [part for each in against for part in (each, "slices", "refusals avoided")]
    header += ["learned minus default: requests", "decides"]
    return Table(("default, drawn", "load", *header), tuple(rows))


def _accepted(results: Results) -> Table:
    contenders = _contenders(results)
    rows = []
    for result in results.values():
        row = [_workload(result), f"{result.scenario.load:g}"]
        for name in contenders:
            if name not in result.series:
                row.append("")
                continue
            measures = result.measures(name)
            requests = estimate([100 * each.requests for each in measures]).mean
            slices = estimate([100 * each.slices for each in measures]).mean
            row.append(f"{requests:.2f} ({slices:.1f})")
        rows.append(tuple(row))
    return Table(("drawn: requests (slices), %", "load", *contenders), tuple(rows))


def _ahead(results: Results) -> Table:
    """Return who accepts more than default: in order by any number, drawn by a whole interval."""
    rows = []
    for result in results.values():
        others = [name for name in result.series if name not in ("default", "learned")]
        measured = {name: result.measures(name) for name in ("default", *others)}
        for name, found in compared("default", measured).items():
            for metric, gain in (("requests", found.requests_pp), ("slices", found.slices_pp)):
                behind = gain.below_zero if result.scenario.resampled else gain.mean < 0
                if behind:
                    shown = points(gain) if result.scenario.resampled else f"{gain.mean:+.2f}"
                    rows.append((_workload(result), _demand(result), name, metric, shown))
    header = ("where default does not win", "demand", "ahead", "in", "default's difference")
    return Table(header, tuple(rows))


def _starved(results: Results) -> Table:
    """Return the profiles of which default accepts less than a rival in the drawn demands."""
    rows = []
    for result in results.values():
        if not result.scenario.resampled:
            continue
        for rival in RIVALS:
            ours, theirs = (result.series[name].accepted for name in ("default", rival))
            for profile, asked in result.asked.items():
                gain = difference(*(_shares_of(each[profile], asked) for each in (ours, theirs)))
                if gain.below_zero:
                    rows.append((_workload(result), _demand(result), rival, profile, points(gain)))
    header = ("profiles default accepts less of", "demand", "than", "profile", "difference")
    return Table(header, tuple(rows))


def _shares_of(accepted: Sequence[int], asked: Sequence[int]) -> list[float]:
    return [100 * a / of if of else 0.0 for a, of in zip(accepted, asked, strict=True)]
