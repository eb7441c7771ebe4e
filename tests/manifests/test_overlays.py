"""Every overlay builds, and says what the code says: routes, ports, options, names, times."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from extender.cli.main import app as tangram
from extender.cli.scheduler_config import SERVICE
from extender.cluster.door import PLAN_TIMEOUT_SECONDS
from extender.cluster.replica import LAST_BINDS_SECONDS
from extender.cluster.signpost import TAKE_DOWN_SECONDS
from extender.kubescheduler.configuration import Configuration, read
from extender.server import Limits
from extender.server.admitting import BODY_SECONDS, PARTING_SECONDS, PATH
from extender.server.description import describe
from extender.settings import LeaseTiming
from nodeagent import pod_events
from nodeagent.__main__ import app as tangram_agent
from nodeagent.api import keys, resources
from nodeagent.api.gpunode import Mode
from nodeagent.settings import Settings as AgentSettings
from tests.e2e.controlplane.binaries import Versions
from tests.e2e.controlplane.certificates import Authority
from tests.manifests.generate import MANIFESTS
from tests.manifests.kustomize import (
    OVERLAYS,
    Manifest,
    built,
    combined,
    overlay,
    with_certificates,
)

EXTENDER, AGENT, SCHEDULER = "tangram-extender", "tangram-agent", "tangram-scheduler"
each_overlay = pytest.mark.parametrize("name", OVERLAYS)
each_directory = pytest.mark.parametrize(
    "directory",
    sorted(file.parent for file in MANIFESTS.rglob("kustomization.yaml")),
    ids=lambda path: str(path.relative_to(MANIFESTS)),
)


def find(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = (m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name)
    return found


def pod(manifests: list[Manifest], kind: str, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = find(manifests, kind, name)["spec"]["template"]["spec"]
    return spec


def container(manifests: list[Manifest], kind: str, name: str) -> dict[str, Any]:
    (only,) = pod(manifests, kind, name)["containers"]
    found: dict[str, Any] = only
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in manifests:
        if "template" in each.get("spec", {}):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def parsed(app: typer.Typer, container: dict[str, Any], **values: str) -> dict[str, Any]:
    """Parse the container's arguments as the program does; the kubelet replaces ``$(NAME)``."""
    known = {each["name"] for each in container.get("env", ())}
    assert values.keys() <= known

    def value(match: re.Match[str]) -> str:
        assert match[1] in known
        return values[match[1]]

    command, *arguments = (
        re.sub(r"\$\(([A-Z_]+)\)", value, argument) for argument in container["args"]
    )
    group: Any = typer.main.get_command(app)
    return dict(group.commands[command].make_context(command, list(arguments)).params)


def serve_options(manifests: list[Manifest]) -> dict[str, Any]:
    return parsed(
        tangram,
        container(manifests, "Deployment", EXTENDER),
        POD_IP="10.0.0.7",
        POD_NAME="extender-0",
        POD_NAMESPACE=keys.SYSTEM_NAMESPACE,
    )


def scheduler_configuration(manifests: list[Manifest]) -> Configuration:
    mounted = {v["name"]: v for v in pod(manifests, "Deployment", SCHEDULER)["volumes"]}
    name = mounted["configuration"]["configMap"]["name"]
    (text,) = find(manifests, "ConfigMap", name)["data"].values()
    return read(text.encode())


@each_directory
def test_a_kustomization_has_everything_that_is_beside_it(directory: Path) -> None:
    found = yaml.safe_load((directory / "kustomization.yaml").read_text())
    used = [*found.get("resources", ()), *found.get("components", ())]
    for generator in (*found.get("configMapGenerator", ()), *found.get("secretGenerator", ())):
        used += [file.partition("=")[2] or file for file in generator["files"]]
    by_hand = {"permitted-host-devices.yaml", "pod.yaml"}  # as the kustomizations say
    beside = {path.name for path in directory.iterdir() if path.suffix == ".yaml"}

    assert beside - {"kustomization.yaml"} <= {*used, *by_hand}
    assert all((directory / each).exists() for each in used if not each.endswith((".crt", ".key")))


