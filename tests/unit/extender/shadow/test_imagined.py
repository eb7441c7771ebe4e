"""The fleet as it would be: who is placed, waits and leaves in imagination, and how that counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import pytest

from extender.metrics.series import OTHERS
from extender.policy import InForce, PolicyName
from extender.replay.recorded import Arrival, Outcome, Place, RecordedNode
from extender.shadow import Evidence, news
from extender.shadow.evidence import MOST_NAMES
from extender.shadow.imagined import CLOSE_SECONDS, Imagined
from extender.shadow.mirror import MOST_GPUS, TooMany
from extender.shadow.news import News
from extender.verbs.reasons import Code
from tests.replayed import FIRST_FIT, node, policy, recorded, vm
from tests.shadowed import Live, asked

WHOLE = "7g.80gb"
NO_ROOM = Code.NO_ROOM.value


class Story:
    """News of one node with one GPU, and a shadow that hears of them."""

    def __init__(self, by: InForce = FIRST_FIT, *, nodes: Sequence[RecordedNode] = ()) -> None:
        self.of = recorded(nodes=nodes)
        self.live = Live(self.of)
        self.shadow = Imagined(news.Begins(at=0.0, policy=by, live="live"))
        self.tell(each for node in self.of.nodes for each in self.live.came(node, 0.0))

    def begin(self, *known: str) -> Story:
        self.tell([news.Ready(at=0.0, known=known)])
        return self

    def tell(self, items: Iterator[News] | Sequence[News]) -> None:
        for each in items:
            self.shadow.take(news.read(news.line(each)))

    def placed(self, of: Arrival, at: float, start: int = 0, gpu: str = "a/0") -> None:
        """Let a VM have its place live."""
        profile = of.wanted[0].rpartition("-")[2] if "-" in of.wanted[0] else WHOLE
        places = (Place("a", gpu, PROFILE.get(of.uid, profile), start),)
        self.tell(self.live.placed(of, Outcome(at, of.uid, places)))

    def refused(self, of: Arrival, at: float) -> None:
        """Let a VM be refused live."""
        self.tell([asked(of, at, codes=(NO_ROOM,))])

    def left(self, uid: str, at: float) -> None:
        """Let a VM leave live."""
        self.tell(self.live.left(uid, at))

    @property
    def evidence(self) -> Evidence:
        return self.shadow.evidence()


PROFILE: dict[str, str] = {}


def whole(at: float, uid: str) -> Arrival:
    PROFILE[uid] = WHOLE
    return vm(at, uid, WHOLE)


def comes(story: Story, of: Arrival) -> None:
    """Let a VM come, and have the whole GPU live."""
    story.tell([asked(of, of.at)])
    story.placed(of, of.at)


def test_a_vm_that_both_place_alike_counts_as_the_same() -> None:
    story = Story().begin()
    comes(story, whole(1.0, "one"))

    assert story.evidence.agreement.same == story.evidence.agreement.decided == 1


def test_a_vm_on_another_gpu_of_the_node_counts_as_such() -> None:
    story = Story(nodes=[node("a", 2)]).begin()
    of = whole(1.0, "one")
    story.tell([asked(of, 1.0)])
    story.placed(of, 1.0, gpu="a/1")

    assert story.evidence.agreement.node == story.evidence.agreement.decided == 1


def test_a_vm_that_only_live_was_refused_counts_against_the_live_policy() -> None:
    story = Story().begin()
    story.refused(whole(1.0, "one"), 1.0)

    found = story.evidence
    assert found.agreement.live_refused == 1
    assert (found.refusals.live, found.refusals.shadow) == (1, 0)
    assert found.refusals_more.mean == -1


def test_who_was_there_before_keeps_its_place_and_does_not_count() -> None:
    story = Story()
    story.placed(whole(0.0, "resident"), 0.0)
    story.begin()
    story.tell([asked(whole(1.0, "one"), 1.0, codes=(NO_ROOM,))])

    found = story.evidence
    assert found.agreement.refused == found.agreement.decided == 1
    assert found.uncounted == 1


def test_the_room_of_who_was_there_before_goes_to_who_waits() -> None:
    story = Story()
    story.placed(whole(0.0, "resident"), 0.0)
    story.begin()
    story.refused(whole(1.0, "one"), 1.0)
    assert story.evidence.waiting == 1

    story.left("resident", 2.0)
    story.tell([news.Namespace(at=3.0, name="n", labels={})])

    assert story.evidence.waiting == 0


def test_vms_that_had_been_asked_about_before_are_placed_and_do_not_count() -> None:
    story = Story().begin("one")
    story.refused(whole(1.0, "one"), 1.0)
    story.refused(whole(2.0, "two"), 2.0)

    found = story.evidence
    assert found.agreement.decided == found.agreement.refused + found.agreement.live_refused == 1
    assert found.refusals.shadow == 1, "the first has the GPU in imagination"


def test_a_vm_whose_bind_was_under_way_is_placed_and_does_not_count() -> None:
    story = Story().begin()
    story.placed(whole(0.5, "one"), 1.0)
    story.refused(whole(2.0, "two"), 2.0)

    found = story.evidence
    assert (found.agreement.refused, found.agreement.decided) == (1, 1)


def test_a_plan_that_still_names_who_has_left_brings_nobody_back() -> None:
    story = Story().begin()
    of = whole(1.0, "one")
    comes(story, of)
    still = news.Gpus(at=2.5, node=story.live.node("a"))
    story.tell([news.Left(at=2.0, uid="one"), still])
    story.tell([asked(whole(3.0, "two"), 3.0)])
    story.placed(whole(3.0, "two"), 3.0)

    assert story.evidence.agreement.same == 2


def test_a_vm_that_live_has_no_place_for_stays_as_long_as_one_like_it() -> None:
    story = Story(nodes=[node("a", 2)]).begin()
    comes(story, whole(0.0, "twin"))
    story.refused(whole(10.0, "imagined"), 10.0)
    story.tell([news.Left(at=20.0, uid="imagined")])
    story.left("twin", 100.0)

    story.refused(whole(109.0, "before"), 109.0)  # on the first GPU, which the twin has left
    story.refused(whole(109.5, "full"), 109.5)
    assert story.evidence.agreement.refused == 1, "it has its place still"

    story.refused(whole(111.0, "after"), 111.0)
    assert story.evidence.agreement.refused == 2, "who waits is first"
    assert story.evidence.waiting == 1


def test_without_one_like_it_a_vm_leaves_when_it_gives_up() -> None:
    story = Story().begin()
    story.refused(whole(1.0, "one"), 1.0)
    story.left("one", 2.0)
    story.refused(whole(3.0, "two"), 3.0)

    assert story.evidence.agreement.live_refused == 2


def test_a_vm_that_has_its_place_a_moment_later_live_leaves_when_it_does() -> None:
    story = Story(nodes=[node("a", 2)]).begin()
    comes(story, whole(0.0, "twin"))
    of = whole(1.0, "one")
    story.refused(of, 1.0)
    story.placed(of, 1.0 + CLOSE_SECONDS, gpu="a/1")
    story.left("twin", 70.0)
    story.left("one", 500.0)

    story.refused(whole(600.0, "x"), 600.0)
    story.refused(whole(601.0, "y"), 601.0)
    assert story.evidence.refusals.shadow == 0, "both GPUs are free"


def test_a_vm_that_waits_in_imagination_alone_stays_as_long_as_it_did_live() -> None:
    story = Story(nodes=[node("a", 2)])
    story.placed(whole(0.0, "resident"), 0.0)
    story.begin()
    story.refused(whole(1.0, "imagined"), 1.0)  # on the other GPU
    PROFILE["small"] = "1g.10gb"
    small = vm(2.0, "small", "1g.10gb")
    story.tell([asked(small, 2.0)])
    story.placed(small, 2.0, gpu="a/1")
    story.left("small", 12.0)
    assert story.evidence.agreement.shadow_refused == story.evidence.waiting == 1, "it waits on"

    story.left("imagined", 300.0)
    story.refused(whole(305.0, "next"), 305.0)
    assert story.evidence.agreement.refused == story.evidence.waiting == 1, "it is there by now"
    story.tell([news.Namespace(at=309.0, name="n", labels={})])
    assert story.evidence.waiting == 1
    story.tell([news.Namespace(at=311.0, name="n", labels={})])
    assert story.evidence.waiting == 0, "ten seconds after it had its place it has left"


def test_a_node_that_is_closed_takes_nothing_new_until_it_is_open() -> None:
    story = Story().begin()
    story.tell([news.Node(at=1.0, name="a", closed=True)])
    story.refused(whole(2.0, "one"), 2.0)
    assert story.evidence.agreement.refused == 1

    story.tell([news.Node(at=3.0, name="a"), news.Namespace(at=4.0, name="n", labels={})])
    assert story.evidence.waiting == 0


def test_a_gpu_that_is_unhealthy_takes_nothing_new() -> None:
    story = Story().begin()
    ill = story.live.node("a")
    gpus = tuple(msgspec.structs.replace(each, unhealthy="xid-79") for each in ill.status.gpus)
    status = msgspec.structs.replace(ill.status, gpus=gpus)
    story.tell([news.Gpus(at=1.0, node=msgspec.structs.replace(ill, status=status))])
    story.refused(whole(2.0, "one"), 2.0)

    assert story.evidence.agreement.refused == 1


def test_news_of_a_node_that_come_late_are_none() -> None:
    story = Story().begin()
    late = news.Gpus(at=2.0, node=story.live.node("a"))
    of = whole(1.0, "one")
    comes(story, of)
    story.tell([late])

    assert story.evidence.live.used == story.evidence.shadow.used


def test_a_node_that_is_gone_and_comes_back_takes_vms_again() -> None:
    story = Story().begin()
    story.tell([news.Gone(at=1.0, name="a", uid="uid-a")])
    story.refused(whole(2.0, "one"), 2.0)
    story.tell([news.Gpus(at=3.0, node=story.live.node("a"))])
    story.refused(whole(4.0, "two"), 4.0)

    assert story.evidence.agreement.refused == 2, "the first has the room by then"
    assert story.evidence.waiting == 1


def reported(story: Story, at: float, *uuids: str) -> None:
    """Let a node's agent report GPUs."""
    now = story.live.node("a")
    (first,) = now.status.gpus
    gpus = tuple(msgspec.structs.replace(first, uuid=uuid) for uuid in uuids)
    status = msgspec.structs.replace(now.status, gpus=gpus)
    story.tell([news.Gpus(at=at, node=msgspec.structs.replace(now, status=status))])


