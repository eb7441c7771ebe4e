from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nodeagent.agent.news import Told, news
from nodeagent.api.gpunode import Failed, Gpu, Instance, Inventory, PodRef, Realized, Summary

PLAN = frozenset({"a", "b"})


def inventory(
    *instances: str, realized: Sequence[str] = (), failed: Sequence[str] = (), **fields: object
) -> Inventory:
    """Return the inventory of one GPU with instances made for these assignments."""
    made = tuple(Instance(n, 19, n, 1, owner) for n, owner in enumerate(instances))
    return Inventory(
        gpus=(Gpu("GPU-0", "0000:10:00.0", "H100", "g", instances=made),),
        realized=tuple(Realized(id, f"slot-{id}") for id in realized),
        failed=tuple(Failed(id, "why") for id in failed),
        **fields,  # type: ignore[arg-type]
    )


TOLD = Told("uid", inventory("a", realized=["a"], observed_generation=1), PLAN)


def test_a_newer_plan_is_no_news_by_itself() -> None:
    later = inventory("a", realized=["a"], observed_generation=7, summary=Summary(gpus=1))

    assert not news(TOLD, later, PLAN | {"c"})


def test_a_newer_plan_is_news_where_nothing_else_will_be() -> None:
    """An assignment came and went between two looks; its slices are free again."""
    told = Told("uid", inventory("a", realized=["a"], observed_generation=1), frozenset({"a"}))
    later = inventory("a", realized=["a"], observed_generation=3)

    assert news(told, later, {"a"})


def test_a_newer_plan_is_no_news_while_a_removal_is_still_to_be_told() -> None:
    later = inventory("a", realized=["a"], observed_generation=3)

    assert not news(TOLD, later, {"b"})


def test_a_newer_plan_is_news_once_it_is_overdue() -> None:
    """Something came and went while b queues, or while the instance of a is held."""
    later = inventory("a", realized=["a"], observed_generation=3)

    for planned in (PLAN, {"b"}):
        assert not news(TOLD, later, planned)
        assert news(TOLD, later, planned, overdue=True)
    assert not news(TOLD, TOLD.inventory, PLAN, overdue=True)


def test_an_instance_that_is_not_realized_yet_is_no_news() -> None:
    assert not news(TOLD, inventory("a", "b", realized=["a"]), PLAN)


def test_that_a_pod_was_given_what_is_meant_for_another_is_news() -> None:
    """It waits for the plan to follow, and is not realized before that."""
    now = inventory("a", "b", realized=["a"])
    (gpu,) = now.gpus
    made, other = gpu.instances
    other = msgspec.structs.replace(other, holder=PodRef("default", "vm", "a's pod"))
    given = msgspec.structs.replace(gpu, instances=(made, other))

    assert news(TOLD, msgspec.structs.replace(now, gpus=(given,)), PLAN)


def test_a_realized_assignment_is_news() -> None:
    assert news(TOLD, inventory("a", "b", realized=["a", "b"]), PLAN)


def test_a_failure_is_news_and_so_is_its_end() -> None:
    failed = inventory("a", realized=["a"], failed=["b"])

    assert news(TOLD, failed, PLAN)
    assert news(Told("uid", failed, PLAN), TOLD.inventory, PLAN)


def test_an_assignment_that_left_the_plan_is_news_once_nothing_is_left_of_it() -> None:
    assert not news(TOLD, inventory("a", realized=["a"]), {"b"})
    assert news(TOLD, inventory(), {"b"})


def test_a_withdrawal_of_what_never_came_to_be_is_news() -> None:
    assert news(TOLD, inventory("a", realized=["a"]), {"a"})


def test_a_foreign_instance_is_news() -> None:
    assert news(TOLD, inventory("a", "", realized=["a"]), PLAN)
