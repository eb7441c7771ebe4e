"""Whatever we describe of the kubelet's APIs is so in Kubernetes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from tests.contracts.devicemanager import published
from tests.fakes.kubelet import generate

PAIRS = {"deviceplugin": "deviceplugin/v1beta1", "podresources": "podresources/v1"}


@pytest.mark.parametrize(("ours", "theirs"), PAIRS.items())
def test_whatever_we_describe_is_so_in_kubernetes(tmp_path: Path, ours: str, theirs: str) -> None:
    mine = described(generate.ROOT / f"nodeagent/deviceplugin/proto/{ours}.proto", tmp_path)
    kubernetes = described(published("k8s.io/kubelet", f"pkg/apis/{theirs}/api.proto"), tmp_path)

    assert mine.package == kubernetes.package
    assert set(facts(mine)) - set(facts(kubernetes)) == set()


def described(path: Path, directory: Path) -> FileDescriptorProto:
    to = directory / f"{path.stem}.bin"
    generate.compile(f"-I{path.parent}", f"--descriptor_set_out={to}", str(path))
    (file,) = FileDescriptorSet.FromString(to.read_bytes()).file
    return file


def facts(file: FileDescriptorProto) -> Iterator[tuple[object, ...]]:
    """Yield what goes over the wire: the fields of messages, and the methods of services."""
    yield from of_messages(file.message_type, "")
    for service in file.service:
        for method in service.method:
            types = (method.input_type, method.output_type, method.server_streaming)
            yield (service.name, method.name, *types)


def of_messages(messages: Iterable[DescriptorProto], within: str) -> Iterator[tuple[object, ...]]:
    for message in messages:
        name = f"{within}.{message.name}"
        yield (name,)
        for field in message.field:
            yield (name, *of_field(field))
        yield from of_messages(message.nested_type, name)


def of_field(field: FieldDescriptorProto) -> tuple[object, ...]:
    return field.name, field.number, field.type, field.label, field.type_name
