"""Where credentials come from, and where they never go."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio.config import kube_config

from nodeagent.apiserver import credentials
from nodeagent.apiserver.protocol import GPU_NODES, Refused
from nodeagent.apiserver.rest import RestApi
from tests.unit.apiserver.conftest import TOKEN, Wire, kubeconfig


async def refused(**options: Any) -> Refused:
    """Return how entering a RestApi is refused."""
    with pytest.raises(Refused) as raised:
        async with RestApi(**options):
            pytest.fail("the credentials were accepted")
    return raised.value


async def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    error = await refused(kubeconfig=tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in error.message


async def test_without_any_credentials_the_remedy_is_told_and_nothing_else_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", f"{tmp_path}/a:{tmp_path}/b")

    assert str(await refused()) == "no credentials for the API server: give --kubeconfig"
    assert not caplog.records


async def test_where_kubectl_finds_its_kubeconfig_so_do_we(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", f"{tmp_path}/a:{tmp_path}/b")
    (tmp_path / "b").write_text(kubeconfig("http://127.0.0.1:1"))
    async with RestApi():
        pass


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00", "clusters: 1", "current-context: x"])
async def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(text)
    assert "credentials cannot be used" in (await refused(kubeconfig=file)).message


async def test_an_unknown_context_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(
        json.dumps(json.loads(kubeconfig("http://127.0.0.1:1")) | {"current-context": "other"})
    )
    error = await refused(kubeconfig=file)
    assert "Expected object with name other" in error.message


async def test_a_refusal_quotes_no_secret_not_even_in_its_trace(tmp_path: Path) -> None:
    """The library's own error for this kubeconfig holds the refresh token."""
    provider = {"name": "oidc", "config": {"refresh-token": TOKEN}}
    file = tmp_path / "kubeconfig"
    file.write_text(kubeconfig("http://127.0.0.1:1", **{"auth-provider": provider}))
    error = await refused(kubeconfig=file)

    assert "Expected key client-id" in error.message
    assert TOKEN not in "".join(traceback.format_exception(error))


async def test_in_a_cluster_the_service_account_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    assert "Service token file does not exist" in (await refused()).message


async def test_a_token_that_changed_is_sent_before_long(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "REFRESH_SECONDS", 0.0)
    token = tmp_path / "token"
    token.write_text("first")
    file = tmp_path / "kubeconfig"
    file.write_text(kubeconfig(str(wire.server.make_url("/")), tokenFile=str(token)))
    wire.answers(200, {})
    async with RestApi(kubeconfig=file) as api:
        await api.get(GPU_NODES, "n")
        token.write_text("second\n")
        await api.get(GPU_NODES, "n")

    assert [request.headers["Authorization"] for request in wire.asked] == [
        "Bearer first",
        "Bearer second",
    ]
