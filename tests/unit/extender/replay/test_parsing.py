"""Hostile and mistaken records: each is refused, by the name of the field that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from extender.policy import PolicyName
from extender.replay.parsing import MOST_FAULTS, MalformedRecord, policy_of, record
from extender.replay.play import play
from extender.replay.recorded import Departure, Outcome, Place, RecordedPolicy, Resident, Stranger
from tests.replayed import HEAD, node, recorded, stayed, vm, with_stays

FIRST_FORM = Path(__file__).parent / "record-1.json"
GOOD = with_stays(
    recorded(
        vm(1.0, "x", "1g.10gb"),
        vm(2.0, "y", "7g.80gb"),
        residents=(Resident("old", "n", "old", (Place("a", "a/0", "1g.10gb", 0),)),),
    ),
    stayed("x", 1.0, 9.0),
)


def told(content: bytes) -> str:
    with pytest.raises(MalformedRecord) as caught:
        record(content, "f.json")
    return str(caught.value)


def changed(**fields: Any) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(GOOD, **fields))


def raw(change: dict[str, Any]) -> bytes:
    return json.dumps(json.loads(msgspec.json.encode(GOOD)) | change).encode()


def test_what_is_written_is_read_again() -> None:
    assert record(msgspec.json.encode(GOOD), "f.json") == GOOD


def test_its_form_comes_first_and_another_one_is_told() -> None:
    assert msgspec.json.encode(GOOD).startswith(b'{"recorded":1,')
    assert "$.recorded: is of form 2; this program reads 1" in told(b'{"recorded": 2}')
    assert "`recorded`" in told(b"{}")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[1]",
        b'"x"',
        b"{",
        b"\xff\xfe",
        b'{"recorded": 1',
        b'{"recorded": true}',
        b'{"recorded": 1, "begins": "' + b"x" * 1000 + b'"}',
        b'{"recorded":1,"models":' + b"[" * 100_000,
    ],
)
def test_what_is_no_record_is_refused(content: bytes) -> None:
    assert told(content).startswith("f.json: ")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"begins": "yesterday"}, "$.begins"),
        ({"begins": "2026-01-01T00:00:00"}, "$.begins"),
        ({"surprise": 1}, "surprise"),
        ({"gaps": -1}, "$.gaps"),
        ({"nodes": []}, "$.nodes: has no node"),
        ({"arrivals": [{"at": -1}]}, "$.arrivals[0].at"),
        ({"arrivals": [{"at": 1e300}]}, "$.arrivals[0].at"),
        ({"arrivals": [{"at": "now"}]}, "$.arrivals[0].at"),
        ({"arrivals": [{"at": 1, "uid": ""}]}, "$.arrivals[0].uid"),
        (
            {"arrivals": [{"at": 1, "uid": "x", "namespace": "n", "name": "x", "wanted": []}]},
            "$.arrivals[0].wanted",
        ),
        (
            {
                "arrivals": [
                    {"at": 1, "uid": "x", "namespace": "n", "name": "x", "wanted": ["r"] * 65}
                ]
            },
            "$.arrivals[0].wanted",
        ),
        ({"departures": [{"at": 1, "uid": "nobody"}]}, "$.departures[0].uid"),
        ({"nodes": [{"name": "a b", "gpus": []}]}, "$.nodes[0].name"),
        ({"nodes": [{"name": "a\n", "gpus": []}]}, "$.nodes[0].name"),
        ({"nodes": [{"name": "a\x00", "gpus": []}]}, "$.nodes[0].name"),
        ({"nodes": [{"name": "", "gpus": []}]}, "$.nodes[0].name"),
        ({"nodes": [{"name": f"n{at}", "gpus": []} for at in range(20_001)]}, "$.nodes"),
        ({"arrivals": [{"at": 1, "uid": "x\x1b[2J"}]}, "$.arrivals[0].uid"),
        ({"arrivals": [{"at": 1, "uid": "x\n"}]}, "$.arrivals[0].uid"),
        (
            {
                "models": {
                    "Tiny": {"geometry": {"memorySlices": 8, "computeSlices": 7, "profiles": []}}
                }
            },
            "$.models['Tiny'].geometry.profiles: has no profile",
        ),
    ],
)
def test_a_field_that_is_wrong_is_named(change: dict[str, Any], says: str) -> None:
    assert says in told(raw(change))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (changed(nodes=(node("a"), node("a", gpus=0))), "$.nodes[1].name: a is another node's"),
        (
            changed(nodes=(node("a"), msgspec.structs.replace(node("a"), name="b"))),
            "$.nodes[1].gpus[0].uuid: a/0 is another GPU's",
        ),
        (changed(nodes=(node("a", since=5.0, until=5.0),)), "$.nodes[0].until"),
        (
            changed(
                nodes=(
                    msgspec.structs.replace(
                        node("a"),
                        gpus=(msgspec.structs.replace(node("a").gpus[0], model="Voodoo2"),),
                    ),
                )
            ),
            "$.nodes[0].gpus[0].model: Voodoo2 is neither",
        ),
        (
            changed(
                nodes=(
                    msgspec.structs.replace(
                        node("a"),
                        gpus=(
                            msgspec.structs.replace(node("a").gpus[0], occupied=(Stranger(6, 4),)),
                        ),
                    ),
                )
            ),
            "$.nodes[0].gpus[0].occupied[0]: H100-80GB has 8 slices",
        ),
        (
            changed(residents=(Resident("o", "n", "o", (Place("a", "a/0", "3g.40gb", 1),)),)),
            "$.residents[0].places[0]: H100-80GB has no 3g.40gb at slice 1",
        ),
        (
            changed(residents=(Resident("o", "n", "o", (Place("a", "b/0", "3g.40gb", 0),)),)),
            "$.residents[0].places[0].gpu: a has no GPU b/0",
        ),
        (
            changed(
                residents=(
                    Resident(
                        "o",
                        "n",
                        "o",
                        (Place("a", "a/0", "3g.40gb", 0), Place("a", "a/0", "1g.10gb", 3)),
                    ),
                )
            ),
            "$.residents[0].places[1]: overlaps",
        ),
        (changed(arrivals=(vm(2.0, "x", "1g.10gb"), vm(1.0, "y", "1g.10gb"))), "$.arrivals[1].at"),
        (changed(arrivals=(vm(1.0, "x", "1g.10gb"),) * 2), "$.arrivals[1].uid: x has come already"),
        (changed(departures=(Departure(0.5, "x"),)), "$.departures[0].at: 0.5 is before x came"),
        (
            changed(departures=(Departure(9.0, "x"), Departure(10.0, "x"))),
            "$.departures[1].uid: x has left already",
        ),
        (
            changed(outcomes=(Outcome(1.0, "x"),)),
            "$.outcomes[0]: has either places or why it was refused",
        ),
        (
            changed(outcomes=(Outcome(1.0, "x", (Place("a", "a/0", "1g.10gb", 1),), "no-room"),)),
            "$.outcomes[0]: has either places or why it was refused",
        ),
        (
            changed(outcomes=(Outcome(1.0, "x", (Place("a", "b/0", "1g.10gb", 1),)),)),
            "$.outcomes[0].places[0].gpu: a has no GPU b/0",
        ),
        (
            changed(outcomes=(Outcome(1.0, "x", (Place("b", "a/0", "1g.10gb", 1),)),)),
            "$.outcomes[0].places[0].gpu: b has no GPU a/0",
        ),
        (
            changed(outcomes=(Outcome(1.0, "x", (Place("a", "a/0", "3g.40gb", 1),)),)),
            "$.outcomes[0].places[0]: H100-80GB has no 3g.40gb at slice 1",
        ),
        (
            changed(outcomes=(Outcome(1.0, "x", (Place("a", "a/0", "9g.90gb", 0),)),)),
            "$.outcomes[0].places[0]: H100-80GB has no 9g.90gb at slice 0",
        ),
        (
            changed(arrivals=(vm(1.0, "x", *(f"r{at}" for at in range(17))), vm(2.0, "y", "r"))),
            "$.arrivals[0].wanted: can be placed one after the other in too many ways",
        ),
    ],
)
def test_what_cannot_be_is_told_by_its_field(content: bytes, says: str) -> None:
    assert says in told(content)


def test_of_many_faults_some_are_told() -> None:
    lines = told(changed(departures=tuple(Departure(9.0, f"no-{n}") for n in range(999))))

    assert len(lines.splitlines()) == MOST_FAULTS + 1
    assert lines.endswith("and more: mend these first")


def test_the_policy_is_a_name_or_the_text_of_a_file_under_its_own_version() -> None:
    def of(document: str, version: str = "") -> Any:
        policy = RecordedPolicy(version, document)
        return policy_of(msgspec.structs.replace(GOOD, policy=policy), "f.json")

    assert of("mfi", "v7").version == "v7"
    assert of("mfi").policy.name is PolicyName.MFI
    assert of(HEAD + "value: best-fit").policy.name is PolicyName.BEST_FIT
    with pytest.raises(MalformedRecord, match=r"f\.json: \$\.policy\.document"):
        of("value: [")


def test_a_record_of_the_first_form_is_read_for_ever() -> None:
    """Every field is in it: what it is called, and what it means, does not change any more."""
    of = record(FIRST_FORM.read_bytes(), "record-1.json")

    assert record(msgspec.json.encode(of), "again") == of
    x, y, z = play(of, policy_of(of, "record-1.json")).fates
    assert (x.refused, x.ended_at) == ("no-room", None)
    assert {place.start for place in y.places} == {0, 1}
    assert z.asked_at is None


def test_a_pod_may_ask_for_as_many_as_any_cluster_may_let_it() -> None:
    many = record(changed(arrivals=(vm(1.0, "x", *["1g.10gb"] * 64), vm(2.0, "y", "r"))), "f.json")

    (fate, _) = play(many, policy_of(many, "f.json")).fates
    assert fate.placed_at is None
