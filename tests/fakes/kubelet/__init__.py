"""A kubelet as far as a device plugin can tell: the real protocols, over the real sockets.

``manager`` decides as the kubelet's device manager does, ``checkpoint`` is its file, ``kubelet``
serves and ``endpoint`` calls over gRPC. Written after Kubernetes 1.36's
``pkg/kubelet/cm/devicemanager``; both sit ``tests/contracts/test_kubelet.py``.
"""

from tests.fakes.kubelet.directories import temporary_places
from tests.fakes.kubelet.kubelet import FakeKubelet
from tests.fakes.kubelet.manager import NotAdmitted
from tests.fakes.kubelet.pods import Container, Pod

__all__ = ["Container", "FakeKubelet", "NotAdmitted", "Pod", "temporary_places"]
