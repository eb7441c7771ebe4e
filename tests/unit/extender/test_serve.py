"""``tangram serve``: what it refuses to start with, and whom it lets in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import patch

import aiohttp
import pytest
import typer
from typer.testing import CliRunner

from extender import policy
from extender.cli import heap
from extender.cli.serve import serve
from tests.commands import tangram
from tests.e2e.controlplane.certificates import Authority
from tests.unit.admission.test_judge import pod
from tests.unit.admission.test_review import raw
from tests.waiting import until

served = typer.Typer()
served.command()(serve)


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    """Credentials for an API server that is not there."""
    file = tmp_path / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": {"token": "secret-token"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    file.write_text(json.dumps(config))
    return file


def refused(*arguments: str) -> str:
    """Return what is said of options with which nothing is even begun."""
    begun = AssertionError("they are not refused")
    with patch.object(heap, "bound", side_effect=begun):
        ended = tangram("serve", *arguments)
    assert ended.exit_code != 0
    return " ".join(ended.stderr.replace("│", " ").split())


def test_beyond_loopback_it_does_not_serve_without_certificates(kubeconfig: Path) -> None:
    text = refused("--kubeconfig", str(kubeconfig), "--host", "0.0.0.0")

    assert "--tls-cert, --tls-key and --client-ca" in text


def test_a_limit_below_nothing_is_refused(kubeconfig: Path) -> None:
    options = ("--restart-hold", "--avoid-gpu", "--circuit-failures", "--circuit-seconds")
    for option in (*options, "--body-limit"):
        assert option in refused("--kubeconfig", str(kubeconfig), option, "-1")


@pytest.mark.parametrize(
    "option",
    [
        "--http-timeout",
        "--reservation",
        "--restart-hold",
        "--avoid-gpu",
        "--circuit-seconds",
        "--renew-deadline",
        "--retry-period",
    ],
)
def test_a_time_without_an_end_is_refused(option: str) -> None:
    ended = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(served, [option, "inf"])

    assert ended.exit_code == 2
    assert option in ended.output
    assert "inf is no number of seconds" in ended.output


def test_certificates_belong_together(kubeconfig: Path, tmp_path: Path) -> None:
    text = refused("--kubeconfig", str(kubeconfig), "--tls-cert", str(tmp_path / "x.crt"))

    assert "belong together" in text


def test_client_names_need_certificates(kubeconfig: Path) -> None:
    text = refused("--kubeconfig", str(kubeconfig), "--client-name", "system:kube-scheduler")

    assert "--client-name" in text
    assert "without certificates nobody has a name" in text


def test_certificates_that_cannot_be_used_are_refused(kubeconfig: Path, tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("tls.crt", "tls.key", "ca.crt")]
    options = ("--tls-cert", "--tls-key", "--client-ca")
    arguments = [text for pair in zip(options, files, strict=True) for text in pair]

    assert "cannot be read" in refused("--kubeconfig", str(kubeconfig), *arguments)


def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    ended = subprocess.run(
        [sys.executable, "-m", "extender", "serve", "--kubeconfig", str(missing)],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.returncode not in (0, -15)
    assert "Traceback" not in ended.stderr
    assert "nowhere" in ended.stderr


def test_an_own_pod_without_namespace_is_refused(kubeconfig: Path) -> None:
    assert "NAMESPACE/NAME" in refused("--kubeconfig", str(kubeconfig), "--own-pod", "name")


def test_times_of_the_election_that_do_not_fit_together_are_refused(kubeconfig: Path) -> None:
    text = refused("--kubeconfig", str(kubeconfig), "--lease-duration", "5")

    assert "--lease-duration" in text
    assert "the lease duration is 5 s" in text
    assert "raise it to 11" in text


@contextlib.asynccontextmanager
async def serving(*arguments: str) -> AsyncIterator[tuple[str, list[str]]]:
    """Run ``tangram serve`` on a free port; yield its URL and, as it grows, its log."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "extender", "serve", "--port", "0", *arguments),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    lines: list[str] = []

    async def read() -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            lines.append(line.decode())

    reading = asyncio.create_task(read())
    try:
        await until(lambda: any('"serving"' in line for line in lines), within=60)
        event = next(json.loads(line) for line in lines if '"serving"' in line)
        yield event["url"], lines
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0
        await reading


