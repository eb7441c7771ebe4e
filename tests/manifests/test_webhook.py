"""The API server asks the webhook where it is served, about what is ours, and fails closed."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from extender.admission.judge import MANAGED
from extender.kubescheduler.configuration import DEFAULT_SCHEDULER
from extender.server.admitting import BODY_SECONDS, PATH
from nodeagent.api import keys, resources
from tests.manifests.kustomize import combined, overlay
from tests.manifests.parts import (
    EXTENDER,
    each_overlay,
    find,
    scheduler_configuration,
    serve_options,
    webhook,
)


@each_overlay
def test_the_api_server_calls_the_webhook_of_any_replica_where_it_is_served(name: str) -> None:
    manifests = overlay(name)
    asked = webhook(manifests)["clientConfig"]["service"]
    service = find(manifests, "Service", asked["name"])
    template = find(manifests, "Deployment", EXTENDER)["spec"]["template"]

    assert asked["path"] == PATH
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    (port,) = service["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (asked["port"], "admission")


@each_overlay
def test_the_webhook_is_asked_about_new_pods_alone_and_fails_closed(name: str) -> None:
    hook = webhook(overlay(name))

    assert hook["failurePolicy"] == "Fail"
    assert hook["sideEffects"] == "None"
    (rule,) = hook["rules"]
    assert (rule["resources"], rule["operations"]) == (["pods"], ["CREATE"])
    assert not {"namespaceSelector", "objectSelector"} & hook.keys()  # no place is exempt
    assert hook["timeoutSeconds"] == BODY_SECONDS


@each_overlay
def test_pods_that_name_no_scheduler_get_the_one_that_is_there(name: str) -> None:
    manifests = overlay(name)
    (profile,) = scheduler_configuration(manifests).profiles or ()

    assert serve_options(manifests)["scheduler_name"] == [profile.scheduler_name]


@each_overlay
def test_what_was_made_of_a_pod_in_the_end_is_looked_at_by_the_same_condition(name: str) -> None:
    manifests = overlay(name)
    policy = find(manifests, "ValidatingAdmissionPolicy", "tangram-created-pods")["spec"]
    looked_at = " && ".join(each["expression"] for each in policy["validations"])

    assert policy["failurePolicy"] == "Fail"
    assert policy["matchConditions"] == webhook(manifests)["matchConditions"]
    assert policy["matchConstraints"]["resourceRules"] == [
        {key: value for key, value in rule.items() if key != "scope"}
        for rule in webhook(manifests)["rules"]
    ]
    assert "object.spec.nodeName == ''" in looked_at
    assert f"object.metadata.labels['{keys.MANAGED_LABEL}'] == '{MANAGED}'" in looked_at
    names = serve_options(manifests)["scheduler_name"]
    assert f"object.spec.schedulerName in {names}" in looked_at


def test_with_the_clusters_own_scheduler_pods_are_to_go_there(copy: Path) -> None:
    manifests = combined(copy, "admission", "mtls-cert-manager", "default-scheduler")
    policy = find(manifests, "ValidatingAdmissionPolicy", "tangram-created-pods")["spec"]

    asked = [each["expression"] for each in policy["validations"]]
    assert f"object.spec.schedulerName in ['{DEFAULT_SCHEDULER}']" in asked


def asked_about(resource: str) -> bool:
    """Tell what the condition of the webhook says of a resource, as CEL would."""
    (condition,) = webhook(overlay("default"))["matchConditions"]
    mig, vgpu = re.findall(r"matches\('\^(.*?)\$'\)", condition["expression"])
    mig, vgpu = (pattern.replace("\\\\", "\\") for pattern in (mig, vgpu))
    return len(resource) <= 317 and bool(
        (re.fullmatch(mig, resource) and not resource.endswith(".shared"))
        or re.fullmatch(vgpu, resource)
    )


MIG_LIKE = st.from_regex(
    r"nvidia\.com/mig-[0-9]{1,2}g?\.[0-9]{1,3}gb([.-][a-z.]{0,9})?", fullmatch=True
)


VGPU_LIKE = st.from_regex(
    r"nvidia\.com/[A-Za-z0-9_.-]{0,20}-[0-9]{1,2}-[0-9]{1,3}[A-Q]?(ME|NOME|MEALL|GFX|X)?",
    fullmatch=True,
)


@given(st.one_of(MIG_LIKE, VGPU_LIKE, st.text(max_size=20)))
@example("nvidia.com/mig-1g.10gb.shared")
@example("nvidia.com/mig-1g.10gb.me")
@example("nvidia.com/NVIDIA_H100XM-1-10C")
@example("nvidia.com/" + "A" * 310 + "-1-10C")
@example("nvidia.com/gpu")
def test_the_api_server_asks_about_exactly_the_resources_that_are_ours(resource: str) -> None:
    assert asked_about(resource) == resources.ours(resource)
