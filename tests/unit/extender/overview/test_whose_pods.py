"""Whose pods somebody may see, by the API server's word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from extender.cluster import Reviews
from extender.service.reviewer import Access
from nodeagent.apiserver.protocol import TOKEN_REVIEWS, ApiServer, Kind


class Reviewing:
    """An API server that lets ``dev`` list the pods of ``mine``, and nobody else anything."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, Any]] = []

    async def create(self, kind: Kind, body: Mapping[str, Any], **_: Any) -> bytes:
        self.asked.append(body["spec"])
        if kind == TOKEN_REVIEWS:
            status: Any = {"authenticated": True, "user": {"username": body["spec"]["token"]}}
        else:
            mine = {"resource": "pods", "verb": "list", "namespace": "mine"}
            asked = (body["spec"]["user"], body["spec"].get("resourceAttributes"))
            status = {"allowed": asked == ("dev", mine)}
        return msgspec.json.encode({"status": status})


@pytest.fixture
def api() -> Reviewing:
    return Reviewing()


@pytest.fixture
def reviews(api: Reviewing) -> Reviews:
    only_reviews: ApiServer = api  # type: ignore[assignment]
    return Reviews(only_reviews, clock=lambda: 0.0)


@pytest.mark.parametrize(
    ("token", "namespace", "access"),
    [
        ("dev", "mine", Access.ALLOWED),
        ("dev", "theirs", Access.FORBIDDEN),
        ("dev", "", Access.FORBIDDEN),
        ("other", "mine", Access.FORBIDDEN),
        ("", "mine", Access.UNKNOWN),
    ],
)
async def test_a_right_is_that_to_list_the_pods_of_that_namespace(
    reviews: Reviews, token: str, namespace: str, access: Access
) -> None:
    assert await reviews.may_list_pods(token, namespace) is access


async def test_answers_about_namespaces_and_paths_are_kept_apart(
    reviews: Reviews, api: Reviewing
) -> None:
    assert await reviews.may_list_pods("dev", "mine") is Access.ALLOWED
    assert await reviews.may_list_pods("dev", "") is Access.FORBIDDEN
    assert await reviews.may_get("dev", "mine") is Access.FORBIDDEN
    asked = len(api.asked)
    assert await reviews.may_list_pods("dev", "mine") is Access.ALLOWED
    assert len(api.asked) == asked
