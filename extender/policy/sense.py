"""Rules that are well formed and make no sense: who wrote them meant something else.

Looked at in what can be read of a document, whatever else is wrong with it: an entry with a fault
of its own is passed over, but it is there under its name, and what it names is looked for.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from extender.policy.costs import Costs
from extender.policy.rules import Avoid, Headroom, Pool, Tenant
from extender.policy.selectors import Selector
from extender.policy.strict import Problem
from extender.policy.windows import Window

T = TypeVar("T")


def nonsense(raw: object) -> Iterator[Problem]:
    """Yield what cannot have been meant in *raw*, a whole policy as YAML's or JSON's values."""
    pools, tenants = _readable(raw, "pools", Pool), _readable(raw, "tenants", Tenant)
    yield from _twice(raw, "pools")
    yield from _twice(raw, "tenants")
    yield from _selecting(raw, "pools", "nodes", {at: p.nodes for at, p in pools.items()})
    yield from _selecting(
        raw, "tenants", "namespaces", {at: tenant.namespaces for at, tenant in tenants.items()}
    )
    yield from _unknown(raw)
    by_name = {pool.name: pool for pool in pools.values()}
    for at, tenant in tenants.items():
        yield from _of_tenant(f"$.tenants[{at}]", tenant, by_name)
    yield from _of_headroom(_readable(raw, "headroom", Headroom), by_name)
    for at, avoided in _readable(raw, "avoid", Avoid).items():
        for where, text, remedy in avoided.nodes.faults():
            yield Problem(f"$.avoid[{at}].nodes{where}", text, remedy)
    moves = raw.get("moves") if isinstance(raw, dict) else None
    for at, window in _readable(moves, "windows", Window).items():
        for where, text, remedy in window.faults():
            yield Problem(f"$.moves.windows[{at}]{where}", text, remedy)
    yield from _of_costs(moves)


def _of_costs(moves: object) -> Iterator[Problem]:
    raw = moves.get("costs") if isinstance(moves, dict) else None
    try:
        costs = msgspec.convert(raw or {}, Costs)
    except msgspec.ValidationError:
        return  # what is wrong with it is told for its shape
    for where, text, remedy in costs.faults():
        yield Problem(f"$.moves.costs{where}", text, remedy)


def _entries(raw: object, field: str) -> list[Any]:
    """Return the entries of a list; none where there is none."""
    entries = raw.get(field) if isinstance(raw, dict) else None
    return entries if isinstance(entries, list) else []


def _readable(raw: object, field: str, shape: type[T]) -> Mapping[int, T]:
    """Return those entries of a list that are of a *shape*, by where they are."""
    found = {}
    for at, entry in enumerate(_entries(raw, field)):
        try:
            found[at] = msgspec.convert(entry, shape)
        except msgspec.ValidationError:
            continue  # what is wrong with it is told for its shape
    return found


def _names(raw: object, field: str) -> Iterator[tuple[str, str]]:
    """Yield the text at a *field*, such as ``releasedTo.tenants``, each with its path from there.

    Of a list, each entry's.
    """
    first, _, rest = field.partition(".")
    there = raw.get(first) if isinstance(raw, dict) else None
    if rest:
        yield from ((f".{first}{path}", name) for path, name in _names(there, rest))
        return
    for name in there if isinstance(there, list) else [there]:
        if isinstance(name, str) and name:
            yield f".{first}", name


def _defined(raw: object, field: str) -> list[str]:
    """Return the names that the entries of a list have."""
    return [name for entry in _entries(raw, field) for _, name in _names(entry, "name")]


REFERENCES = (
    ("tenants", "pools", "pool"),
    ("headroom", "pool", "pool"),
    ("headroom", "releasedTo.tenants", "tenant"),
    ("avoid", "tenants", "tenant"),
)
"""Where entries of a list name what is defined elsewhere: the list, the field, and what it is."""

MOST_NAMED = 10
"""Of the names that one that is not there could have been."""


def _unknown(raw: object) -> Iterator[Problem]:
    for within, field, what in REFERENCES:
        names = {*_defined(raw, f"{what}s")}
        known = sorted(names)
        for at, entry in enumerate(_entries(raw, within)):
            for path, name in _names(entry, field):
                if name not in names:
                    text = f"there is no {what} {name}"
                    yield Problem(f"$.{within}[{at}]{path}", text, _instead(name, what, known))


def _instead(name: str, what: str, known: list[str]) -> str:
    if close := difflib.get_close_matches(name, known, n=1):
        return f"did you mean {close[0]}?"
    if not known:
        return f"define the {what}"
    others = f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else ""
    return f"use one of {', '.join(known[:MOST_NAMED])}{others}"


def _twice(raw: object, field: str) -> Iterator[Problem]:
    seen = set()
    for at, entry in enumerate(_entries(raw, field)):
        for path, name in _names(entry, "name"):
            if name in seen:
                yield Problem(
                    f"$.{field}[{at}]{path}", f"{name} is there already", "rename one of them"
                )
            seen.add(name)


def _selecting(
    raw: object, field: str, what: str, selectors: Mapping[int, Selector]
) -> Iterator[Problem]:
    for at, selector in selectors.items():
        path = f"$.{field}[{at}].{what}"
        if selector.empty and at < len(_entries(raw, field)) - 1:
            text = "selects everything, so that those after it are never used"
            yield Problem(path, text, "put it last, or give it labels")
        for where, text, remedy in selector.faults():
            yield Problem(f"{path}{where}", text, remedy)


def _of_headroom(headroom: Mapping[int, Headroom], pools: Mapping[str, Pool]) -> Iterator[Problem]:
    kept: set[tuple[str | None, str]] = set()
    for at, room in headroom.items():
        path, pool = f"$.headroom[{at}]", pools.get(room.pool)
        if pool is not None and pool.profiles and room.profile not in pool.profiles:
            text = f"keeps {room.profile} free, which pool {pool.name} does not offer"
            yield Problem(f"{path}.profile", text, "use one of the pool's profiles")
        if (room.pool, room.profile) in kept:
            yield Problem(path, "the same pool and profile twice", "keep one of the two")
        kept.add((room.pool, room.profile))


def _of_tenant(path: str, tenant: Tenant, pools: Mapping[str, Pool]) -> Iterator[Problem]:
    for name in tenant.caps.profiles:
        if tenant.profiles and name not in tenant.profiles:
            text = f"caps {name}, which the tenant may not use at all"
            yield Problem(f"{path}.caps.profiles", text, "remove it, or add it to profiles")
    used = [pools.get(name) for name in tenant.pools]
    if not tenant.profiles or not used:
        return
    offered: set[str] = set()
    for pool in used:
        if pool is None or not pool.profiles:
            return  # what cannot be read, or restricts nothing, may offer any
        offered.update(pool.profiles)
    if offered.isdisjoint(tenant.profiles):
        text = "its pools offer none of its profiles, so that it can have nothing"
        yield Problem(path, text, "add a pool or a profile")
