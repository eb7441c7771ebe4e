"""Learned weights decide only where they are found to be better, on what is asked for now."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import msgspec
import pytest
from structlog.testing import capture_logs

import extender.policy
from extender.cluster import KubernetesCluster
from extender.packing.states import Key
from extender.policy import InForce, Policy, PolicyName
from extender.policy.file import read
from extender.service import Service
from extender.service.guarding import AGAIN_SECONDS, DRIFT, Guarding, NotJudged
from extender.service.ports import Feed
from extender.simulation.paired import Estimate
from extender.simulation.question import Guarded, Question
from nodeagent.api.catalog import MODELS
from nodeagent.apiserver.memory import InMemoryApi
from tests.builders import gpu_node, request

H100, A30 = MODELS["H100-80GB"].geometry, MODELS["A30-24GB"].geometry
FILE = read(Path(extender.policy.__file__).parent / "weights" / "eight-slices-uniform.yaml")
LEARNED = FILE.in_force


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Jury:
    """Answers as the test says; remembers what it was asked."""

    def __init__(self) -> None:
        self.gains = {H100.hash: 0.5, A30.hash: -0.5}
        self.asked: list[Question] = []
        self.fails = False

    async def __call__(self, question: Question) -> Guarded:
        self.asked.append(question)
        if self.fails:
            raise NotJudged("no process for it")
        gain = Estimate(self.gains[question.geometry.hash], 0.1, 0.01)
        return Guarded(question.candidate, gain)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jury() -> Jury:
    return Jury()


@pytest.fixture
async def service(clock: Clock, jury: Jury) -> Service:
    """Two nodes of different models, and weights that nobody has judged yet."""
    made = Service(KubernetesCluster(InMemoryApi()), policy=LEARNED, clock=clock, judge=jury)
    for feed in Feed:
        made.knowledge.feed_synced(feed)
    for name, model in (("h", "H100-80GB"), ("a", "A30-24GB")):
        made.knowledge.node(name, cordoned=False)
        made.knowledge.gpu_node(gpu_node(name, model=model, gpus=3))
        made.knowledge.lease(name, "1")
    return made


def later(service: Service, clock: Clock) -> None:
    """Let enough time pass for another question, in which everything has gone on."""
    clock.now += AGAIN_SECONDS
    for feed in Feed:
        service.knowledge.feed_synced(feed)
    for name in service.knowledge.views:
        service.knowledge.lease(name, f"{clock.now}")


def decides(service: Service, node: str) -> Key:
    """Tell what the rule that decides on a node looks at; learned weights look at the layout."""
    (bin, *_) = service.knowledge.views[node].bins()
    return bin.tables.rule.key


def ask(service: Service, clock: Clock, profile: str, pods: int) -> None:
    """Let so many pods ask for a profile."""
    knowledge = service.knowledge
    for at in range(pods):
        asked = request(profile, pod=f"{profile}-{at}")
        knowledge.demand.asked(asked, knowledge.views.values(), now=clock())


async def test_until_they_are_judged_default_decides(service: Service) -> None:
    assert decides(service, "h") is decides(service, "a") is Key.INSTANCES
    assert service.knowledge.in_force.policy.effective is PolicyName.DEFAULT


async def test_they_decide_on_the_geometries_where_they_are_better_alone(
    service: Service, jury: Jury
) -> None:
    unproven = service.knowledge.in_force.version
    with capture_logs() as logs:
        await service.guarding.look()
        await service.guarding.look()

    assert (decides(service, "h"), decides(service, "a")) == (Key.LAYOUT, Key.INSTANCES)
    assert service.knowledge.in_force.policy.effective is PolicyName.LEARNED
    assert {each.geometry.hash: each.gpus for each in jury.asked} == {H100.hash: 3, A30.hash: 3}
    assert len(jury.asked) == 2, "once for each"
    found = {each["geometry"]: each for each in logs if each["event"] == "learned_judged"}
    assert (found[H100.hash]["better"], found[A30.hash]["better"]) == (True, False)
    assert (found[H100.hash]["gain"], found[H100.hash]["gain_ci95"]) == (0.5, 0.1)
    (adopted,) = [each for each in logs if each["event"] == "policy_adopted"]
    assert adopted["before"] == unproven
    versions = {LEARNED.version, unproven, service.knowledge.in_force.version}
    assert len(versions) == 3, "what decides where is told by the version"
    assert {each.partition("+")[0] for each in versions} == {LEARNED.version}


async def test_before_anything_is_observed_they_are_judged_on_what_the_policy_expects(
    service: Service, jury: Jury
) -> None:
    await service.guarding.look()

    (of_h100,) = [each for each in jury.asked if each.geometry == H100]
    assert dict(of_h100.mix) == pytest.approx(FILE.demand, rel=1e-5)
    assert of_h100.candidate == FILE.policy


async def test_another_mix_takes_them_back_until_they_are_better_on_that(
    service: Service, jury: Jury, clock: Clock
) -> None:
    await service.guarding.look()
    ask(service, clock, "7-80C", 4)
    await service.guarding.look()
    assert decides(service, "h") is Key.LAYOUT, f"a few pods are no drift of {DRIFT}"
    jury.asked.clear()

    ask(service, clock, "7-80C", 40)
    await service.guarding.look()
    assert decides(service, "h") is Key.INSTANCES
    assert not jury.asked, "not so soon again"

    later(service, clock)
    await service.guarding.look()
    assert decides(service, "h") is Key.LAYOUT
    (anew,) = [each for each in jury.asked if each.geometry == H100]
    assert dict(anew.mix)["7g.80gb"] == pytest.approx((50 / 6 + 44) / (50 + 44), rel=0.01)


async def test_without_an_answer_default_decides_and_it_is_asked_again_later(
    service: Service, jury: Jury, clock: Clock
) -> None:
    jury.fails = True
    with capture_logs() as logs:
        await service.guarding.look()
        await service.guarding.look()

    told = [each for each in logs if each["event"] == "learned_not_judged"]
    assert [each["error"] for each in told] == ["no process for it"] * 2  # one for each geometry
    assert decides(service, "h") is Key.INSTANCES
    jury.fails = False
    later(service, clock)
    await service.guarding.look()
    assert decides(service, "h") is Key.LAYOUT


async def test_who_does_not_lead_asks_nothing(service: Service, jury: Jury) -> None:
    with patch.object(service.knowledge, "not_ready", return_value="not the leader"):
        await service.guarding.look()

    assert not jury.asked


async def test_a_policy_with_other_rules_keeps_what_is_known_of_the_same_weights(
    service: Service, jury: Jury
) -> None:
    await service.guarding.look()
    jury.asked.clear()
    rewritten = msgspec.structs.replace(LEARNED, version="another")

    service.knowledge.adopt(rewritten)
    assert decides(service, "h") is Key.LAYOUT
    assert service.knowledge.in_force.written == "another"
    await service.guarding.look()
    assert not jury.asked

    assert FILE.policy.weights is not None
    other = msgspec.structs.replace(FILE.policy.weights, occupied=3.0)
    retrained = msgspec.structs.replace(FILE.policy, weights=other)
    service.knowledge.adopt(InForce(retrained, version="retrained"))
    assert decides(service, "h") is Key.INSTANCES
    await service.guarding.look()
    assert {each.candidate for each in jury.asked} == {retrained}


async def test_policies_without_weights_are_no_question(service: Service, jury: Jury) -> None:
    service.knowledge.adopt(InForce.of(PolicyName.MFI))

    await service.guarding.look()

    assert not jury.asked
    assert service.knowledge.in_force == InForce.of(PolicyName.MFI)


async def test_a_verdict_about_weights_that_are_no_longer_in_force_changes_nothing(
    service: Service,
) -> None:
    asked = []

    async def slow(question: Question) -> Guarded:
        asked.append(question)
        service.knowledge.adopt(InForce.of(Policy(PolicyName.MFI)))
        return Guarded(question.candidate, Estimate(1.0, 0.1, 0.01))

    await Guarding(service.knowledge, slow).look()

    assert service.knowledge.in_force.policy.name is PolicyName.MFI
    assert len(asked) == 1, "nobody wants to know any more"
