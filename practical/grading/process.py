"""A worker's process: started in the sandbox, written to and read from with deadlines, watched."""

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from practical.grading import sandbox, wire
from practical.grading.verdicts import InfrastructureError, Stopped

_PROGRAM = [sys.executable, "-P", "-B", "-m", "practical.grading.worker"]
_PATIENCE = 60.0  # seconds for a worker to read what it is sent
_LOOK = 0.25  # seconds between two looks at the worker's memory


class Process:
    """A process, its two pipes, and a watch on its memory."""

    def __init__(
        self, level: str, staged: Path, limits: sandbox.Limits, slot: int, *, keep_compiled: bool
    ):
        self.killed_for = ""
        self._limits = limits
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        self._reader, self._writer = _Reader(ours_in), _Writer(ours_out)
        self._folder = tempfile.TemporaryDirectory(prefix="worker-")
        try:
            pipes = theirs_in, theirs_out
            self._process = sandbox.start(
                [*_PROGRAM, *map(str, pipes)], level, staged, limits, slot,
                home=self._folder.name, keep_compiled=keep_compiled, pass_fds=pipes,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            self._reader.close()
            self._writer.close()
            self._folder.cleanup()
            raise InfrastructureError(f"The worker cannot be started: {error}") from error
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self._watch = threading.Thread(target=self._watch_memory, daemon=True)
        self._watch.start()
        try:
            self.receive(limits.start)
        except (Stopped, EOFError, wire.WireError) as error:
            self._kill(self.killed_for)
            assert self._process.stderr is not None
            said = self._process.stderr.read()[-2000:]
            self.close()
            words = said.decode(errors="replace").strip() or str(error)
            raise InfrastructureError(f"The worker does not start: {words}") from error
        except BaseException:  # such as Ctrl-C: nobody else knows the process yet
            self.close()
            raise

    def send(self, header: dict[str, Any], arrays: list | None = None) -> None:
        """Send a frame, to somebody who may not read it."""
        self._writer.ends = time.monotonic() + _PATIENCE
        try:
            wire.send(self._writer, header, arrays)
        except TimeoutError as error:
            self._kill("it did not read what it was sent")
            raise EOFError from error

    def receive(self, seconds: float) -> wire.Frame:
        """Return the next frame.

        Raises:
            Stopped: If none came in time; the worker is killed.
            EOFError: If the worker ended.
            WireError: If it sent what is not allowed.
        """
        self._reader.ends = time.monotonic() + seconds
        try:
            return wire.receive(self._reader)
        except TimeoutError as error:
            self._kill(f"it did not answer within {seconds:.0f} seconds")
            raise Stopped(
                "timed out", f"It did not answer within {seconds:.0f} seconds."
            ) from error

    def close(self) -> None:
        """End the process and all that it started."""
        self._kill(self.killed_for)
        self._process.wait()
        self._reader.close()
        with contextlib.suppress(OSError):
            self._writer.close()
        self._watch.join()
        if self._process.stderr is not None:
            self._process.stderr.close()
        with contextlib.suppress(OSError):
            self._folder.cleanup()

    def _kill(self, why: str) -> None:
        self.killed_for = why
        # With bubblewrap, whose processes are a namespace, the rest goes with the first; without,
        # what stayed in the worker's session goes.
        for process in _family(self._process.pid):
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, 9)

    def _watch_memory(self) -> None:
        while self._process.poll() is None:
            used = 0
            for process in _family(self._process.pid):
                with contextlib.suppress(psutil.Error):
                    used += process.memory_info().rss
            if used > self._limits.memory:
                self._kill(f"it took more than {self._limits.memory / 2**30:.1f} GB of memory")
                return
            time.sleep(_LOOK)


class _Reader:
    """A stream that gives up at a time."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self.ends = 0.0

    def read(self, count: int) -> bytes:
        """Return at most `count` bytes; none if the other end is closed."""
        left = self.ends - time.monotonic()
        if left <= 0 or not select.select([self._descriptor], [], [], left)[0]:
            raise TimeoutError
        return os.read(self._descriptor, count)

    def close(self) -> None:
        os.close(self._descriptor)


class _Writer:
    """The same for writing."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)
        self.ends = 0.0

    def write(self, content: bytes) -> None:
        """Write all of it."""
        rest = memoryview(content)
        while rest:
            left = self.ends - time.monotonic()
            if left <= 0 or not select.select([], [self._descriptor], [], left)[1]:
                raise TimeoutError
            with contextlib.suppress(BlockingIOError):
                rest = rest[os.write(self._descriptor, rest) :]

    def close(self) -> None:
        os.close(self._descriptor)


def _family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    return []
