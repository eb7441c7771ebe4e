"""Every name Tangram puts on an API object or asks the API server for, once."""

from __future__ import annotations

from typing import Final

GROUP: Final = "tangram.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
GPU_NODE_KIND: Final = "GpuNode"
GPU_NODE_PLURAL: Final = "gpunodes"

SYSTEM_NAMESPACE: Final = "tangram-system"
"""Where Tangram itself runs and where the agents' Leases live."""

LEASE_PREFIX: Final = "tangram-agent-"
"""The Lease of the agent on Node ``n`` is ``tangram-agent-n``."""

LEADER_LEASE: Final = "tangram-extender"
"""The Lease in ``SYSTEM_NAMESPACE`` whose holder is the extender that answers and writes."""

LEADER_LABEL: Final = "tangram.dev/leader"
"""Label on the leader's own pod while it answers; the hooks' Service selects it."""

DEMAND_ANNOTATION: Final = "tangram.dev/demand"
"""On ``LEADER_LEASE``: what has been asked for lately, left by a leader for the next one (see
``extender.service.memory``)."""

DRIVER_UNAVAILABLE: Final = "DriverUnavailable"
"""Reason of a condition: the driver does not answer, and the rest is what was known before."""

MANAGED_LABEL: Final = "tangram.dev/managed"
"""Label on every pod that asks for a GPU instance; the extender's pod watch selects it."""

AGENT_LABEL: Final = "tangram.dev/agent"
"""Label on every agent's Lease; the extender's Lease watch selects it."""

GANG: Final = "tangram.dev/gang"
"""Annotation or label on a pod: the gang it belongs to, within its namespace."""

GANG_SIZE: Final = "tangram.dev/gang-size"
"""Annotation or label on each pod of a gang: how many pods must be placed together."""

SPREAD_ANNOTATION: Final = "tangram.dev/spread"
"""On a pod of several vGPUs: whether they must share a GPU, or lie on distinct ones."""

MOVABLE: Final = "tangram.dev/movable"
"""Annotation on a pod, or on its VirtualMachine: "false" if the VM is not to be moved for others.

"restart" if it may even be stopped for that where its eviction is refused; that only the pod says.
Any value but "true" and "restart" protects the VM: whoever has written it meant something."""

MOVABLE_VALUES: Final = ("true", "restart")
"""Those by which a VM may be moved, as it may without the annotation."""

PREEMPTOR: Final = "Preemptor"
"""The owner's kind of a reservation that is a pod's own, which waits there for others to leave.

The owner's name is the pod's UID. No object is of that kind.
"""

MOVE_VERB: Final = "move"
"""The verb of GpuNodes, in RBAC, for whoever may have VMs moved; the API server has none such."""

MOVE_PREFIX: Final = "move-"
"""What the ids of reservations begin with that are held for an order of moves."""

AHEAD_SUFFIX: Final = "-ahead"
"""What the ids of those end with that keep a place for a move whose turn has yet to come."""

ORDER_CONFIG_MAP: Final = "tangram-moves"
"""The ConfigMap in ``SYSTEM_NAMESPACE`` with the last order of moves, and how far it has come."""

SAFE_TO_EVICT: Final = "cluster-autoscaler.kubernetes.io/safe-to-evict"
"""Kubernetes' annotation on a pod: "false" if whoever drains nodes is to leave it."""

DECISION_ANNOTATION: Final = "tangram.dev/decision"
"""On a bound pod: where each of its GPU instances is, as JSON (see ``gpunode.Decision``)."""

UNBOUND_ANNOTATION: Final = "tangram.dev/unbound"
"""On a pod whose place is being given back: something new each time, and the ids of its entries
(see ``extender.service.unbound``)."""

GPUS_ANNOTATION: Final = "tangram.dev/gpus"
"""On a GpuNode: which of the node's GPUs Tangram may use (see ``nodeagent.purview``)."""

ASSIGNMENT_ANNOTATION: Final = "tangram.dev/assignment"
"""On a Harvester VGPUDevice that the agent has enabled: for which assignment."""

NEUTRAL_ANNOTATION: Final = "tangram.dev/neutral"
"""On a Harvester MigConfiguration that the agent has made neutral, so that it can undo that."""

HANDED_BACK: Final = "handed-back"
"""What ``NEUTRAL_ANNOTATION`` says once Harvester is to look again, before that is undone."""

LEFT_ALONE_ANNOTATION: Final = "tangram.dev/left-alone"
"""On a Harvester SRIOVGPUDevice: changed when the agent has let go of its GPU for Harvester."""

WAKE_ANNOTATION: Final = "tangram.dev/room-appeared"
"""On the extender's own pod: changed whenever room appears for a pod that was refused.

A change of an assigned pod is one of the events upon which kube-scheduler retries rejected pods.
"""

READY: Final = "Ready"
DRIFT: Final = "Drift"
GPUS_CHOSEN: Final = "GpusChosen"
RIVAL_PLUGINS: Final = "RivalPlugins"
GPUS_PREPARED: Final = "GpusPrepared"

CONDITIONS: Final = (READY, DRIFT, GPUS_CHOSEN, RIVAL_PLUGINS, GPUS_PREPARED)
"""The conditions of a GpuNode: ``Ready`` always, the others while there is something to say."""

RESOURCE_DOMAIN: Final = "nvidia.com/"


def lease_name(node: str) -> str:
    """Return the name of the Lease by which the agent on *node* shows that it lives."""
    return LEASE_PREFIX + node
