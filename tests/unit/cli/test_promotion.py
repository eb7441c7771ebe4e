"""``tangram policy promote``, ``rollback`` and ``shadow``, beside a desk and an API server."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner, Result

from extender.cli import policy_map
from extender.cli.main import app
from extender.cluster import KubernetesCluster
from extender.policy.file import parsed
from extender.server import desk
from extender.service import Service
from extender.shadow import Evidence, Standing, State
from extender.shadow.document import Agreement
from extender.simulation.paired import Estimate
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import CONFIG_MAPS, ApiError, PatchType
from tests.replayed import HEAD
from tests.unit.apiserver.conftest import kubeconfig

NAMESPACE, NAME = "tangram-system", "tangram-policy"
OLD, NEW, NEWER = (f"{HEAD}value: {each}\n" for each in ("first-fit", "best-fit", "worst-fit"))
BOTH = {"policy.yaml": OLD, "shadow.yaml": NEW}


def version(text: str) -> str:
    return parsed(text.encode(), "x").version


def shows(live: str = OLD, shadow: str = NEW, *, interval: float | None = 1.0) -> Standing:
    """Return a standing that tells two policies apart, if it has an interval."""
    evidence = Evidence(
        policy=version(shadow),
        live_policy=version(live),
        seconds=7200.0,
        agreement=Agreement(same=500),
        refusals_more=Estimate(-9.0, interval, 0.01),
    )
    return Standing(state=State.RUNNING, evidence=evidence)


@pytest.fixture(autouse=True)
def _unheard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The extender's own events are not the command's: here both are one process."""
    monkeypatch.setattr(sys.modules["extender.cli.main"], "log_to_stderr", lambda *_: None)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


class Place:
    """A cluster with the ConfigMap, served, and a desk where a shadow stands as is said."""

    def __init__(self, folder: Path, url: str) -> None:
        self.api = InMemoryApi()
        self.url = url
        self.kubeconfig = folder / "kubeconfig"
        self.loses_answers = False

    async def holds(self, texts: Mapping[str, str]) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "data": dict(texts),
        }
        await self.api.create(CONFIG_MAPS, body, namespace=NAMESPACE)

    async def texts(self) -> dict[str, str]:
        return dict((await policy_map.read(self.api, NAMESPACE, NAME)).texts)

    async def answer(self, request: web.Request) -> web.Response:
        name, namespace = request.match_info["name"], request.match_info["namespace"]
        try:
            if request.method == "GET":
                body = await self.api.get(CONFIG_MAPS, name, namespace=namespace)
            else:
                patch = await request.json()
                body = await self.api.patch(
                    CONFIG_MAPS, name, patch, patch_type=PatchType.JSON, namespace=namespace
                )
        except ApiError as error:
            return web.json_response({"message": error.message}, status=error.status)
        if self.loses_answers and request.method == "PATCH":
            return web.json_response({"message": "the way back is broken"}, status=504)
        return web.Response(body=body, content_type="application/json")

    async def run(self, *args: str, says: str = "", sees_desk: bool = True) -> Result:
        """Run a command in a thread; *says* is typed at it."""
        plain = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
        where = ["--kubeconfig", str(self.kubeconfig)]
        where += ["--desk", self.url] if sees_desk else []
        command = ["policy", *args, *where]
        return await asyncio.to_thread(CliRunner(env=plain).invoke, app, command, says)


@asynccontextmanager
async def place(
    folder: Path, texts: Mapping[str, str] | None, said: Standing
) -> AsyncIterator[Place]:
    """Serve a ConfigMap with these texts, None: there is none, and a shadow that stands so."""
    service = Service(KubernetesCluster(InMemoryApi()))
    async with desk(service, reviewer=None, shadow=lambda: said) as url:
        made = Place(folder, url)
        serving = web.Application()
        path = "/api/v1/namespaces/{namespace}/configmaps/{name}"
        serving.router.add_route("*", path, made.answer)
        async with TestServer(serving) as server:
            made.kubeconfig.write_text(kubeconfig(str(server.make_url("/")).rstrip("/")))
            if texts is not None:
                await made.holds(texts)
            yield made


async def test_who_promotes_is_shown_the_evidence_and_asked(tmp_path: Path) -> None:
    async with place(tmp_path, BOTH, shows()) as at:
        done = await at.run("promote", says="y\n")

        assert done.exit_code == 0, done.output
        assert "500 VMs decided about by both" in done.output
        assert f"Put {version(NEW)} in force instead of {version(OLD)}? [y/N]: y" in done.output
        assert await at.texts() == {"policy.yaml": NEW, "shadow.yaml": OLD, "previous.yaml": OLD}


