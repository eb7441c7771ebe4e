from __future__ import annotations

import pytest

from nodeagent.api.gpunode import PodRef
from nodeagent.deviceplugin.checkpoint import Entry
from nodeagent.deviceplugin.holdings import Listed, claims, holders, is_slot, rivals
from nodeagent.kubelet import Holder
from tests.unit.deviceplugin.node import HALF, MIG, SMALL, slot

A, B = PodRef("default", "a", "uid-a"), PodRef("default", "b", "uid-b")


def entry(pod: PodRef, *devices: str, resource: str = SMALL) -> Entry:
    return Entry(pod.uid, resource, devices)


def listed(pod: PodRef, *devices: str, resource: str = SMALL) -> Listed:
    return Listed(pod.namespace, pod.name, resource, devices)


@pytest.mark.parametrize(
    ("resource", "device", "ours"),
    [
        (SMALL, slot(3), True),
        (SMALL, slot(12), True),
        (MIG, "mig-1g.10gb-0", True),
        (MIG, "mig-1g.20gb-0", False),
        (SMALL, slot(3, HALF), False),
        (SMALL, "NVIDIA_H100XM-1-10C-", False),
        (SMALL, "NVIDIA_H100XM-1-10C-x", False),
        (SMALL, "NVIDIA_H100XM-1-10C-\N{SUPERSCRIPT TWO}", False),
        (SMALL, "0000:41:00.4", False),
        (MIG, "MIG-8f3a7a9e-9f4b-4c39-9c5b-000000000001", False),
        (SMALL, "", False),
    ],
)
def test_a_slot_is_told_by_its_name(resource: str, device: str, ours: bool) -> None:
    assert is_slot(resource, device) is ours


def test_a_claim_is_in_either_account() -> None:
    assert claims([entry(A, slot(1))], [listed(B, slot(2))], [A, B]) == {
        slot(1): A.uid,
        slot(2): B.uid,
    }


def test_a_pod_that_has_ended_or_is_gone_claims_nothing() -> None:
    assert claims([entry(A, slot(1))], [listed(A, slot(1))], [B]) == {}


def test_a_successor_of_the_same_name_claims_nothing_of_what_its_predecessor_had() -> None:
    successor = PodRef(A.namespace, A.name, "uid-later")

    assert claims([entry(A, slot(1))], [], [successor]) == {}


def test_a_uid_is_surer_than_a_name() -> None:
    assert claims([entry(A, slot(1))], [listed(B, slot(1))], [A, B]) == {slot(1): A.uid}


def test_pods_of_one_name_in_two_namespaces_are_two_pods() -> None:
    elsewhere = PodRef("elsewhere", "a", "uid-elsewhere")

    assert claims([], [listed(elsewhere, slot(1))], [A, elsewhere]) == {slot(1): elsewhere.uid}


def test_devices_of_other_resources_are_nobodys_business() -> None:
    other = "vendor.example/nic"

    assert claims([entry(A, "nic-1", resource=other)], [], [A]) == {}
    assert holders([entry(A, "nic-1", resource=other)], [], [A]) == []
    assert rivals({other: ["nic-1"]}) == {}


def test_who_was_served_by_another_plugin_is_told_once_and_in_order() -> None:
    found = holders(
        [entry(B, "0000:41:00.5"), entry(A, "0000:41:00.4", slot(2))],
        [listed(A, "0000:41:00.4")],
        [A, B],
    )

    assert found == [Holder(SMALL, "0000:41:00.4", A), Holder(SMALL, "0000:41:00.5", B)]


def test_a_rival_shows_by_devices_that_are_no_slots() -> None:
    found = rivals({SMALL: [slot(0), slot(1)], MIG: ["mig-1g.10gb-0", "MIG-1" * 100]})

    assert list(found) == [MIG]
    assert "'MIG-1MIG-1" in found[MIG]
    assert len(found[MIG]) < 250
