"""Ctrl-C before the first step of a run and after its last one."""

import contextlib
import os
import signal
import sys
from typing import Any


def end_at_interrupt() -> None:
    """Makes Ctrl-C end the process at once: what has been saved is kept, and nothing else need be.

    Python's own way, an exception, is lost where it happens to be raised in a callback of the garbage
    collector or of a weak reference, and the run would go on. While a run trains it catches Ctrl-C
    itself and saves (`training.phase.stop_requests`).
    """
    signal.signal(signal.SIGINT, _end)


def _end(number: int, _stack: Any) -> None:
    with contextlib.suppress(RuntimeError):  # it may have come while a line was printed
        print("stopped; what has been saved is kept", file=sys.stderr, flush=True)
        sys.stdout.flush()
    os._exit(128 + number)  # as shells have it
