"""What is wrong with Tangram's entry among a scheduler's extenders."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from extender.kubescheduler.compose import Wanted
from extender.kubescheduler.configuration import Extender, duration, seconds
from extender.kubescheduler.finding import Finding
from nodeagent.api import resources

LEAST_WEIGHT = 15
"""Below, the in-tree scores (up to 1,400) may outweigh the winner's 10."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def faults(path: str, ours: Extender, wanted: Wanted) -> Iterator[Finding]:
    """Yield what in the entry at *path* does not do for the extender that *wanted* describes."""
    yield from _verbs(path, ours, wanted)
    yield from _transport(path, ours, wanted)
    yield from _behaviour(path, ours, wanted)
    yield from _managed(path, ours, wanted)


def _verbs(path: str, ours: Extender, wanted: Wanted) -> Iterator[Finding]:
    missing = {
        "filter": "nodes without room are tried",
        "prioritize": "the scheduler places by its own scores",
        "bind": "pods are bound without a GPU instance",
        "preempt": "victims are evicted where no placement comes free",
    }
    given = {
        "filter": ours.filter_verb,
        "prioritize": ours.prioritize_verb,
        "preempt": ours.preempt_verb,
        "bind": ours.bind_verb,
    }
    for verb, written in given.items():
        field = f"{path}.{verb}Verb"
        served = wanted.verbs and verb in wanted.verbs
        if served and not written:
            yield Finding(field, f"is missing: {missing[verb]}", f"write {verb}")
        elif served and written != verb:
            yield Finding(field, f"is {written}, which is not served", f"write {verb}")
        elif written and not served:
            yield Finding(field, f"{verb} is not served", "leave it out")


def _transport(path: str, ours: Extender, wanted: Wanted) -> Iterator[Finding]:
    url = urlsplit(ours.url_prefix)
    if url.scheme not in ("http", "https") or not url.hostname:
        yield Finding(f"{path}.urlPrefix", "is no http or https address", f"write {wanted.url}")
        return
    if ours.url_prefix.rstrip("/") != wanted.url.rstrip("/"):
        yield Finding(
            f"{path}.urlPrefix",
            f"is {ours.url_prefix}, not {wanted.url}",
            "correct it, or say --url",
            fatal=False,
        )
    if url.scheme == "http":
        if url.hostname not in LOOPBACK:
            yield Finding(
                f"{path}.urlPrefix",
                "is plain HTTP, which the extender does not serve beyond loopback",
                "write https, and tlsConfig",
            )
        return
    yield from _tls(path, ours, url.hostname)


def _tls(path: str, ours: Extender, host: str) -> Iterator[Finding]:
    tls = ours.tls_config
    field = f"{path}.tlsConfig"
    if tls is None:
        yield Finding(
            field,
            "is missing: the extender lets nobody in without a client certificate",
            "give caFile, certFile and keyFile",
        )
        return
    if tls.insecure:
        yield Finding(
            f"{field}.insecure",
            "is true: whoever answers at that address decides where pods go",
            "leave it out, and give caFile",
        )
    elif not (tls.ca_file or tls.ca_data):
        means = (
            "and enableHTTPS then means that no certificate is verified"
            if ours.enable_https
            else "and the extender's CA is hardly among the system's"
        )
        yield Finding(f"{field}.caFile", f"is missing, {means}", "give caFile or caData")
    for name, there in (
        ("certFile", tls.cert_file or tls.cert_data),
        ("keyFile", tls.key_file or tls.key_data),
    ):
        if not there:
            yield Finding(
                f"{field}.{name}",
                "is missing: the extender lets nobody in without a client certificate",
                f"give {name} or {name.removesuffix('File')}Data",
            )
    if _is_address(host) and not tls.server_name:
        yield Finding(
            f"{field}.serverName",
            f"is missing, and certificates rarely name an address such as {host}",
            "write the name in the extender's certificate",
            fatal=False,
        )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _behaviour(path: str, ours: Extender, wanted: Wanted) -> Iterator[Finding]:
    if ours.prioritize_verb and ours.weight < 1:
        yield Finding(
            f"{path}.weight",
            f"is {ours.weight}: kube-scheduler does not start",
            f"write {wanted.weight}",
        )
    elif ours.prioritize_verb and ours.weight < LEAST_WEIGHT:
        yield Finding(
            f"{path}.weight",
            f"is {ours.weight}: the scheduler's own scores outweigh the placement's",
            f"write {wanted.weight}",
            fatal=False,
        )
    yield from _timeout(f"{path}.httpTimeout", ours.http_timeout, wanted.http_timeout_seconds)
    if not ours.node_cache_capable:
        yield Finding(
            f"{path}.nodeCacheCapable",
            "is false: whole nodes are sent, some 30 kB each, and every node scores as if idle",
            "write true",
        )
    if ours.ignorable:
        yield Finding(
            f"{path}.ignorable",
            "is true: while the extender is away, pods are bound without a GPU instance",
            "leave it out",
        )


