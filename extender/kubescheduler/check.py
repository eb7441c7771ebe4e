"""Says what is wrong with a configuration, field by field, and what to write instead."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

from extender.kubescheduler import entry
from extender.kubescheduler.compose import ALL_NODES, Wanted
from extender.kubescheduler.configuration import (
    API_VERSION,
    DEFAULT_SCHEDULER,
    KIND,
    Configuration,
    Extender,
    Profile,
)
from extender.kubescheduler.finding import Finding
from nodeagent.api import resources

SCHEDULER_LEASE = "kube-scheduler"
"""The Lease by which schedulers elect their leader unless told otherwise."""

IGNORING = (("ignoredResources", "nvidia.com/*"), ("ignoredResourceGroups", "nvidia.com"))
"""Arguments of the plugin NodeResourcesFit, and what in them concerns our resources."""


def check(found: Configuration, wanted: Wanted) -> Iterator[Finding]:
    """Yield what in *found* does not do for the extender that *wanted* describes.

    ``wanted.resources`` may be empty where nobody knows them; they are then not compared.
    """
    yield from _identity(found)
    extenders = found.extenders or ()
    index = _ours(extenders, wanted)
    if index is None:
        yield Finding(
            "extenders", "no entry calls Tangram", f"add the one for {wanted.url} printed here"
        )
        return
    yield from _sampling(found)
    yield from _election(found)
    yield from _ignored_by_plugin(found)
    path, ours = f"extenders[{index}]", extenders[index]
    yield from entry.faults(path, ours, wanted)
    for number, other in enumerate(extenders):
        if number != index:
            yield from entry.rivalry(f"extenders[{number}]", other, path, ours)


def _ours(extenders: tuple[Extender, ...], wanted: Wanted) -> int | None:
    """Return which entry is Tangram's: by its address, by its resources, or for want of others."""
    for index, each in enumerate(extenders):
        if each.url_prefix.rstrip("/") == wanted.url.rstrip("/"):
            return index
    for index, each in enumerate(extenders):
        if any(resources.ours(managed.name) for managed in each.managed_resources or ()):
            return index
    return 0 if len(extenders) == 1 else None


def _identity(found: Configuration) -> Iterator[Finding]:
    if found.kind != KIND:
        yield Finding("kind", f"is {found.kind or 'missing'}", f"write {KIND}")
    if found.api_version != API_VERSION:
        yield Finding("apiVersion", f"is {found.api_version or 'missing'}", f"write {API_VERSION}")


def _profiles(found: Configuration) -> Iterator[tuple[str, Profile]]:
    for index, each in enumerate(found.profiles or ()):
        yield f"profiles[{index}]", each


def _sampling(found: Configuration) -> Iterator[Finding]:
    means = "from 100 nodes on it samples, and a VM may wait though a node has room"
    remedy = f"write {ALL_NODES}"
    general = found.percentage_of_nodes_to_score
    own = {path: each.percentage_of_nodes_to_score for path, each in _profiles(found)}
    if general != ALL_NODES and (not own or None in own.values()):
        yield Finding(
            "percentageOfNodesToScore", f"is {general or 0}: {means}", remedy, fatal=False
        )
    for path, share in own.items():
        if share not in (None, ALL_NODES):
            yield Finding(
                f"{path}.percentageOfNodesToScore", f"is {share}: {means}", remedy, fatal=False
            )


def _election(found: Configuration) -> Iterator[Finding]:
    names = {each.scheduler_name or DEFAULT_SCHEDULER for _, each in _profiles(found)}
    if not names or DEFAULT_SCHEDULER in names:
        return
    election = found.leader_election
    if election is not None and election.leader_elect is False:
        return
    lease = (election.resource_name if election else "") or SCHEDULER_LEASE
    namespace = (election.resource_namespace if election else "") or "kube-system"
    if (namespace, lease) == ("kube-system", SCHEDULER_LEASE):
        yield Finding(
            "leaderElection.resourceName",
            "is the default scheduler's Lease: only one of the two will ever work",
            "write another name, or a namespace of its own",
        )


def _ignored_by_plugin(found: Configuration) -> Iterator[Finding]:
    for path, profile in _profiles(found):
        for index, each in enumerate(profile.plugin_config or ()):
            if each.name != "NodeResourcesFit":
                continue
            field = f"{path}.pluginConfig[{index}].args"
            for key, pattern in IGNORING:
                listed = (each.args or {}).get(key) or ()
                if any(fnmatch.fnmatchcase(str(name), pattern) for name in listed):
                    yield Finding(
                        f"{field}.{key}",
                        "names ours: the scheduler does not count the slots it gives away",
                        "take them out",
                        fatal=False,
                    )
