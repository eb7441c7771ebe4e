"""GPUs whose devices are Harvester's: its controller makes them, its device plugin serves them.

Harvester keeps an object for each GPU, for each virtual function and for each GPU's layout
(``objects``), and acts on what they say, as do its webhooks. So the agent makes GPU instances
through NVML (``driver``), and everything else through those objects (``door``), one safe write at a
time (``decide``, ``making``). What exists is NVML's look joined with the kernel's files and the
objects (``join``). Whose turn it is to have a device made, and when a pod may come, ``handout``
says (``turns``). ``root`` finds the driver's libraries, which are in a pod (``driver_pods``); and
NVML is shut whenever Harvester needs a GPU with nobody at it (``courtesy``, ``giving_way``).

What is known of Harvester is read in its source (pcidevices v1.7.1 and v1.8.1), unless a comment
says that it is inferred. Nothing of this has run on a real Harvester yet.
"""

from nodeagent.harvester.door import ClusterObjects
from nodeagent.harvester.driver import HarvesterDriver
from nodeagent.harvester.driver_pods import DriverPods
from nodeagent.harvester.giving_way import UNREAD
from nodeagent.harvester.handout import HarvesterHandout
from nodeagent.harvester.making import Making
from nodeagent.harvester.plugin import HarvesterPlugin
from nodeagent.harvester.root import DriverRoot

__all__ = [
    "UNREAD",
    "ClusterObjects",
    "DriverPods",
    "DriverRoot",
    "HarvesterDriver",
    "HarvesterHandout",
    "HarvesterPlugin",
    "Making",
]
