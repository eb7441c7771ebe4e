"""The hooks' HTTP door: kube-scheduler asks here.

``routes`` answers requests, ``description`` describes them, ``connection`` and ``listener`` see to
it that no client, slow, silent or numerous, keeps others from being answered; ``certificates``
keeps TLS current. ``probing`` is a door beside it, for probes alone; ``desk`` one
for people and their monitoring.
"""

from extender.server.certificates import Certificates, CertificatesUnusable
from extender.server.desk import desk
from extender.server.limits import Limits
from extender.server.probing import probing
from extender.server.serving import serving

__all__ = ["Certificates", "CertificatesUnusable", "Limits", "desk", "probing", "serving"]
