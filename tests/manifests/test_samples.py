"""What people copy works: the pod for trials, the samples, what KubeVirt is told to permit."""

from __future__ import annotations

import yaml

from nodeagent.api import keys, resources
from tests.manifests.generate import MANIFESTS
from tests.manifests.kustomize import overlay
from tests.manifests.parts import scheduler_configuration, serve_options


def test_the_pod_for_trials_asks_for_what_is_handed_over() -> None:
    trial = yaml.safe_load((MANIFESTS / "overlays/dev/pod.yaml").read_text())
    (entry,) = scheduler_configuration(overlay("dev")).extenders or ()
    (asked,) = trial["spec"]["containers"][0]["resources"]["limits"]

    assert asked in {each.name for each in entry.managed_resources or ()}
    assert keys.GROUP not in yaml.safe_dump(trial["metadata"])
    assert "schedulerName" not in trial["spec"], "the webhook gives it both"


def test_the_sample_of_a_vm_asks_for_what_is_ours_and_kubevirt_permits() -> None:
    sample = yaml.safe_load((MANIFESTS / "samples/virtual-machine.yaml").read_text())
    template = sample["spec"]["template"]
    (profile,) = scheduler_configuration(overlay("kubevirt")).profiles or ()
    (entry,) = scheduler_configuration(overlay("kubevirt")).extenders or ()
    served = serve_options(overlay("kubevirt"))
    permitted = yaml.safe_load(
        (MANIFESTS / "overlays/kubevirt/permitted-host-devices.yaml").read_text()
    )["spec"]["configuration"]["permittedHostDevices"]["mediatedDevices"]
    (device,) = template["spec"]["domain"]["devices"]["gpus"]

    assert keys.GROUP not in yaml.safe_dump(sample)
    assert "schedulerName" not in template["spec"], "the webhook gives it both"
    assert served["scheduler_name"] == [profile.scheduler_name]
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


def test_kubevirt_permits_every_type_and_leaves_it_to_us() -> None:
    file = MANIFESTS / "overlays/kubevirt/permitted-host-devices.yaml"
    configuration = yaml.safe_load(file.read_text())["spec"]["configuration"]
    devices = configuration["permittedHostDevices"]["mediatedDevices"]

    assert devices
    for each in devices:
        assert each["externalResourceProvider"] is True
        assert each["resourceName"] in resources.of_vgpu_type(each["mdevNameSelector"])
