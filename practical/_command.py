"""How the package's commands end: in one line, whatever went wrong."""

import io
import os
import signal
import sys
from collections.abc import Callable
from typing import Any


def stop_quietly() -> None:
    """Let Ctrl-C end this process in one line, until `run_command` has something to tell."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and is not ignored
        signal.signal(signal.SIGINT, _stop)


def _stop(number: int, frame: Any) -> None:
    os.write(2, b"\nStopped.\n")
    os._exit(130)  # an exception could be caught by a module that is being imported


def run_command(name: str, run: Callable[[], int], *, kept: str) -> int:
    """Run a command and return its exit status.

    A mistake or a full disk ends it in one line, and so does Ctrl-C.

    Args:
        name: Of the command, for its messages.
        run: The command; it returns its exit status.
        kept: What Ctrl-C leaves, and how to go on.
    """
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A class name that a terminal cannot show must not end a run.
            stream.reconfigure(errors="backslashreplace")
    try:
        status = run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"\nStopped: {kept}", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError, MemoryError, FloatingPointError) as error:
        print(f"{name}: {str(error) or type(error).__name__}", file=sys.stderr)
        _drop_output()
        return 1
    return status


def _drop_output() -> None:
    """Forget what could not be printed, which Python would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
