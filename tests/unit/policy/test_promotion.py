"""Policies change places in a ConfigMap: in one write, once, and there is a way back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.cli import policy_map
from extender.cli.policy_map import ChangedMeanwhile
from extender.cli.promotion import lacks
from extender.policy.promotion import CannotSwap, kept, promoted, rolled_back
from extender.shadow import Evidence, Standing, State
from extender.shadow.document import Agreement
from extender.simulation.paired import Estimate
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import CONFIG_MAPS, Invalid, NotFound

texts = st.text(min_size=1, max_size=20)


def test_the_two_change_places_and_the_former_is_kept() -> None:
    before = {"policy.yaml": "old", "shadow.yaml": "new", "other": "x"}

    assert promoted(before) == {
        "policy.yaml": "new",
        "shadow.yaml": "old",
        "previous.yaml": "old",
        "other": "x",
    }


@given(texts, texts)
def test_who_was_in_force_is_so_again_after_a_rollback(old: str, new: str) -> None:
    before = {"policy.yaml": old, "shadow.yaml": new}
    if old == new:
        with pytest.raises(CannotSwap):
            promoted(before)
        return

    assert rolled_back(promoted(before)) == before


@pytest.mark.parametrize(
    "before", [{}, {"policy.yaml": "old"}, {"shadow.yaml": "new"}], ids=["none", "live", "shadow"]
)
def test_without_both_nothing_is_promoted(before: Mapping[str, str]) -> None:
    with pytest.raises(CannotSwap):
        promoted(before)


def test_a_rollback_is_made_once() -> None:
    once = rolled_back({"policy.yaml": "new", "previous.yaml": "old"})
    assert once == {"policy.yaml": "old", "shadow.yaml": "new"}
    with pytest.raises(CannotSwap, match="nothing was promoted"):
        rolled_back(once)


def test_who_promotes_again_for_want_of_an_answer_does_not_undo_it() -> None:
    once = promoted({"policy.yaml": "old", "shadow.yaml": "new"})

    with pytest.raises(CannotSwap, match=r"promoted already.*rollback"):
        promoted(once)


def test_a_candidate_that_came_after_the_promotion_goes_on_when_that_is_rolled_back() -> None:
    once = promoted({"policy.yaml": "old", "shadow.yaml": "new"})

    assert rolled_back({**once, "shadow.yaml": "newer"}) == {
        "policy.yaml": "old",
        "shadow.yaml": "newer",
        kept("new"): "new",
    }


def test_what_was_in_force_before_two_promotions_is_kept() -> None:
    once = promoted({"policy.yaml": "old", "shadow.yaml": "new"})

    assert promoted({**once, "shadow.yaml": "newer"}) == {
        "policy.yaml": "newer",
        "shadow.yaml": "new",
        "previous.yaml": "new",
        kept("old"): "old",
    }


@given(st.dictionaries(st.sampled_from(["policy.yaml", "shadow.yaml", "previous.yaml"]), texts))
def test_no_policy_is_ever_lost(before: Mapping[str, str]) -> None:
    for change in (promoted, rolled_back):
        try:
            after = change(before)
        except CannotSwap:
            continue
        assert set(before.values()) <= set(after.values())


async def made(api: InMemoryApi) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "p", "namespace": "n"},
        "data": {"policy.yaml": "old", "shadow.yaml": "new"},
    }
    await api.create(CONFIG_MAPS, body, namespace="n")


async def test_of_two_who_promote_at_once_one_does() -> None:
    api = InMemoryApi()
    await made(api)
    one, two = [await policy_map.read(api, "n", "p") for _ in range(2)]

    done = await asyncio.gather(
        policy_map.write(api, one, promoted(one.texts)),
        policy_map.write(api, two, promoted(two.texts)),
        return_exceptions=True,
    )

    assert sorted(type(each).__name__ for each in done) == ["ChangedMeanwhile", "PolicyMap"]
    after = await policy_map.read(api, "n", "p")
    assert after.texts["policy.yaml"] == "new"


async def test_what_somebody_has_edited_meanwhile_is_not_overwritten() -> None:
    api = InMemoryApi()
    await made(api)
    read = await policy_map.read(api, "n", "p")
    await policy_map.write(api, read, {**read.texts, "policy.yaml": "edited"})

    with pytest.raises(ChangedMeanwhile, match="nothing was written"):
        await policy_map.write(api, read, promoted(read.texts))
    assert (await policy_map.read(api, "n", "p")).texts["policy.yaml"] == "edited"


async def test_what_the_api_server_will_not_have_is_not_said_to_be_changed_by_others() -> None:
    class Refuses(InMemoryApi):
        async def patch(self, *args: Any, **named: Any) -> bytes:
            raise Invalid(422, "Too long: must have at most 1048576 bytes")

    api = Refuses()
    await made(api)
    read = await policy_map.read(api, "n", "p")

    with pytest.raises(Invalid, match="Too long"):
        await policy_map.write(api, read, promoted(read.texts))


async def test_a_key_that_is_gone_is_gone_from_the_config_map() -> None:
    api = InMemoryApi()
    await made(api)
    read = await policy_map.read(api, "n", "p")
    after = await policy_map.write(api, read, promoted(read.texts))
    await policy_map.write(api, after, rolled_back(after.texts))

    assert dict((await policy_map.read(api, "n", "p")).texts) == dict(read.texts)


async def test_a_config_map_that_is_not_there_is_said_to_be_missing() -> None:
    with pytest.raises(NotFound):
        await policy_map.read(InMemoryApi(), "n", "p")


def standing(
    policy: str = "new", live: str = "old", decided: int = 1, interval: float | None = 1.0
) -> Standing:
    evidence = Evidence(
        policy=policy,
        live_policy=live,
        seconds=1.0,
        agreement=Agreement(same=decided),
        refusals_more=Estimate(0.0, interval),
    )
    return Standing(state=State.RUNNING, evidence=evidence)


def test_evidence_of_both_policies_is_enough() -> None:
    assert lacks(standing(), "old", "new") == ""


def test_learned_weights_are_the_same_policy_wherever_they_decide() -> None:
    assert lacks(standing(live="old+1234"), "old", "new") == ""


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (Standing(state=State.WAITING), "no evidence"),
        (standing(policy="another"), "the evidence is of another"),
        (standing(live="another"), "beside another"),
        (standing(decided=0), "no VM has been decided about"),
        (standing(decided=1, interval=None), "1 VMs are too few"),
        (msgspec.structs.replace(standing(), lag_seconds=60.0), "behind for 60 s"),
    ],
)
def test_evidence_of_anything_else_is_none(said: Standing, why: str) -> None:
    assert why in lacks(said, "old", "new")
