"""The command line ``tangram``, also found as ``kubectl tangram``."""


def main() -> None:
    """Run the command line; whoever wants one part of it loads that alone."""
    from extender.cli.main import main as run

    run()
