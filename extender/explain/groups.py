"""How groups of nodes stand to a request, in counts, and what is missing in all."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Sequence

from extender.explain.census import Census
from extender.explain.explanation import RULES, Asked, Group, Lack, Missing, Reason
from extender.explain.situation import Judged, Situation
from extender.snapshot import NodeView
from extender.verbs.verdicts import Code, Refused

MOST_GROUPS = 12
MOST_REASONS = 8
"""Of a group, and groups; the others are told of as one, so that an answer stays one page."""

NOT_CONSIDERED = (
    "not-considered",
    "kube-scheduler does not offer it: its selector, taints, CPU, …",
)

OTHERS = "others"

WAITS = frozenset({Code.PLANNING, Code.GANG_INCOMPLETE, Code.GANG_MALFORMED, Code.GANG_NO_ROOM})
"""Why a pod is refused everywhere that would fit by itself."""


def groups(situation: Situation, judged: Iterable[Judged]) -> tuple[Group, ...]:
    """Return how nodes stand, by pool and GPUs; the largest groups first."""
    by_kind: dict[tuple[str, str], list[Judged]] = {}
    for each in judged:
        by_kind.setdefault((_pool(situation, each.view), gpus_of(each.view)), []).append(each)
    ordered = sorted(by_kind.items(), key=lambda kind: (-len(kind[1]), kind[0]))
    found = [_group(*kind, members) for kind, members in ordered[:MOST_GROUPS]]
    others = [each for _, members in ordered[MOST_GROUPS:] for each in members]
    if others:
        found.append(_group("", OTHERS, others))
    return tuple(found)


def gpus_of(view: NodeView) -> str:
    """Return a node's GPUs in words, such as "8 x H100-80GB"."""
    return _in_words(tuple([gpu.model for gpu in view.node.status.gpus]))


@functools.lru_cache(maxsize=1024)  # most nodes have eight of a kind
def _in_words(of: tuple[str, ...]) -> str:
    models = Counter(of)
    return ", ".join(f"{count} x {model}" for model, count in sorted(models.items())) or "no GPUs"


def _pool(situation: Situation, view: NodeView) -> str:
    bounds = situation.request.bounds
    pool = None if bounds is None else bounds.terms.rules.pool_of(view.labels)
    return "" if pool is None else pool.name


def _group(pool: str, gpus: str, members: Sequence[Judged]) -> Group:
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for each in members:
        if each.fits:
            continue
        why = each.verdict
        reason = (why.code.value, why.reason) if isinstance(why, Refused) else NOT_CONSIDERED
        counts[reason] += 1
        name = each.view.name
        examples[reason] = min(name, examples.get(reason, name))
    reasons = [
        Reason(code, text.removeprefix("vGPU: "), count, examples[code, text])
        for (code, text), count in counts.most_common(MOST_REASONS)
    ]
    left = sum(counts.values()) - sum(each.nodes for each in reasons)
    if left:
        reasons.append(Reason(OTHERS, "for other reasons", left, ""))
    return Group(pool, gpus, len(members), sum(each.fits for each in members), tuple(reasons))


def missing(
    situation: Situation, judged: Sequence[Judged], wanted: Asked, census: Census
) -> Missing:
    """Return what is missing: the first of the reasons in the order in which they may be helped."""
    codes = {
        each.verdict.code for each in judged if each.candidate and isinstance(each.verdict, Refused)
    }
    needed = wanted.slices
    if any(each.fits for each in judged):
        return Missing(Lack.WAITING if situation.told & WAITS else Lack.NOTHING, needed)
    if Code.NO_ROOM in codes:
        free, most_free = census.free(situation.request.wanted)
        return Missing(
            Lack.CAPACITY if free < needed else Lack.FRAGMENTATION, needed, free, most_free
        )
    if not all(each.profiles for each in wanted.amounts):
        return Missing(Lack.OFFER)
    return Missing(_lack(codes), needed)


def _lack(codes: set[Code]) -> Lack:
    if Code.OVER_CAP in codes:
        return Lack.CAP
    if Code.HEADROOM in codes:
        return Lack.HEADROOM
    if codes & RULES:
        return Lack.RULES
    return Lack.NODES
