"""The hooks' HTTP door: kube-scheduler asks here.

``routes`` answers requests, ``description`` describes them, ``connection`` and ``listener`` see to
it that no client, slow, silent or numerous, keeps others from being answered; ``certificates``
keeps TLS current. Three doors are beside it: ``probing`` for probes alone, ``admitting`` for the
API server, which asks whether pods may be created, and ``desk`` for people and their monitoring.
"""

from extender.server.admitting import admitting
from extender.server.certificates import Certificates, CertificatesUnusable
from extender.server.desk import desk
from extender.server.limits import Limits
from extender.server.probing import probing
from extender.server.serving import serving

__all__ = [
    "Certificates",
    "CertificatesUnusable",
    "Limits",
    "admitting",
    "desk",
    "probing",
    "serving",
]
