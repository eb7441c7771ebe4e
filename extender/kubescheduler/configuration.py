"""The fields of ``kubescheduler.config.k8s.io/v1`` that decide how an extender is called.

Of the document as a whole only these are read; an extender's entry is read strictly, as
kube-scheduler does, which does not start on a field it does not know. Source:
``staging/src/k8s.io/kube-scheduler/config/v1/types.go`` of Kubernetes 1.36.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

API_VERSION = "kubescheduler.config.k8s.io/v1"
KIND = "KubeSchedulerConfiguration"

DEFAULT_SCHEDULER = "default-scheduler"
"""The profile that pods without a ``schedulerName`` belong to."""

_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?(?:h|ms|us|µs|ns|m|s))+")  # Go's time.Duration
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?)(h|ms|us|µs|ns|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


class MalformedConfiguration(Exception):
    """Not a KubeSchedulerConfiguration; the message names the field."""


class _Partial(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A part of the document: fields that are not ours are passed over."""


class _Whole(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    """A part of which every field is known."""


class TlsConfig(_Whole, frozen=True):
    """Whom the scheduler trusts and who it is; each certificate as a file or as base64."""

    insecure: bool = False
    server_name: str = ""
    cert_file: str = ""
    key_file: str = ""
    ca_file: str = ""
    cert_data: str = ""
    key_data: str = ""
    ca_data: str = ""


class ManagedResource(_Whole, frozen=True):
    """A resource whose pods come to the extender; None is Kubernetes' default, false."""

    name: str
    ignored_by_scheduler: bool | None = None


class Extender(_Whole, frozen=True):
    """One entry of ``extenders``."""

    url_prefix: str = ""
    filter_verb: str = ""
    prioritize_verb: str = ""
    preempt_verb: str = ""
    bind_verb: str = ""
    weight: int = 0
    http_timeout: str | None = None
    node_cache_capable: bool = False
    ignorable: bool = False
    enable_https: bool = msgspec.field(name="enableHTTPS", default=False)
    tls_config: TlsConfig | None = None
    managed_resources: tuple[ManagedResource, ...] | None = None


class LeaderElection(_Partial, frozen=True):
    """By which Lease the replicas of one scheduler elect theirs; None where not said."""

    leader_elect: bool | None = None
    resource_namespace: str = ""
    resource_name: str = ""


class PluginConfig(_Partial, frozen=True):
    """A plugin's arguments."""

    name: str = ""
    args: dict[str, Any] | None = None


class Profile(_Partial, frozen=True):
    """What one ``schedulerName`` gets."""

    scheduler_name: str = ""
    percentage_of_nodes_to_score: int | None = None
    plugin_config: tuple[PluginConfig, ...] | None = None


class Configuration(_Partial, frozen=True):
    """The document."""

    api_version: str = ""
    kind: str = ""
    leader_election: LeaderElection | None = None
    percentage_of_nodes_to_score: int | None = None
    profiles: tuple[Profile, ...] | None = None
    extenders: tuple[Extender, ...] | None = None


def read(text: bytes) -> Configuration:
    """Read a configuration from YAML, or JSON, which is YAML.

    Raises:
        MalformedConfiguration: kube-scheduler could not read it either.
    """
    try:
        found = msgspec.yaml.decode(text)
        if not isinstance(found, dict):
            raise MalformedConfiguration("not a document of fields")
        return msgspec.convert(found, Configuration)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedConfiguration(" ".join(str(error).split())) from error


def seconds(duration: str) -> float | None:
    """Return a Go duration in seconds, None if it is none.

    >>> seconds("1m30s")
    90.0
    """
    if duration == "0":
        return 0.0
    if not _DURATION.fullmatch(duration):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(duration))


def duration(seconds: float) -> str:
    """Write seconds as Go does.

    >>> duration(30.0)
    '30s'
    """
    return f"{seconds:g}s"
