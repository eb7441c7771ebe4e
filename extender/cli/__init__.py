"""The command line ``tangram``, also found as ``kubectl tangram``."""

from extender.cli.main import main

__all__ = ["main"]
