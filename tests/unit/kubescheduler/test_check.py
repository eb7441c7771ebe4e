"""A configuration that Tangram prints is sound; whatever is changed in it is found, and named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from extender.kubescheduler.check import check
from extender.kubescheduler.compose import Files, Wanted, patch, second_scheduler
from extender.kubescheduler.configuration import MalformedConfiguration, read, seconds
from extender.kubescheduler.finding import Finding
from extender.server.description import HOOKS

SMALL = "nvidia.com/NVIDIA_H100XM-1-10C"
LARGE = "nvidia.com/NVIDIA_H100XM-7-80C"

WANTED = Wanted(
    url="https://tangram-extender.tangram-system.svc:8443",
    files=Files("/tls/ca.crt", "/tls/tls.crt", "/tls/tls.key"),
    http_timeout_seconds=30.0,
    verbs=tuple(hook.verb for hook in HOOKS),
    resources={SMALL: False, LARGE: False},
)

Change = Callable[[dict[str, Any]], object]


def findings(document: dict[str, Any], wanted: Wanted = WANTED) -> list[Finding]:
    return list(check(read(yaml.safe_dump(document).encode()), wanted))


def changed(change: Change) -> list[Finding]:
    document = copy.deepcopy(second_scheduler(WANTED, "tangram"))
    change(document)
    return findings(document)


def entry(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["extenders"][0]
    return found


def put(name: str, value: object) -> Change:
    return lambda document: entry(document).__setitem__(name, value)


def drop(name: str) -> Change:
    return lambda document: entry(document).pop(name)


def tls(name: str, value: object) -> Change:
    return lambda document: entry(document)["tlsConfig"].__setitem__(name, value)


def test_nothing_is_wrong_with_what_is_printed() -> None:
    assert findings(second_scheduler(WANTED, "tangram")) == []
    assert findings(patch(WANTED)) == []


def test_every_served_verb_is_asked_for_and_no_other() -> None:
    only_these = Wanted(
        url=WANTED.url, http_timeout_seconds=5, verbs=("filter", "bind"), resources={SMALL: False}
    )
    asked = entry(patch(only_these))

    assert {key for key in asked if key.endswith("Verb")} == {"filterVerb", "bindVerb"}
    assert {f"{hook.verb}Verb" for hook in HOOKS} <= entry(patch(WANTED)).keys()


FATAL: list[tuple[str, Change]] = [
    ("kind", lambda d: d.update(kind="Policy")),
    ("apiVersion", lambda d: d.update(apiVersion="kubescheduler.config.k8s.io/v1beta3")),
    ("extenders", lambda d: d.update(extenders=[])),
    ("leaderElection.resourceName", lambda d: d.pop("leaderElection")),
    ("extenders[0].filterVerb", drop("filterVerb")),
    ("extenders[0].prioritizeVerb", put("prioritizeVerb", "priorities")),
    ("extenders[0].bindVerb", drop("bindVerb")),
    ("extenders[0].preemptVerb", drop("preemptVerb")),
    ("extenders[0].weight", drop("weight")),
    ("extenders[0].httpTimeout", drop("httpTimeout")),
    ("extenders[0].httpTimeout", put("httpTimeout", "10s")),
    ("extenders[0].httpTimeout", put("httpTimeout", "soon")),
    ("extenders[0].nodeCacheCapable", drop("nodeCacheCapable")),
    ("extenders[0].ignorable", put("ignorable", True)),
    ("extenders[0].tlsConfig", drop("tlsConfig")),
    ("extenders[0].tlsConfig.insecure", tls("insecure", True)),
    ("extenders[0].tlsConfig.caFile", tls("caFile", "")),
    ("extenders[0].tlsConfig.certFile", tls("certFile", "")),
    ("extenders[0].tlsConfig.keyFile", tls("keyFile", "")),
    ("extenders[0].managedResources", drop("managedResources")),
    ("extenders[0].managedResources", lambda d: entry(d)["managedResources"].pop()),
    (
        "extenders[0].managedResources[2].name",
        lambda d: entry(d)["managedResources"].append({"name": "nvidia.com/gpu"}),
    ),
    (
        "extenders[0].managedResources[2].name",
        lambda d: entry(d)["managedResources"].append({"name": SMALL}),
    ),
    (
        "extenders[1].bindVerb",
        lambda d: d["extenders"].append({"urlPrefix": "http://other", "bindVerb": "bind"}),
    ),
    (
        "extenders[1].managedResources[0].name",
        lambda d: d["extenders"].append({"managedResources": [{"name": LARGE}]}),
    ),
]

LESSER: list[tuple[str, Change]] = [
    ("percentageOfNodesToScore", lambda d: d.pop("percentageOfNodesToScore")),
    (
        "profiles[0].percentageOfNodesToScore",
        lambda d: d["profiles"][0].update(percentageOfNodesToScore=30),
    ),
    ("extenders[0].weight", put("weight", 1)),
    ("extenders[0].httpTimeout", put("httpTimeout", "1m")),
    (
        "extenders[0].managedResources[2].name",
        lambda d: entry(d)["managedResources"].append({"name": "nvidia.com/mig-1g.10gb"}),
    ),
    (
        "extenders[0].managedResources[0].ignoredByScheduler",
        lambda d: entry(d)["managedResources"][0].update(ignoredByScheduler=True),
    ),
    (
        "profiles[0].pluginConfig[0].args.ignoredResourceGroups",
        lambda d: d["profiles"][0].update(
            pluginConfig=[
                {"name": "NodeResourcesFit", "args": {"ignoredResourceGroups": ["nvidia.com"]}}
            ]
        ),
    ),
    ("extenders[0].urlPrefix", put("urlPrefix", "https://elsewhere.svc:8443")),
]


@pytest.mark.parametrize(("field", "change"), FATAL)
def test_what_keeps_vms_from_their_place_is_an_error(field: str, change: Change) -> None:
    (finding,) = changed(change)

    assert finding.field == field
    assert finding.fatal
    assert finding.remedy


@pytest.mark.parametrize(("field", "change"), LESSER)
def test_what_makes_it_worse_is_a_warning(field: str, change: Change) -> None:
    (finding,) = changed(change)

    assert finding.field == field
    assert not finding.fatal
    assert finding.remedy


def test_plain_http_is_for_loopback_only() -> None:
    fields = [finding.field for finding in changed(put("urlPrefix", "http://10.0.0.1:8443"))]
    assert fields == ["extenders[0].urlPrefix"] * 2

    local = Wanted(
        url="http://127.0.0.1:8443",
        http_timeout_seconds=30,
        verbs=WANTED.verbs,
        resources={SMALL: False},
    )
    assert findings(patch(local), local) == []


def test_an_address_needs_the_name_that_the_certificate_says() -> None:
    def by_address(document: dict[str, Any]) -> None:
        entry(document)["urlPrefix"] = "https://10.96.0.7:8443"

    fields = [finding.field for finding in changed(by_address)]

    assert fields == ["extenders[0].urlPrefix", "extenders[0].tlsConfig.serverName"]


def test_a_device_that_is_made_for_its_pod_must_be_ignored_by_the_scheduler() -> None:
    wanted = Wanted(
        url=WANTED.url,
        files=WANTED.files,
        http_timeout_seconds=30,
        verbs=WANTED.verbs,
        resources={SMALL: True, LARGE: False},
    )
    (finding,) = findings(second_scheduler(WANTED, "tangram"), wanted)

    assert finding.field == "extenders[0].managedResources[0].ignoredByScheduler"
    assert finding.fatal
    assert finding.remedy == "write true"


def test_ours_is_found_among_others_by_its_address_or_by_its_resources() -> None:
    document = second_scheduler(WANTED, "tangram")
    document["extenders"].insert(0, {"urlPrefix": "http://other", "filterVerb": "f"})
    assert findings(document) == []

    document["extenders"][1]["urlPrefix"] = "https://renamed:8443"
    assert [finding.field for finding in findings(document)] == ["extenders[1].urlPrefix"]


def test_resources_nobody_knows_are_not_compared() -> None:
    unknown = Wanted(
        url=WANTED.url,
        files=WANTED.files,
        http_timeout_seconds=30,
        verbs=WANTED.verbs,
        resources={},
    )

    assert findings(second_scheduler(WANTED, "tangram"), unknown) == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"[]", "not a document"),
        (b"extenders: [{ignoreable: true}]", "ignoreable"),
        (b"extenders: [{weight: heavy}]", r"extenders\[0\].weight"),
        (b"extenders: {", "flow node"),
        (b"\xff", "UTF-8"),
    ],
)
def test_what_the_scheduler_would_not_read_is_refused_with_its_field(
    text: bytes, named: str
) -> None:
    with pytest.raises(MalformedConfiguration, match=named):
        read(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30s", 30.0), ("1m30s", 90.0), ("1.5h", 5400.0), ("500ms", 0.5), ("0", 0.0), ("30", None)],
)
def test_durations_are_gos(text: str, expected: float | None) -> None:
    assert seconds(text) == expected