async def test_only_a_client_with_our_certificate_is_let_in(
    kubeconfig: Path, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    server, client = authority.issue("server"), authority.issue("client")
    another = authority.issue("another")
    arguments = (
        *("--kubeconfig", str(kubeconfig), "--client-ca", str(authority.file)),
        *("--tls-cert", str(server.public), "--tls-key", str(server.key)),
        *("--client-name", "client", "--client-name", "system:kube-scheduler"),
    )
    known = ssl.create_default_context(cafile=authority.file)
    known.load_cert_chain(client.public, client.key)
    stranger = ssl.create_default_context(cafile=authority.file)
    async with serving(*arguments) as (url, _), aiohttp.ClientSession() as http:
        async with http.get(f"{url}/healthz", ssl=known) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            async with http.get(f"{url}/healthz", ssl=stranger):
                pass
        for pair, status in ((client, 400), (another, 403)):
            known = ssl.create_default_context(cafile=authority.file)
            known.load_cert_chain(pair.public, pair.key)
            async with http.post(f"{url}/bind", data=b"{}", ssl=known) as answer:
                assert answer.status == status


async def test_a_body_above_the_limit_is_refused(kubeconfig: Path) -> None:
    arguments = ("--kubeconfig", str(kubeconfig), "--body-limit", "2000")
    async with serving(*arguments) as (url, _), aiohttp.ClientSession() as http:
        for size, status in ((2000, 400), (2001, 413)):
            async with http.post(f"{url}/filter", data=b"x" * size) as answer:
                assert answer.status == status


async def test_without_an_api_server_it_is_alive_not_ready_and_says_why(
    kubeconfig: Path,
) -> None:
    async with serving("--kubeconfig", str(kubeconfig)) as (url, lines):
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{url}/healthz") as answer:
                assert answer.status == 200
            async with http.get(f"{url}/readyz") as answer:
                assert answer.status == 503
                assert "not loaded" in await answer.text()
        await until(lambda: any("watch_interrupted" in line for line in lines))

    assert not any("secret-token" in line for line in lines)


async def test_probes_need_no_certificate_and_open_nothing_else(
    kubeconfig: Path, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    server = authority.issue("server")
    arguments = (
        *("--kubeconfig", str(kubeconfig), "--client-ca", str(authority.file)),
        *("--tls-cert", str(server.public), "--tls-key", str(server.key)),
        *("--probe-port", "0"),
    )
    async with serving(*arguments) as (_, lines), aiohttp.ClientSession() as http:
        probes = next(json.loads(line) for line in lines if '"serving"' in line)["probes"]
        async with http.get(f"{probes}/healthz") as answer:
            assert answer.status == 200
        async with http.get(f"{probes}/readyz") as answer:
            assert answer.status == 503
        for path in ("filter", "prioritize", "preempt", "bind"):
            async with http.post(f"{probes}/{path}", data=b"{}") as answer:
                assert answer.status == 404
        async with http.get(f"{probes}/openapi.json") as answer:
            assert answer.status == 404


async def test_outside_a_cluster_there_is_no_election_unless_it_is_asked_for(
    kubeconfig: Path,
) -> None:
    arguments = ("--kubeconfig", str(kubeconfig))
    async with serving(*arguments) as (_, lines):
        alone = next(json.loads(line) for line in lines if '"serving"' in line)
    async with serving(*arguments, "--leader-elect", "--identity", "me") as (_, lines):
        first = next(json.loads(line) for line in lines if '"serving"' in line)
        await until(lambda: any("lease_unreachable" in line for line in lines))
    async with serving(*arguments, "--leader-elect", "--own-pod", "ns/pod") as (_, lines):
        second = next(json.loads(line) for line in lines if '"serving"' in line)

    assert alone["identity"] == ""
    assert re.fullmatch("me_[0-9a-f]{8}", first["identity"])
    assert re.fullmatch("pod_[0-9a-f]{8}", second["identity"])


async def test_it_says_which_policies_plan_jointly_without_a_value(kubeconfig: Path) -> None:
    arguments = ("--kubeconfig", str(kubeconfig), "--policy")
    async with serving(*arguments, "best-fit") as (_, best_fit):
        pass
    async with serving(*arguments, "mfi") as (_, mfi):
        pass

    assert any("joint_plans_prove_admission_only" in line for line in best_fit)
    assert not any("joint_plans_prove_admission_only" in line for line in mfi)


async def test_learned_by_name_decides_as_default_and_says_so(kubeconfig: Path) -> None:
    arguments = ("--kubeconfig", str(kubeconfig), "--policy")
    stored = Path(policy.__file__).parent / "weights" / "eight-slices-uniform.yaml"
    async with serving(*arguments, "learned") as (_, by_name):
        pass
    async with serving(*arguments, str(stored)) as (_, from_file):
        pass

    (warning,) = (json.loads(line) for line in by_name if "learned_without_weights" in line)
    assert warning["level"] == "warning"
    assert warning["policy"] == "default"
    assert "tangram policy train" in warning["remedy"]
    assert next(json.loads(each) for each in by_name if '"serving"' in each)["policy"] == "default"
    assert not any("learned_without_weights" in line for line in from_file)


async def test_the_webhook_shows_the_hooks_certificate_and_asks_for_none(
    kubeconfig: Path, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    server = authority.issue("server")
    arguments = (
        *("--kubeconfig", str(kubeconfig), "--client-ca", str(authority.file)),
        *("--tls-cert", str(server.public), "--tls-key", str(server.key)),
        *("--admission-port", "0", "--scheduler-name", "tangram"),
    )
    review = json.dumps(raw(object=pod(schedulerName="tangram")))
    trust = ssl.create_default_context(cafile=authority.file)
    async with serving(*arguments) as (_, lines), aiohttp.ClientSession() as http:
        webhook = next(json.loads(line) for line in lines if '"serving"' in line)["webhook"]
        async with http.post(webhook, data=review, ssl=trust) as answer:
            assert (await answer.json())["response"]["allowed"] is True
