"""Pods are hardened, and the admission policies know the names of the code."""

from __future__ import annotations

import yaml

from nodeagent import pod_events
from nodeagent.api import keys
from tests.manifests.kustomize import overlay
from tests.manifests.parts import AGENT, each_overlay, find, pods


@each_overlay
def test_all_but_the_agents_are_hardened(name: str) -> None:
    for pod_name, spec in pods(overlay(name)):
        for each in spec["containers"]:
            assert each["securityContext"]["readOnlyRootFilesystem"]
            assert each["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in each["resources"]["limits"]
        if pod_name == AGENT:
            continue
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not any(spec.get(key) for key in ("hostPID", "hostNetwork", "hostIPC"))
        assert not any("hostPath" in volume for volume in spec.get("volumes", ()))
        for each in spec["containers"]:
            assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert each["securityContext"]["allowPrivilegeEscalation"] is False


@each_overlay
def test_the_policies_know_the_names_of_the_code(name: str) -> None:
    policies = {
        m["metadata"]["name"]: yaml.safe_dump(m["spec"], width=10_000)
        for m in overlay(name)
        if m["kind"] == "ValidatingAdmissionPolicy"
    }
    bound = {
        m["spec"]["policyName"]: m["spec"]["validationActions"]
        for m in overlay(name)
        if m["kind"] == "ValidatingAdmissionPolicyBinding"
    }

    assert bound == {policy: ["Deny"] for policy in policies}
    assert f'"{keys.LEASE_PREFIX}" + variables.node' in policies["tangram-agents"]
    for word in (
        keys.MANAGED_LABEL,
        keys.LEADER_LABEL,
        keys.WAKE_ANNOTATION,
        keys.UNBOUND_ANNOTATION,
    ):
        assert f'"{word}"' in policies["tangram-pods"]
    assert f"'{keys.DECISION_ANNOTATION}'" in policies["tangram-decisions"].replace("''", "'")
    assert f'"{pod_events.COMPONENT}"' in policies["tangram-agent-events"]
    for policy, text in policies.items():
        by_whom = f"system:serviceaccount:{keys.SYSTEM_NAMESPACE}:tangram-"
        by_anybody = ("tangram-created-pods", "tangram-decisions", "tangram-priority")
        assert by_whom in text or policy in by_anybody
        about_others = ("tangram-agent-events", "tangram-agent-devices", "tangram-priority")
        assert keys.GROUP in text or policy in about_others


@each_overlay
def test_the_priority_of_tangrams_pods_is_kept_from_all_others(name: str) -> None:
    manifests = overlay(name)
    (priority,) = (m["metadata"]["name"] for m in manifests if m["kind"] == "PriorityClass")
    policy = find(manifests, "ValidatingAdmissionPolicy", "tangram-priority")["spec"]

    (elsewhere,) = policy["matchConstraints"]["namespaceSelector"]["matchExpressions"]
    assert (elsewhere["operator"], elsewhere["values"]) == ("NotIn", [keys.SYSTEM_NAMESPACE])
    assert f'!= "{priority}"' in policy["validations"][0]["expression"]
