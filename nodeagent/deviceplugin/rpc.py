"""The kubelet's three gRPC services: what is called how, and how to call it.

Everything goes over Unix sockets, which only the node's root can open.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import grpc
from google.protobuf.message import Message

from nodeagent.deviceplugin.proto import deviceplugin_pb2 as v1beta1
from nodeagent.deviceplugin.proto import podresources_pb2 as v1
from nodeagent.kubelet import KubeletError

if TYPE_CHECKING:
    from grpc.aio import Channel

VERSION: Final = "v1beta1"
REGISTRATION: Final = "v1beta1.Registration"
DEVICE_PLUGIN: Final = "v1beta1.DevicePlugin"
POD_RESOURCES: Final = "v1.PodResourcesLister"

LARGEST_MESSAGE = 16 << 20
"""In bytes: what a kubelet itself accepts, and answers with, at most."""
LONGEST_SOCKET_PATH = 107
"""In bytes: what fits ``sockaddr_un`` with its final zero (unix(7))."""

OPTIONS: Final = [
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
    ("grpc.enable_http_proxy", 0),
    # A channel must not inherit the waiting time of one that has failed.
    ("grpc.use_local_subchannel_pool", 1),
]

_Answer = TypeVar("_Answer", bound=Message)


async def register(kubelet: Path, request: v1beta1.RegisterRequest, *, timeout: float) -> None:
    """Register an endpoint, which the kubelet calls before it answers.

    Raises:
        KubeletError: it does not know the endpoint now.
    """
    await _call(kubelet, REGISTRATION, "Register", request, v1beta1.Empty, timeout)


async def pod_resources(socket: Path, *, timeout: float) -> v1.ListPodResourcesResponse:
    """Return what the kubelet's pods have.

    Raises:
        KubeletError: it could not be learned.
    """
    request = v1.ListPodResourcesRequest()
    return await _call(socket, POD_RESOURCES, "List", request, v1.ListPodResourcesResponse, timeout)


async def allocatable(socket: Path, *, timeout: float) -> v1.AllocatableResourcesResponse:
    """Return every healthy device that the kubelet knows.

    Raises:
        KubeletError: it could not be learned.
    """
    request, answer = v1.AllocatableResourcesRequest(), v1.AllocatableResourcesResponse
    return await _call(socket, POD_RESOURCES, "GetAllocatableResources", request, answer, timeout)


def check_length(socket: Path) -> None:
    """Raise :class:`KubeletError` if *socket* is too long a path for a socket."""
    length = len(bytes(socket))
    if length > LONGEST_SOCKET_PATH:
        raise KubeletError(
            f"{socket} has {length} bytes, and a socket's path at most {LONGEST_SOCKET_PATH}:"
            " mount its directory at a shorter path"
        )


@contextlib.asynccontextmanager
async def connected(socket: Path) -> AsyncIterator[Channel]:
    """Connect to the server at *socket*, by a connection of our own."""
    check_length(socket)
    async with grpc.aio.insecure_channel(f"unix:{socket}", options=OPTIONS) as channel:
        yield channel


async def _call(
    socket: Path,
    service: str,
    method: str,
    request: Message,
    answer: type[_Answer],
    timeout: float,
) -> _Answer:
    async with connected(socket) as channel:
        call = channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            return await call(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise KubeletError(
                f"{method} of the kubelet at {socket}: {error.code().name}: {error.details()};"
                " is the kubelet up, and its directory mounted here?"
            ) from error
