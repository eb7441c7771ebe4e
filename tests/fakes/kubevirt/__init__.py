"""KubeVirt as Harvester has it: VirtualMachines become launcher pods, and a node runs them.

``machines`` is the virt-controller: VirtualMachine, VirtualMachineInstance, pod. ``launcher`` is
the pod it makes. ``nodes`` is what a node does with that: its kubelet (``tests/fakes/kubelet``)
admits it, and QEMU opens the vGPU. What is not VMs with vGPUs is left out. Written after KubeVirt
1.6.3's ``pkg/virt-controller/services``.
"""

from tests.fakes.kubevirt.launcher import virtual_machine
from tests.fakes.kubevirt.machines import KubeVirt
from tests.fakes.kubevirt.nodes import LauncherNode

__all__ = ["KubeVirt", "LauncherNode", "virtual_machine"]
