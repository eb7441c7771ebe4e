"""What the API server's audit log tells of writes is among the deeds, word for word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harvester.writes import AGENTS_ACCOUNT, Writes
from tests.fakes.pcidevices.log import AGENT, BLOCKED, WRITE, Log, traps

NOW = 1_800_000_010.0
"""What the wall's clock says, 2027-01-15T08:00:10Z, when the log's says 100."""


def event(
    second: int = 4,
    *,
    user: str = AGENTS_ACCOUNT,
    code: int = 200,
    verb: str = "patch",
    resource: str = "vgpudevices",
    **request: Any,
) -> str:
    about = {
        "resource": resource,
        "name": "node-1-000010000",
        "apiGroup": "devices.harvesterhci.io",
        "apiVersion": "v1beta1",
    }
    found = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Request",
        "stage": "ResponseComplete",
        "verb": verb,
        "user": {"username": user, "groups": ["system:authenticated"]},
        "objectRef": about,
        "responseStatus": {"metadata": {}, "code": code},
        "requestReceivedTimestamp": f"2027-01-15T08:00:{second:02}.000000Z",
        "stageTimestamp": "2027-01-15T08:00:09.000000Z",
    }
    if request:
        found["requestObject"] = request
    return json.dumps(found, separators=(",", ":")) + "\n"


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


@pytest.fixture
def log(audit: Path) -> Log:
    log = Log(lambda: 100.0)
    log.include(Writes(audit, lambda: NOW))
    return log


def test_a_write_is_dated_by_when_it_was_asked_for_and_told_word_for_word(
    audit: Path, log: Log
) -> None:
    assert not log.of(WRITE)  # nor is there a log yet
    audit.write_text(event(second=4, spec={"enabled": False}))

    (entry,) = log.of(WRITE)
    assert (entry.at, entry.actor) == (94.0, AGENT)
    assert entry.subject == "vgpudevices node-1-000010000"
    assert entry.detail == 'patch {"spec":{"enabled":false}}'
    assert log.of(WRITE) == [entry]


def test_what_was_only_read_or_refused_or_is_not_harvesters_was_not_written(
    audit: Path, log: Log
) -> None:
    elsewhere = event().replace("devices.harvesterhci.io", "tangram.dev")
    audit.write_text(event(verb="watch") + event(code=403) + event(code=409) + elsewhere)

    assert not log.of(WRITE)


def test_a_line_that_is_being_written_is_read_when_it_is_whole(audit: Path, log: Log) -> None:
    line = event()
    audit.write_text(event() + line[:70])
    assert len(log.of(WRITE)) == 1
    with audit.open("a") as file:
        file.write(line[70:])

    assert len(log.of(WRITE)) == 2


@pytest.mark.parametrize(
    ("resource", "request_", "trap"),
    [
        ("vgpudevices", {"spec": {"enabled": False}}, "wrote over whatever was there"),
        (
            "migconfigurations",
            {
                "metadata": {"resourceVersion": "7"},
                "spec": {"profileSpec": [{"id": 19, "requested": 2}]},
            },
            "asked for GPU instances",
        ),
        (
            "sriovgpudevices",
            {"metadata": {"resourceVersion": "7"}, "spec": {"enabled": False}},
            "disabled virtual functions",
        ),
    ],
)
def test_an_agents_step_into_a_trap_is_found_and_nobody_elses(
    audit: Path, log: Log, resource: str, request_: dict[str, Any], trap: str
) -> None:
    audit.write_text(event(user="admin", resource=resource, **request_))
    assert not list(traps(log.entries))
    with audit.open("a") as file:
        file.write(event(resource=resource, **request_))

    (found,) = traps(log.entries)
    assert trap in found


def test_who_asked_for_functions_is_known_though_the_log_is_read_after_they_were_refused(
    audit: Path, log: Log
) -> None:
    log.add("node-1", BLOCKED, "node-1 0000:10:00.0")
    asked: dict[str, Any] = {"metadata": {"resourceVersion": "7"}, "spec": {"enabled": True}}
    audit.write_text(event(resource="sriovgpudevices", **asked))

    (found,) = traps(log.entries)
    assert "an agent had it open" in found
