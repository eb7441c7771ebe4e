"""A kubelet as far as a device plugin can tell: the real protocols, over the real sockets.

``manager`` decides as the kubelet's device manager does, ``checkpoint`` is its file, ``kubelet``
serves and calls over gRPC. Written against Kubernetes 1.36's ``pkg/kubelet/cm/devicemanager``; it
sits the same exam as that (``tests/contracts/devicemanager``).
"""

from tests.fakes.kubelet.kubelet import FakeKubelet
from tests.fakes.kubelet.manager import NotAdmitted
from tests.fakes.kubelet.pods import Container, Pod

__all__ = ["Container", "FakeKubelet", "NotAdmitted", "Pod"]
