"""Real GPUs, through NVML: the only package that imports pynvml.

Everything here blocks and runs on one thread (``thread``); only ``driver`` awaits. ``library``
finds the C library, ``session`` opens it and makes the calls, ``errors`` tells its errors in our
words. What to call stands in ``gpus``, ``profiles``, ``gpu_instances``, ``compute_instances`` and
``vgpus``. ``look`` reads what is there (with ``use``, ``health``, ``device_files`` and ``host``)
and changes nothing; ``events`` is what the driver tells unasked, and ``quarantine`` what follows
from it. ``change`` creates and destroys GPU instances; ``mode`` turns MIG on, when told to.
"""

from nodeagent.nvml.driver import NvmlDriver
from nodeagent.nvml.library import Location

__all__ = ["Location", "NvmlDriver"]