async def test_who_says_no_has_nothing_promoted_nor_rolled_back(tmp_path: Path) -> None:
    before = {**BOTH, "previous.yaml": NEWER}
    async with place(tmp_path, before, shows()) as at:
        for command in ("promote", "rollback"):
            done = await at.run(command, says="n\n", sees_desk=command == "promote")

            assert done.exit_code == 1
            assert await at.texts() == before


async def test_a_promotion_whose_answer_was_lost_is_not_undone_by_another(tmp_path: Path) -> None:
    async with place(tmp_path, BOTH, shows()) as at:
        at.loses_answers = True
        first = await at.run("promote", "--yes")
        at.loses_answers = False
        second = await at.run("promote", "--yes", "--without-evidence")

        assert (first.exit_code, second.exit_code) == (1, 1)
        assert "promoted already" in second.output
        assert (await at.texts())["policy.yaml"] == NEW


async def test_without_an_interval_nothing_is_promoted_unless_that_is_said(tmp_path: Path) -> None:
    async with place(tmp_path, BOTH, shows(interval=None)) as at:
        done = await at.run("promote", "--yes")
        assert done.exit_code == 1
        assert "500 VMs are too few" in done.output
        assert await at.texts() == BOTH

        assert (await at.run("promote", "--yes", "--without-evidence")).exit_code == 0
        assert (await at.texts())["policy.yaml"] == NEW


async def test_evidence_of_other_policies_promotes_nothing(tmp_path: Path) -> None:
    async with place(tmp_path, BOTH, shows(shadow=NEWER)) as at:
        done = await at.run("promote", "--yes")

        assert done.exit_code == 1
        assert f"the evidence is of {version(NEWER)}" in done.output
        assert await at.texts() == BOTH


async def test_who_promotes_learned_weights_is_told_where_they_decide(tmp_path: Path) -> None:
    weights = Path(__file__).parents[3] / "extender/policy/weights/eight-slices-uniform.yaml"
    learned = weights.read_text()
    texts = {"policy.yaml": OLD, "shadow.yaml": learned}
    async with place(tmp_path, texts, shows(shadow=learned)) as at:
        done = await at.run("promote", says="n\n")

        assert "Its weights decided everywhere in the shadow" in done.output


async def test_a_rollback_goes_back_and_loses_no_candidate(tmp_path: Path) -> None:
    texts = {"policy.yaml": NEW, "shadow.yaml": NEWER, "previous.yaml": OLD}
    async with place(tmp_path, texts, shows()) as at:
        done = await at.run("rollback", "--yes", sees_desk=False)

        assert done.exit_code == 0, done.output
        after = await at.texts()
        assert (after["policy.yaml"], after["shadow.yaml"]) == (OLD, NEWER)
        assert sorted(after.values()) == sorted([OLD, NEW, NEWER])


@pytest.mark.parametrize(
    ("command", "texts", "why"),
    [
        ("promote", {"policy.yaml": OLD}, "there is no shadow.yaml"),
        ("promote", {"policy.yaml": OLD, "shadow.yaml": "nonsense: 1"}, "shadow.yaml"),
        ("promote", None, "there is no ConfigMap tangram-system/tangram-policy"),
        ("rollback", BOTH, "there is no previous.yaml"),
        ("rollback", {**BOTH, "previous.yaml": "nonsense: 1"}, "policy.yaml"),
        ("rollback", None, "there is no ConfigMap tangram-system/tangram-policy"),
    ],
)
async def test_what_cannot_change_places_is_left_as_it_is(
    tmp_path: Path, command: str, texts: Mapping[str, str] | None, why: str
) -> None:
    async with place(tmp_path, texts, shows()) as at:
        done = await at.run(command, "--yes", sees_desk=command == "promote")

        assert done.exit_code == 1
        assert why in done.output
        if texts is not None:
            assert await at.texts() == texts


@pytest.mark.parametrize(("said", "code"), [(shows(), 0), (Standing(state=State.WAITING), 2)])
async def test_what_a_shadow_shows_is_printed_as_it_was_told(
    tmp_path: Path, said: Standing, code: int
) -> None:
    async with place(tmp_path, BOTH, said) as at:
        done = await at.run("shadow", "--output", "json")

        assert done.exit_code == code
        assert msgspec.convert(json.loads(done.output), Standing) == said
