"""`python -m gnomon` and the `gnomon` script."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line with the process's arguments and exit with its code."""
    from gnomon.cli import main as run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
