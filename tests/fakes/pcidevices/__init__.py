"""Harvester's pcidevices controller, its webhooks and its device plugins; see README."""

from tests.fakes.pcidevices.admission import Admission
from tests.fakes.pcidevices.controller import Controller
from tests.fakes.pcidevices.host import Host
from tests.fakes.pcidevices.log import Log, traps
from tests.fakes.pcidevices.names import Version

__all__ = ["Admission", "Controller", "Host", "Log", "Version", "traps"]
