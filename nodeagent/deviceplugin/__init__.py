"""The kubelet of a real node: a device plugin, and what the kubelet tells of its devices.

The kubelet takes ids and never says for which pod. What it may take is an
:class:`~nodeagent.kubelet.Offer`; ``desk`` answers from it, ``endpoint`` serves one resource,
``registry`` keeps every resource registered, ``accounts`` reads what the kubelet tells, from which
follows which pod has what (``holdings``), and :class:`DevicePlugins` is all of it together.
"""

from nodeagent.deviceplugin.accounts import GpuPods
from nodeagent.deviceplugin.places import Places, Timing
from nodeagent.deviceplugin.plugin import DevicePlugins

__all__ = ["DevicePlugins", "GpuPods", "Places", "Timing"]