def test_a_gpu_that_is_not_reported_takes_nothing_new_until_it_is_again() -> None:
    story = Story().begin()
    reported(story, 1.0)
    reported(story, 1.0, "b/0")
    comes_to = whole(2.0, "one")
    story.tell([asked(comes_to, 2.0)])
    story.refused(whole(2.5, "two"), 2.5)
    assert story.evidence.agreement.refused == 1, "one GPU is away, the other taken"

    reported(story, 3.0, "a/0", "b/0")
    story.tell([news.Namespace(at=4.0, name="n", labels={})])
    assert story.evidence.waiting == 0


def test_a_gpu_that_was_replaced_makes_way_for_its_successor() -> None:
    story = Story()
    story.placed(whole(0.0, "resident"), 0.0)
    story.begin()
    reported(story, 1.0, "new/0")
    story.refused(whole(2.0, "one"), 2.0)
    assert story.evidence.agreement.live_refused == 1, "it is on the new one"

    story.tell([news.Left(at=3.0, uid="resident")])
    story.refused(whole(4.0, "two"), 4.0)
    assert story.evidence.agreement.refused == 1, "the old one takes nobody"


def test_gpus_that_are_replaced_for_ever_end_the_stretch() -> None:
    story = Story().begin()
    for number in range(MOST_GPUS - 1):
        reported(story, 1.0, f"new/{number}")
    with pytest.raises(TooMany):
        reported(story, 1.0, "one more")


