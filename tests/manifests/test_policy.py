"""The policy in a ConfigMap: where the extender looks for it, and what it says."""

from __future__ import annotations

from pathlib import Path

from extender.policy import InForce, PolicyName
from extender.policy.file import PolicyFile, parsed, read
from extender.policy.promotion import POLICY, SHADOW
from extender.shadow.confined import MOST_BYTES
from tests.manifests.generate import MANIFESTS
from tests.manifests.kustomize import combined

SAMPLE = MANIFESTS / "samples/placement-policy.yaml"


def test_the_policy_is_mounted_where_the_extender_reads_it(copy: Path) -> None:
    manifests = combined(copy, "mtls-cert-manager", "policy")

    (deployment,) = (
        each
        for each in manifests
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", "tangram-extender")
    )
    (config,) = (each for each in manifests if each["metadata"]["name"] == "tangram-policy")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (argument,) = (each for each in container["args"] if each.startswith("--policy="))
    path = Path(argument.removeprefix("--policy="))
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == "policy")
    (volume,) = (each for each in pod["volumes"] if each["name"] == "policy")
    assert str(path.parent) == mount["mountPath"]
    assert "subPath" not in mount, "one is never changed under a running pod"
    assert volume["configMap"] == {"name": config["metadata"]["name"]}
    assert "tls" in {each["name"] for each in pod["volumes"]}
    (beside,) = (each for each in container["args"] if each.startswith("--shadow-policy="))
    shadow = Path(beside.removeprefix("--shadow-policy="))
    assert shadow.parent == path.parent
    assert (path.name, shadow.name) == (POLICY, SHADOW)
    memory = container["resources"]["limits"]["memory"]
    assert memory == f"{(2 << 30) + MOST_BYTES >> 30}Gi", "what the extender may have, and a shadow"
    assert SHADOW not in config["data"], "without the key there is no shadow"
    found = parsed(config["data"][path.name].encode(), path.name).in_force
    assert not found.rules
    assert found.policy == InForce.of(PolicyName.DEFAULT).policy


def test_the_sample_says_everything_a_policy_may_say() -> None:
    found = read(SAMPLE)

    about_values = {"demand", "weights", "trained"}  # as `tangram policy train` writes them
    for field in PolicyFile.__struct_fields__:
        assert field in about_values or getattr(found, field), field
    assert found.moves.windows
    assert not all(tenant.movable for tenant in found.tenants)
    assert all(
        getattr(found.times.times, name) is not None for name in found.times.__struct_fields__
    )
