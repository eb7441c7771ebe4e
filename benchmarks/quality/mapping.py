"""What a trace's pods became, beside the published shares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from benchmarks.quality.claims import Claim, reference
from benchmarks.quality.store import Result

_ROUNDING = 0.0005  # published to three digits


class Mapped(msgspec.Struct, frozen=True):
    """The share of each profile that a trace's pods were mapped to; ``published`` may be unknown.

    ``workload`` is the trace's name without its ending, and the rule with ``, shared`` if those
    that asked for a whole GPU were left out.
    """

    workload: str
    pods: int
    ours: dict[str, float]
    published: tuple[float, ...] | None

    @property
    def agrees(self) -> bool | None:
        """Whether ours are the published shares; None if there are none."""
        if self.published is None:
            return None
        pairs = zip(self.published, self.ours.values(), strict=True)
        return all(abs(theirs - ours) <= _ROUNDING + 1e-9 for theirs, ours in pairs)


def workload(result: Result) -> tuple[str, str]:
    """Return the name of a result's trace, and the rule by which and the pods of which it was."""
    s = result.scenario
    return Path(s.trace).stem, f"{s.rule}" + (", shared" if s.shared_only else "")


def mapped(traces: Iterable[Result]) -> Iterator[Mapped]:
    """Yield each workload of the *traces* once, as it was played in order: all of it counts."""
    known = reference().traces.shares
    seen: set[tuple[str, str]] = set()
    for result in traces:
        trace, rule = key = workload(result)
        if result.scenario.resampled or key in seen:
            continue
        seen.add(key)
        asked = {profile: sum(counts) for profile, counts in result.asked.items()}
        pods = sum(asked.values())
        ours = {profile: count / pods for profile, count in asked.items()}
        yield Mapped(f"{trace}, {rule}", pods, ours, known.get(trace, {}).get(rule))


def as_published(traces: Iterable[Result]) -> Iterator[Claim]:
    """Yield the claim that pods are mapped as the reference maps them, if it knows the traces."""
    found = [each for each in mapped(traces) if each.agrees is not None]
    if found:
        wrong = [each.workload for each in found if not each.agrees]
        yield Claim(
            "The public trace's pods are mapped to profiles as in the reference, to its last"
            " digit.",
            not wrong,
            f"{len(found) - len(wrong)} of {len(found)} workloads; otherwise:"
            f" {'; '.join(wrong) or 'none'}.",
        )
