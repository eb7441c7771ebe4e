"""Whose a process is, by the control groups that the kubelet has put it into.

Each pod has a directory of its UID below ``kubepods``: ``kubepods-burstable-pod<UID>.slice`` by
systemd, where underscores stand for hyphens, or ``kubepods/burstable/pod<UID>``. A line of
``/proc/PID/cgroup`` is ``<number>:<controllers>:<path>`` (cgroups(7)): one for each hierarchy of
version 1, and a single one in version 2. Seen out of a container the path may begin with ``/..``.
"""

from __future__ import annotations

import re

_POD = re.compile(r".*-pod([0-9a-f_]{36})\.slice|pod([0-9a-f-]{36})")


def pod_of(text: str) -> str:
    """Return the UID of the pod that a process with that ``cgroup`` file is in, "" if in none.

    What is below the pod's own directory a container may name as it likes, so the outermost counts;
    and where hierarchies do not agree, somebody has moved the process.
    """
    found = {uid for line in text.splitlines() if (uid := _outermost(line.split(":", 2)[-1]))}
    return found.pop() if len(found) == 1 else ""


def _outermost(path: str) -> str:
    for name in path.split("/"):
        if match := _POD.fullmatch(name):
            systemd, cgroupfs = match.groups()
            return cgroupfs or systemd.replace("_", "-")
    return ""
