"""The OpenAPI description, held against the server it describes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import jsonschema_rs
import pytest

from extender.server import Limits, serving
from extender.server.description import HOOKS, REFUSALS, describe
from extender.server.routes import application
from extender.service import Service
from tests.builders import raw_pod


@pytest.fixture
async def url(service: Service) -> AsyncIterator[str]:
    async with serving(service) as url:
        yield url


@pytest.fixture
async def described(url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/openapi.json") as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        return dict(await answer.json())


POD = raw_pod("1-10C")
GOOD: dict[str, Any] = {
    "filter": {"Pod": POD, "NodeNames": ["node-1", "x"]},
    "prioritize": {"Pod": POD, "NodeNames": ["node-1", "x"]},
    "preempt": {"Pod": POD, "NodeNameToMetaVictims": {"node-1": {"Pods": [{"UID": "v"}]}}},
    "bind": {"PodName": "a", "PodNamespace": "b", "PodUID": "c", "Node": "node-1"},
}
VERBS = sorted(GOOD)


@pytest.mark.parametrize("prefix", ["", "/ext"])
async def test_it_names_every_path_and_method_and_no_other(service: Service, prefix: str) -> None:
    app = application(service, prefix=prefix, clients=frozenset(), limits=Limits())
    served = {
        (resource.canonical, route.method.lower())
        for resource in app.router.resources()
        for route in resource
        if route.method != "HEAD"
    }

    assert served == {
        (path, method) for path, item in describe(prefix)["paths"].items() for method in item
    }
    assert len(served) == len(HOOKS) + 3


@pytest.mark.parametrize("verb", VERBS)
async def test_what_a_hook_takes_is_what_it_says(
    url: str, described: dict[str, Any], verb: str
) -> None:
    """The text of a refusal names the type that was read; the description must name the same."""
    operation = described["paths"][f"/{verb}"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    async with aiohttp.ClientSession() as http, http.post(f"{url}/{verb}", data=b"[]") as answer:
        read = re.match(r"not an? (\w+):", await answer.text())

    assert read is not None
    assert schema == {"$ref": f"#/components/schemas/{read[1]}"}


@pytest.mark.parametrize("verb", VERBS)
async def test_what_a_hook_answers_is_what_it_says(
    url: str, described: dict[str, Any], verb: str
) -> None:
    operation = described["paths"][f"/{verb}"]["post"]
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/{verb}", json=GOOD[verb]) as answer,
    ):
        said = operation["responses"][str(answer.status)]["content"][answer.content_type]["schema"]
        value = await answer.json()

    closed = closing(said | {"components": described["components"]})
    assert jsonschema_rs.validator_for(closed).is_valid(value), value
    request = operation["requestBody"]["content"]["application/json"]["schema"]
    takes = jsonschema_rs.validator_for(request | {"components": described["components"]})
    assert takes.is_valid(GOOD[verb])


def closing(schema: Any) -> Any:
    """Forbid, everywhere in *schema*, fields it does not name: an answer has no others."""
    if isinstance(schema, list):
        return [closing(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: closing(value) for key, value in schema.items()}
    if "properties" in closed and "components" not in closed:
        closed.setdefault("additionalProperties", False)
    return closed


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (400, {"data": b"{"}),
        (413, {"data": b"x" * 2000}),
        (415, {"data": b"{}", "headers": {"Content-Encoding": "gzip"}}),
        (417, {"data": b"{}", "headers": {"Expect": "a miracle"}}),
    ],
)
async def test_refusals_are_described(service: Service, status: int, sent: dict[str, Any]) -> None:
    service.settings = type(service.settings)(body_limit_bytes=1000)
    async with (
        serving(service) as url,
        aiohttp.ClientSession(skip_auto_headers=["Content-Encoding"]) as http,
        http.post(f"{url}/filter", **sent) as answer,
    ):
        assert answer.status == status
        assert answer.content_type == "text/plain"
        assert answer.content_length == len(await answer.read())

    assert status in REFUSALS


async def test_every_type_it_refers_to_is_there(described: dict[str, Any]) -> None:
    referred = set(re.findall(r"'#/components/schemas/(\w+)'", str(described)))

    assert referred == set(described["components"]["schemas"])


async def test_its_version_is_the_package_s(described: dict[str, Any]) -> None:
    assert described["openapi"] == "3.1.0"
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", described["info"]["version"])
