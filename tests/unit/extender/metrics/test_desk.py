"""The desk over HTTP: who may look, and what they see."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import msgspec
import pytest

from extender.cluster import Reviews
from extender.cluster.reviews import KEPT_SECONDS, LONGEST_TOKEN
from extender.server import desk
from extender.service import Service
from extender.service.ports import ClusterUnavailable
from extender.service.reviewer import Access
from nodeagent.apiserver.protocol import (
    SUBJECT_ACCESS_REVIEWS,
    TOKEN_REVIEWS,
    ApiServer,
    Kind,
    Unavailable,
)


class Reviewing:
    """An API server that only reviews: ``ops`` may look at the metrics, ``bob`` is nobody's."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self.down = False

    async def create(self, kind: Kind, body: Mapping[str, Any], **_: Any) -> bytes:
        if self.down:
            raise Unavailable(503, "etcd is away")
        self.asked.append(body)
        spec = body["spec"]
        if kind == TOKEN_REVIEWS:
            known = spec["token"] in ("ops", "bob")
            status: Any = {"authenticated": known}
            if known:
                status["user"] = {"username": spec["token"], "groups": ["g"], "uid": "1"}
        else:
            assert kind == SUBJECT_ACCESS_REVIEWS
            assert spec["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}
            assert spec["groups"] == ("g",)
            status = {"allowed": spec["user"] == "ops"}
        return msgspec.json.encode({"status": status})


@pytest.fixture
def api() -> Reviewing:
    return Reviewing()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reviews(api: Reviewing, clock: Clock) -> Reviews:
    only_reviews: ApiServer = api  # type: ignore[assignment]
    return Reviews(only_reviews, clock=clock)


@pytest.fixture
async def url(service: Service, reviews: Reviews) -> AsyncIterator[str]:
    async with desk(service, reviewer=reviews) as url:
        yield url


async def get(url: str, path: str, token: str | None = None) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{url}{path}", headers=headers) as answer,
    ):
        return answer.status, await answer.text()


async def test_whoever_may_sees_the_metrics(url: str) -> None:
    status, text = await get(url, "/metrics", "ops")

    assert status == 200
    assert 'tangram_nodes{state="ready"} 1.0' in text


@pytest.mark.parametrize(
    ("token", "status"), [(None, 401), ("", 401), ("stranger", 401), ("bob", 403)]
)
async def test_nobody_else_does(url: str, token: str | None, status: int) -> None:
    answered, text = await get(url, "/metrics", token)

    assert answered == status
    assert "tangram_nodes" not in text


async def test_probes_are_open(url: str) -> None:
    assert await get(url, "/healthz") == (200, "ok\n")
    assert (await get(url, "/readyz"))[0] == 200


async def test_without_the_api_server_nothing_is_shown(url: str, api: Reviewing) -> None:
    api.down = True

    assert (await get(url, "/metrics", "ops"))[0] == 503


async def test_without_a_reviewer_the_desk_is_open(service: Service) -> None:
    async with desk(service, reviewer=None) as url:
        assert (await get(url, "/metrics"))[0] == 200


async def test_answers_are_kept_for_a_moment_whatever_they_are(
    reviews: Reviews, api: Reviewing, clock: Clock
) -> None:
    for _ in range(3):
        assert await reviews.may_get("ops", "/metrics") is Access.ALLOWED
        assert await reviews.may_get("stranger", "/metrics") is Access.UNKNOWN
    assert len(api.asked) == 3

    clock.now += KEPT_SECONDS
    await reviews.may_get("ops", "/metrics")
    assert len(api.asked) == 5


async def test_a_failure_is_not_kept(reviews: Reviews, api: Reviewing) -> None:
    api.down = True
    with pytest.raises(ClusterUnavailable):
        await reviews.may_get("ops", "/metrics")
    api.down = False

    assert await reviews.may_get("ops", "/metrics") is Access.ALLOWED


async def test_a_token_longer_than_any_is_not_even_asked_about(
    reviews: Reviews, api: Reviewing
) -> None:
    assert await reviews.may_get("x" * (LONGEST_TOKEN + 1), "/metrics") is Access.UNKNOWN
    assert not api.asked


class Dressed(Reviewing):
    """Knows everybody, by a name that would colour a terminal and fill it."""

    async def create(self, kind: Kind, body: Mapping[str, Any], **_: Any) -> bytes:
        user = {"username": "\x1b[31m" + 1_000 * "a"}
        return msgspec.json.encode({"status": {"authenticated": True, "user": user}})


async def test_a_name_is_told_as_far_as_it_can_be_printed_and_no_further() -> None:
    dressed: ApiServer = Dressed()  # type: ignore[assignment]
    known: ApiServer = Reviewing()  # type: ignore[assignment]

    assert await Reviews(dressed).who("any") == "?[31m" + 123 * "a"
    assert await Reviews(known).who("ops") == "ops"
    assert await Reviews(known).who("stranger") == ""
    assert await Reviews(known).who("") == ""
