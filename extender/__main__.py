"""``python -m extender`` is ``tangram``."""

from extender.cli import main

if __name__ == "__main__":
    main()
