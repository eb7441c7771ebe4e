"""A fake of the kernel's files for vGPUs, over the machine of ``tests/fakes/nvml``; see README."""
