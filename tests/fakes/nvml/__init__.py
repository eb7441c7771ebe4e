"""A fake ``libnvidia-ml.so.1`` for unmodified pynvml: see README.md."""