@pytest.mark.parametrize(
    "of",
    [
        news.Gone(at=1.0, name="a", uid="another"),
        news.Listed(at=1.0, uids=("uid-a",), version="99"),
        news.Listed(at=1.0, uids=(), version="0"),
    ],
    ids=["of its predecessor", "listed", "newer than the list"],
)
def test_a_node_that_is_still_there_goes_on_taking_vms(of: News) -> None:
    story = Story().begin()
    story.tell([of])
    story.refused(whole(2.0, "one"), 2.0)

    assert story.evidence.agreement.live_refused == 1


def test_a_node_that_no_list_has_any_more_takes_nothing_until_it_is_listed() -> None:
    story = Story().begin()
    late = story.live.node("a")
    story.tell([news.Listed(at=1.0, uids=(), version="99"), news.Gpus(at=1.5, node=late)])
    story.refused(whole(2.0, "one"), 2.0)
    assert story.evidence.agreement.refused == 1

    story.tell([news.Gpus(at=3.0, node=late, listed=True)])
    story.tell([news.Namespace(at=4.0, name="n", labels={})])
    assert story.evidence.waiting == 0


def test_a_vm_that_may_go_to_few_nodes_goes_to_one_that_joins_later() -> None:
    story = Story(nodes=[node("a", 1), node("b", 1)]).begin()
    of = whole(1.0, "one")
    story.tell([news.Node(at=0.5, name="a", closed=True)])
    story.tell([asked(of, 1.0, codes=(NO_ROOM,), names=("a",))])
    assert story.evidence.waiting == 1

    story.tell(story.live.came(node("c", 1), 5.0))
    story.tell([asked(of, 6.0, codes=(NO_ROOM,), names=("a", "c"))])
    story.tell([news.Namespace(at=7.0, name="n", labels={})])
    assert story.evidence.waiting == 0


