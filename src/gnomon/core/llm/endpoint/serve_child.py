"""The process of a local server: `transformers serve`, ended as soon as its standard input ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

FAREWELL_S = 3.0
"""Time to end in order before the process ends anyhow."""


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(FAREWELL_S)
    os._exit(1)


def main() -> None:
    """Run the `transformers` command line with this program's words, for as long as the parent lives."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from transformers.cli.transformers import (
        app,
    )  # its main() looks for updates first; the command alone does not

    app(sys.argv[1:])


if __name__ == "__main__":
    main()