@each_overlay
def test_an_overlay_builds_and_no_object_is_there_twice(name: str) -> None:
    ids = [
        (m["apiVersion"], m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"])
        for m in overlay(name)
    ]

    assert len(ids) == len(set(ids))
    assert ("v1", "Namespace", None, keys.SYSTEM_NAMESPACE) in ids
    assert {n for *_, n, _ in ids} <= {None, keys.SYSTEM_NAMESPACE, "kube-system"}


@each_overlay
def test_whatever_a_pod_refers_to_is_there(name: str) -> None:
    manifests = overlay(name)
    accounts = {m["metadata"]["name"] for m in manifests if m["kind"] == "ServiceAccount"}
    secrets = {m["spec"]["secretName"] for m in manifests if m["kind"] == "Certificate"}
    priorities = {m["metadata"]["name"] for m in manifests if m["kind"] == "PriorityClass"}
    for _, spec in pods(manifests):
        volumes = {volume["name"] for volume in spec.get("volumes", ())}
        mounts = {m["name"] for c in spec["containers"] for m in c.get("volumeMounts", ())}
        wanted = {v["secret"]["secretName"] for v in spec.get("volumes", ()) if "secret" in v}
        assert spec["serviceAccountName"] in accounts
        assert mounts == volumes
        assert wanted <= secrets
        assert spec.get("priorityClassName") in {None, *priorities}


@each_overlay
def test_the_extenders_options_are_those_it_has(name: str) -> None:
    options = serve_options(overlay(name))

    assert options["host"] == "10.0.0.7"
    assert options["own_pod"] == f"{keys.SYSTEM_NAMESPACE}/extender-0"
    assert options["leader_elect"] is None  # which is yes, in a cluster


@each_overlay
def test_the_extenders_ports_and_probes_are_served(name: str) -> None:
    manifests = overlay(name)
    options, extender = serve_options(manifests), container(manifests, "Deployment", EXTENDER)
    ports = {port["name"]: port["containerPort"] for port in extender["ports"]}
    routes = describe(options["prefix"])["paths"]

    assert ports == {
        "hooks": options["port"],
        "probes": options["probe_port"],
        "admission": options["admission_port"],
        "desk": options["desk_port"],
    }
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = extender[probe]["httpGet"]
        assert asked["port"] == "probes"
        assert "get" in routes[asked["path"].partition("?")[0]]
    assert extender["readinessProbe"]["httpGet"]["path"] == "/readyz?standby=ok"


@each_overlay
def test_the_service_leads_to_the_leader(name: str) -> None:
    manifests = overlay(name)
    service = find(manifests, "Service", EXTENDER)
    template = find(manifests, "Deployment", EXTENDER)["spec"]["template"]
    selector = dict(service["spec"]["selector"])

    assert selector.pop(keys.LEADER_LABEL) == "true"
    assert selector.items() <= template["metadata"]["labels"].items()
    assert keys.LEADER_LABEL not in template["metadata"]["labels"]
    (port,) = service["spec"]["ports"]
    assert port["targetPort"] == "hooks"
    assert f"{EXTENDER}.{service['metadata']['namespace']}.svc" == SERVICE


@each_overlay
def test_scheduler_and_extender_agree(name: str) -> None:
    manifests = overlay(name)
    options = serve_options(manifests)
    (port,) = find(manifests, "Service", EXTENDER)["spec"]["ports"]
    (entry,) = scheduler_configuration(manifests).extenders or ()
    spec = pod(manifests, "Deployment", SCHEDULER)
    mounts = {m["name"]: m["mountPath"] for m in spec["containers"][0]["volumeMounts"]}

    assert entry.url_prefix == f"https://{SERVICE}:{port['port']}{options['prefix']}"
    assert entry.http_timeout == f"{options['http_timeout']:g}s"
    assert entry.tls_config is not None
    assert {
        Path(file).parent
        for file in (
            entry.tls_config.ca_file,
            entry.tls_config.cert_file,
            entry.tls_config.key_file,
        )
    } == {Path(mounts["tls"])}


@each_overlay
def test_certificates_say_the_names_that_are_asked_for(name: str) -> None:
    manifests = overlay(name)
    (allowed,) = serve_options(manifests)["client_name"]
    client = find(manifests, "Certificate", SCHEDULER)["spec"]
    server = find(manifests, "Certificate", EXTENDER)["spec"]

    assert client["commonName"] == allowed
    assert "client auth" in client["usages"]
    assert SERVICE in server["dnsNames"]
    assert called(manifests) in server["dnsNames"]
    assert "server auth" in server["usages"]
    assert client["issuerRef"] == server["issuerRef"]


def hours(duration: str) -> int:
    """Read a duration as ours are written."""
    assert re.fullmatch(r"[0-9]+h", duration)
    return int(duration[:-1])


@each_overlay
def test_certificates_are_as_cert_managers_own_webhook_demands(name: str) -> None:
    """Its definitions do not say it, internal/apis/certmanager/validation/certificate.go does."""
    certificates = [m for m in overlay(name) if m["kind"] == "Certificate"]
    issuers = {m["metadata"]["name"] for m in overlay(name) if m["kind"] == "Issuer"}
    written = [each["spec"]["secretName"] for each in certificates]

    assert len(set(written)) == len(written) == 3
    for spec in (each["spec"] for each in certificates):
        assert 1 <= hours(spec["renewBefore"]) < hours(spec["duration"])
        assert len(spec["commonName"]) <= 64
        assert (
            spec["privateKey"]["size"]
            in {"ECDSA": (256, 384, 521)}[spec["privateKey"]["algorithm"]]
        )
        assert spec["issuerRef"]["name"] in issuers


def webhook(manifests: list[Manifest]) -> dict[str, Any]:
    (found,) = find(manifests, "MutatingWebhookConfiguration", "tangram-pods")["webhooks"]
    return dict(found)


def called(manifests: list[Manifest]) -> str:
    """Return the name by which the API server calls the webhook."""
    service = webhook(manifests)["clientConfig"]["service"]
    return f"{service['name']}.{service['namespace']}.svc"


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
def test_the_api_server_is_told_whom_to_trust_by_the_issuer_of_the_extenders_certificate(
    name: str,
) -> None:
    manifests = overlay(name)
    injected = find(manifests, "MutatingWebhookConfiguration", "tangram-pods")["metadata"]
    certificate = find(manifests, "Certificate", EXTENDER)["metadata"]

    assert injected["annotations"] == {
        "cert-manager.io/inject-ca-from": f"{certificate['namespace']}/{certificate['name']}"
    }


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


@each_overlay
def test_the_second_scheduler_has_the_lease_that_its_role_allows(name: str) -> None:
    manifests = overlay(name)
    election = scheduler_configuration(manifests).leader_election
    role = find(manifests, "Role", SCHEDULER)

    assert election is not None
    assert election.resource_namespace == role["metadata"]["namespace"]
    assert [rule.get("resourceNames") for rule in role["rules"]] == [
        None,
        [election.resource_name],
    ]


def test_the_scheduler_is_of_the_version_that_is_tried() -> None:
    image = container(overlay("default"), "Deployment", SCHEDULER)["image"]

    assert image == f"registry.k8s.io/kube-scheduler:{Versions.read().kubernetes}"


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("default", Mode.CONTAINER),
        ("kubevirt", Mode.VGPU_VFIO),
        ("harvester", Mode.HARVESTER),
    ],
)
def test_the_agents_options_are_those_it_has(
    name: str, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = container(overlay(name), "DaemonSet", AGENT)
    monkeypatch.setenv("NODE_NAME", "node-7")

    options = parsed(tangram_agent, agent)

    assert [each["name"] for each in agent["env"]] == ["NODE_NAME"]
    assert options["node"] == ["node-7"]
    assert options["mode"] is mode
    mounted = {Path(each["mountPath"]) for each in agent["volumeMounts"]}
    assert {
        options["state_dir"],
        options["kubelet_dir"],
        options["pod_resources"].parent,
    } <= mounted
    if mode is Mode.HARVESTER:  # its driver is in a pod, found by the node's processes
        assert options["host_root"] == Path("/")
        assert options["root"] is None or options["root"] == Path("/")
        assert options["enable_sriov"]
        assert pod(overlay(name), "DaemonSet", AGENT)["hostPID"]
    else:
        assert options["cdi_dir"] in mounted
        assert options["root"] / "usr" in mounted


def test_simulated_agents_serve_the_simulated_nodes_and_the_real_ones_are_gone() -> None:
    manifests = overlay("dev")
    options = parsed(tangram_agent, container(manifests, "Deployment", "tangram-simulated-agent"))

    nodes = {m["metadata"]["name"] for m in manifests if m["kind"] == "Node"}
    assert set(options["node"]) == nodes
    assert all(name.startswith("tangram-simulated-") for name in nodes)
    assert not any(m["kind"] == "DaemonSet" for m in manifests)


def test_the_pod_for_trials_asks_for_what_is_handed_over() -> None:
    trial = yaml.safe_load((MANIFESTS / "overlays/dev/pod.yaml").read_text())
    (entry,) = scheduler_configuration(overlay("dev")).extenders or ()
    (profile,) = scheduler_configuration(overlay("dev")).profiles or ()
    (asked,) = trial["spec"]["containers"][0]["resources"]["limits"]

    assert asked in {each.name for each in entry.managed_resources or ()}
    assert trial["spec"]["schedulerName"] == profile.scheduler_name
    assert trial["metadata"]["labels"] == {keys.MANAGED_LABEL: "true"}


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
def test_a_pod_that_is_told_to_end_has_the_time_it_takes(name: str) -> None:
    manifests = overlay(name)

    extender = pod(manifests, "Deployment", EXTENDER)
    (only,) = extender["containers"]
    lame_seconds = only["lifecycle"]["preStop"]["sleep"]["seconds"]
    # Hidden, binds answered, writes settled, the lead given back, and each of its doors closed.
    takes_seconds = (
        TAKE_DOWN_SECONDS
        + LAST_BINDS_SECONDS
        + PLAN_TIMEOUT_SECONDS
        + LeaseTiming().attempt_seconds
        + PARTING_SECONDS
        + len(only["ports"]) * Limits().shutdown_seconds
    )
    assert lame_seconds + takes_seconds <= extender["terminationGracePeriodSeconds"]
    if name != "dev":
        agent = pod(manifests, "DaemonSet", AGENT)
        assert agent["terminationGracePeriodSeconds"] > AgentSettings().drain_seconds


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
    for word in (keys.MANAGED_LABEL, keys.LEADER_LABEL, keys.WAKE_ANNOTATION):
        assert f'"{word}"' in policies["tangram-pods"]
    assert f"'{keys.DECISION_ANNOTATION}'" in policies["tangram-decisions"].replace("''", "'")
    assert f'"{pod_events.COMPONENT}"' in policies["tangram-agent-events"]
    for policy, text in policies.items():
        by_whom = f"system:serviceaccount:{keys.SYSTEM_NAMESPACE}:tangram-"
        assert by_whom in text or policy == "tangram-decisions"  # which nobody may change
        about_others = ("tangram-agent-events", "tangram-agent-devices")
        assert keys.GROUP in text or policy in about_others


def test_the_sample_of_a_vm_is_scheduled_and_watched_by_us_and_permitted_by_kubevirt() -> None:
    sample = yaml.safe_load((MANIFESTS / "samples/virtual-machine.yaml").read_text())
    template = sample["spec"]["template"]
    (profile,) = scheduler_configuration(overlay("kubevirt")).profiles or ()
    (entry,) = scheduler_configuration(overlay("kubevirt")).extenders or ()
    permitted = yaml.safe_load(
        (MANIFESTS / "overlays/kubevirt/permitted-host-devices.yaml").read_text()
    )["spec"]["configuration"]["permittedHostDevices"]["mediatedDevices"]
    (device,) = template["spec"]["domain"]["devices"]["gpus"]

    assert template["metadata"]["labels"][keys.MANAGED_LABEL] == "true"
    assert template["spec"]["schedulerName"] == profile.scheduler_name
    assert device["deviceName"] in {each.name for each in entry.managed_resources or ()}
    assert device["deviceName"] in {each["resourceName"] for each in permitted}


def test_the_sample_for_harvester_leaves_to_the_webhook_what_it_sets() -> None:
    sample = yaml.safe_load((MANIFESTS / "samples/harvester-virtual-machine.yaml").read_text())
    template = sample["spec"]["template"]
    (profile,) = scheduler_configuration(overlay("harvester")).profiles or ()
    (entry,) = scheduler_configuration(overlay("harvester")).extenders or ()
    (device,) = template["spec"]["domain"]["devices"]["gpus"]
    managed = {each.name: each.ignored_by_scheduler for each in entry.managed_resources or ()}

    assert keys.GROUP not in yaml.safe_dump(sample)
    assert "schedulerName" not in template["spec"]
    assert serve_options(overlay("harvester"))["scheduler_name"] == [profile.scheduler_name]
    assert managed[device["deviceName"]] is True
    assert set(managed.values()) == {True}


def test_the_scheduler_for_harvester_is_no_newer_than_its_api_servers() -> None:
    image = container(overlay("harvester"), "Deployment", SCHEDULER)["image"]
    name, _, tag = image.partition(":v")
    minor = int(tag.split(".")[1])

    assert name == "registry.k8s.io/kube-scheduler"
    for of_harvester in (34, 35):  # 1.7's Kubernetes, and 1.8's
        assert of_harvester - 1 <= minor <= of_harvester


def test_kubevirt_permits_every_type_and_leaves_it_to_us() -> None:
    file = MANIFESTS / "overlays/kubevirt/permitted-host-devices.yaml"
    configuration = yaml.safe_load(file.read_text())["spec"]["configuration"]
    devices = configuration["permittedHostDevices"]["mediatedDevices"]

    assert devices
    for each in devices:
        assert each["externalResourceProvider"] is True
        assert each["resourceName"] in resources.of_vgpu_type(each["mdevNameSelector"])


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of all manifests, to put things beside them."""
    return Path(shutil.copytree(MANIFESTS, tmp_path / "manifests"))


def test_certificates_of_ones_own_go_where_the_pods_look(copy: Path, tmp_path: Path) -> None:
    with_certificates(copy, Authority(tmp_path))

    manifests = combined(copy, "admission", "mtls-secrets", "second-scheduler")

    secret = partial(find, manifests, "Secret")
    for name, kind in ((EXTENDER, "Deployment"), (SCHEDULER, "Deployment")):
        volumes = {v["name"]: v for v in pod(manifests, kind, name)["volumes"]}
        found = secret(volumes["tls"]["secret"]["secretName"])
        assert found["data"].keys() == {"ca.crt", "tls.crt", "tls.key"}
    trusted = base64.b64decode(webhook(manifests)["clientConfig"]["caBundle"])
    assert trusted == (copy / "components/mtls-secrets/ca.crt").read_bytes()


def test_without_the_webhook_the_rest_is_the_same(copy: Path, tmp_path: Path) -> None:
    with_certificates(copy, Authority(tmp_path))

    for certificates in ("mtls-secrets", "mtls-cert-manager"):
        manifests = combined(copy, certificates)
        assert not any(m["kind"] == "MutatingWebhookConfiguration" for m in manifests)
        assert serve_options(manifests)["admission_port"] is None


def test_the_default_scheduler_is_given_a_patch_and_no_other_scheduler_comes(copy: Path) -> None:
    manifests = combined(copy, "mtls-cert-manager", "default-scheduler")

    (text,) = find(manifests, "ConfigMap", "tangram-scheduler-patch")["data"].values()
    assert read(text.encode()).profiles is None
    assert not any(
        m["metadata"]["name"] == SCHEDULER for m in manifests if m["kind"] == "Deployment"
    )


def test_every_image_can_be_pinned_by_its_digest_as_the_page_says(copy: Path) -> None:
    (said,) = re.findall(
        r"```yaml\n(images:.*?)```", (MANIFESTS / "README.md").read_text(), re.DOTALL
    )
    digest = "sha256:" + "0" * 64
    images = yaml.safe_load(said.replace("sha256:…", digest).replace("REGISTRY", "mirror.example"))
    file = copy / "overlays/default/kustomization.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | images))

    found = {c["image"] for _, spec in pods(built(file.parent)) for c in spec["containers"]}

    assert found == {f"{each['newName']}@{digest}" for each in images["images"]}