def test_a_tenant_whose_namespace_is_gone_keeps_what_it_has() -> None:
    rules = policy(
        "tenants: [{name: red, namespaces: {matchLabels: {team: red}}, caps: {memorySlices: 8}}]"
    )
    story = Story(rules, nodes=[node("a", 2)])
    labels = {"team": "red"}
    story.tell([news.Namespace(at=0.0, name=name, labels=labels) for name in ("n", "m")])
    story.begin()
    comes(story, whole(1.0, "one"))
    story.tell([news.NamespaceGone(at=2.0, name="n")])
    story.tell([asked(msgspec.structs.replace(whole(3.0, "two"), namespace="m"), 3.0)])
    story.placed(msgspec.structs.replace(whole(3.0, "two"), namespace="m"), 3.0, gpu="a/1")

    assert story.evidence.because == {Code.OVER_CAP.value: 1}


def test_a_policys_rules_hold_in_imagination() -> None:
    rules = policy(
        "tenants: [{name: red, namespaces: {matchLabels: {team: red}}, caps: {memorySlices: 1}}]"
    )
    story = Story(rules)
    story.tell([news.Namespace(at=0.0, name="n", labels={"team": "red"})])
    story.begin()
    comes(story, whole(1.0, "one"))

    found = story.evidence
    assert found.agreement.shadow_refused == 1
    assert found.because == {Code.OVER_CAP.value: 1}
    assert set(found.tenants) == {"red"}


@pytest.mark.parametrize("name", ["\n", '{"type":"Left","at":1,"uid":"one"}', "\x00", "é\u2028"])
def test_names_are_only_names(name: str) -> None:
    story = Story().begin()
    of = msgspec.structs.replace(whole(1.0, name), namespace=name)
    PROFILE[name] = WHOLE
    comes(story, of)

    assert story.evidence.agreement.same == 1
    assert set(story.evidence.tenants) == {name}


def test_of_many_names_only_so_many_are_told() -> None:
    story = Story().begin()
    for number in range(MOST_NAMES + 50):
        of = msgspec.structs.replace(whole(1.0, f"vm-{number}"), namespace=f"n-{number}")
        story.refused(of, 1.0)

    found = story.evidence
    assert len(found.tenants) == MOST_NAMES + 1
    assert found.tenants[OTHERS].asked == 50


def test_a_resource_that_no_node_has_is_told_as_none() -> None:
    story = Story().begin()
    of = msgspec.structs.replace(vm(1.0, "one", WHOLE), wanted=("example.com/anything",))
    story.refused(of, 1.0)

    assert set(story.evidence.profiles) == {"(none)"}


def test_a_stretch_begins_once() -> None:
    story = Story().begin()
    again = news.Begins(at=1.0, policy=InForce.of(PolicyName.DEFAULT), live="live")
    with pytest.raises(ValueError, match="once"):
        story.shadow.take(again)


def test_a_long_stretch_has_an_interval_from_a_bounded_number_of_parts() -> None:
    story = Story(nodes=[node("a", 1)]).begin()
    for number in range(1200):
        at = 10.0 * number
        of = whole(at, f"vm-{number}")
        if number % 2:
            comes(story, of)
        else:
            story.refused(of, at)
        story.left(of.uid, at + 5.0)

    found = story.evidence
    assert found.refusals.live == 600
    assert found.refusals.shadow == 0
    assert found.refusals_more.mean == -600
    assert found.blocks <= 56
