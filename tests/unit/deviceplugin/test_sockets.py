from __future__ import annotations

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.deviceplugin import Places, rpc, sockets
from nodeagent.kubelet import KubeletError


@given(st.text())
def test_whatever_a_resource_is_called_its_socket_stays_in_its_directory(resource: str) -> None:
    name = sockets.name(resource, "0badcafe")

    assert Path(name).name == name
    assert name.startswith("tangram-")
    assert name.endswith("-0badcafe.sock")
    assert name.isascii()
    assert len(name) <= 46
    rpc.check_length(Places().device_plugins / name)


def test_a_path_too_long_for_a_socket_is_told() -> None:
    with pytest.raises(KubeletError, match="mount its directory at a shorter path"):
        rpc.check_length(Path("/" + "x" * 107))
    rpc.check_length(Path("/" + "x" * 106))


def test_only_our_own_sockets_at_which_nobody_listens_are_removed(places: Places) -> None:
    directory = places.device_plugins
    directory.mkdir()

    def listening(name: str) -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(directory / name))
        server.listen()
        return server

    listening("tangram-left-by-a-killed-agent.sock").close()
    listening("another-plugin.sock").close()
    (directory / "tangram-no-socket.sock").write_text("")
    with listening("tangram-in-use.sock"):
        sockets.clean(directory)

        assert sorted(path.name for path in directory.iterdir()) == [
            "another-plugin.sock",
            "tangram-in-use.sock",
            "tangram-no-socket.sock",
        ]


def test_a_file_made_anew_is_another(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert sockets.identity(path) is None
    path.write_text("")
    before = sockets.identity(path)
    path.chmod(0o600)
    assert sockets.identity(path) == before
    path.rename(tmp_path / "before")
    path.write_text("")
    assert sockets.identity(path) != before
    assert sockets.identity(path / "below") is None