def _timeout(field: str, written: str | None, wanted: float) -> Iterator[Finding]:
    remedy = f"write {duration(wanted)}, the extender's --http-timeout"
    given = seconds(written) if written is not None else 0.0
    if given is None:
        yield Finding(field, f"{written} is no duration", remedy)
    elif given == 0.0:
        if wanted != 5.0:
            yield Finding(field, "is missing, which means 5 s", remedy)
    elif given < wanted:
        yield Finding(
            field, f"is {written}: binds that wait for their GPU instance are given up", remedy
        )
    elif given > wanted:
        yield Finding(
            field,
            f"is {written}: the extender answers within {duration(wanted)} all the same",
            f"{remedy}, or raise that",
            fatal=False,
        )


def _managed(path: str, ours: Extender, wanted: Wanted) -> Iterator[Finding]:
    field = f"{path}.managedResources"
    listed = ours.managed_resources or ()
    if not listed:
        yield Finding(
            field,
            "is empty: every pod of the cluster waits for the extender, and is bound by it",
            "list the resources printed here",
        )
        return
    names = [each.name for each in listed]
    for index, each in enumerate(listed):
        at = f"{field}[{index}]"
        if each.name in names[:index]:
            yield Finding(f"{at}.name", f"{each.name} is listed twice", "take one out")
        elif not resources.ours(each.name):
            yield Finding(
                f"{at}.name",
                f"{each.name} is nothing that Tangram serves: its pods would wait for ever",
                "take it out",
            )
        elif wanted.resources and each.name not in wanted.resources:
            yield Finding(
                f"{at}.name", f"no GPU here offers {each.name}", "take it out", fatal=False
            )
        else:
            yield from _counted(at, each.name, bool(each.ignored_by_scheduler), wanted)
    missing = [name for name in wanted.resources if name not in names]
    if missing:
        yield Finding(
            field,
            f"lacks {', '.join(missing)}: their pods are bound without a GPU instance",
            "list them",
        )


def _counted(at: str, name: str, ignored: bool, wanted: Wanted) -> Iterator[Finding]:
    expected = wanted.resources.get(name, False)
    if ignored == expected:
        return
    problem = (
        "is true: nodes without GPUs are tried, too, and nobody counts what is given away"
        if ignored
        else "is false: a device that is only made for its pod is waited for in vain"
    )
    yield Finding(
        f"{at}.ignoredByScheduler", problem, f"write {str(expected).lower()}", fatal=not ignored
    )


def rivalry(at: str, other: Extender, path: str, ours: Extender) -> Iterator[Finding]:
    """Yield where *other*, the entry at *at*, wants what is ours."""
    if other.bind_verb and ours.bind_verb:
        yield Finding(
            f"{at}.bindVerb",
            f"kube-scheduler starts with one only, and {path} has it",
            "run a second scheduler for Tangram",
        )
    names = {each.name for each in ours.managed_resources or ()}
    for index, each in enumerate(other.managed_resources or ()):
        if each.name in names:
            yield Finding(
                f"{at}.managedResources[{index}].name",
                f"{each.name} is managed by {path}, too: kube-scheduler does not start",
                "take it out of one",
            )
