"""A submission's worker, seen from the grader: cells that are run, functions that are called.

Whatever happens to the worker happens to this submission alone, and is told apart: the cell or call
that hung, raised, took too much memory or ended the process is left out when the worker is started
again, and only the grader's own failure is called that.
"""

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from practical.grading import sandbox, wire
from practical.grading.exercise import Exercise
from practical.grading.verdicts import InfrastructureError, Stopped
from practical.models import Classifier

_PROGRAM = [sys.executable, "-P", "-B", "-m", "practical.grading.worker"]
_STARTS = 24  # of one submission's worker, at most
_PATIENCE = 60.0  # seconds for a worker to read what it is sent
_LOOK = 0.25  # seconds between two looks at the worker's memory


class Session:
    """A worker for one submission; use it in a `with` statement.

    Of the `given` cells, the practical's own, it runs those alone that others need.

    Attributes:
        skipped: Cell -> why it was left out: it hung, or ended the worker.
        errors: Cell -> what it raised.
        there: The exercises that have a function; known after `run`.
    """

    def __init__(
        self,
        sources: list[str],
        exercises: Mapping[str, Exercise],
        *,
        staged: Path,
        level: str = "bwrap",
        limits: sandbox.Limits | None = None,
        slot: int = 0,
        keep_compiled: bool = False,
        given: Collection[str] = (),
    ):
        self._sources, self._exercises = sources, exercises
        ours = {one.strip() for one in given}
        self._given = [number for number, one in enumerate(sources) if one.strip() in ours]
        self._limits = limits or sandbox.Limits()
        self._start = partial(
            _Worker, level, staged, self._limits, slot, keep_compiled=keep_compiled
        )
        self._worker: _Worker | None = None
        self._starts, self._running = 0, -1
        self._ends = time.monotonic() + self._limits.submission
        self.skipped: dict[int, str] = {}
        self.errors: dict[int, str] = {}
        self.there: list[str] = []

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def run(self) -> None:
        """Run the cells, and again without those that end the worker; once is enough.

        Raises:
            Stopped: If it cannot be done.
            InfrastructureError: If the worker does not start, or ends before it runs a cell.
        """
        while self._worker is None:
            if self._starts >= _STARTS:
                raise Stopped("crashed", "It ended its process too often to be started again.")
            self._check_time()
            self._starts += 1
            self._worker = self._start()
            self._running = -1
            try:
                self._run_cells(self._worker)
            except (Stopped, EOFError, wire.WireError, OSError) as error:
                why = self._why(error)
                self._stop()
                if self._running < 0:  # no line of the submission's was run: it is not to blame
                    self._check_time()
                    self._starts -= 1
                    raise InfrastructureError(f"The worker did not begin: {why}") from error
                if self._running in self.skipped:
                    raise Stopped("crashed", f"The notebook could not be run: {why}.") from error
                self.skipped[self._running] = why

    def _run_cells(self, worker: "_Worker") -> None:
        """Run the cells, and note which one is running."""
        functions = {one.id: one.name for one in self._exercises.values()}
        worker.send(
            {"kind": "run", "sources": self._sources, "skip": sorted(self.skipped)}
            | {"given": self._given, "seconds": self._limits.cell, "functions": functions}
        )
        self.errors = {}
        while True:
            self._check_time()
            # A cell that catches its own alarm has the grader's.
            header = worker.receive(self._limits.cell + 10).header
            if header["kind"] == "ran":
                names = header.get("there")
                self.there = [one for one in functions if isinstance(names, list) and one in names]
                return
            number = header.get("number")
            if type(number) is not int or not 0 <= number < len(self._sources):
                raise wire.WireError("there is no such cell")
            if error := wire.plain_text(header.get("error"), 2000):
                self.errors[number] = error
            self._running = number

    def call(self, exercise: Exercise, arguments: Mapping[str, Any]) -> Any:
        """Return what the submission's function returns.

        Raises:
            Stopped: If it returns nothing that can be judged.
            InfrastructureError: If the worker does not start.
        """
        self.run()
        worker = self._worker
        assert worker is not None
        self._check_time()
        arrays: list = []
        ordered = exercise.in_order(arguments)
        values = wire.pack({name: _sent(value) for name, value in ordered.items()}, arrays)
        order = {"kind": "call", "exercise": exercise.id, "function": exercise.name}
        try:
            worker.send({**order, "values": values}, arrays)
            return _answer(worker.receive(self._limits.call))
        except (Stopped, EOFError, wire.WireError, OSError) as error:
            if isinstance(error, Stopped) and error.status not in ("timed out", "crashed"):
                raise
            why = self._why(error)
            self._stop()  # the next call runs the cells again
            if isinstance(error, Stopped):
                raise
            raise Stopped("crashed", f"The call ended its process: {why}.") from error

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _check_time(self) -> None:
        if time.monotonic() > self._ends:
            raise Stopped(
                "timed out",
                f"The whole submission took more than {self._limits.submission:.0f} seconds.",
            )

    def _why(self, error: BaseException) -> str:
        worker = self._worker
        if worker is not None and worker.killed_for:
            return worker.killed_for
        if isinstance(error, wire.WireError):
            return f"it wrote what is no answer ({error})"
        if isinstance(error, Stopped):
            return error.message
        return "it ended its process"


class _Worker:
    """A process, its two pipes, and a watch on its memory."""

    def __init__(
        self, level: str, staged: Path, limits: sandbox.Limits, slot: int, *, keep_compiled: bool
    ):
        self.killed_for = ""
        self._limits = limits
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="worker-")
            pipes = theirs_in, theirs_out
            self._process = sandbox.start(
                [*_PROGRAM, *map(str, pipes)], level, staged, limits, slot,
                home=self._folder.name, keep_compiled=keep_compiled, pass_fds=pipes,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            raise InfrastructureError(f"The worker cannot be started: {error}") from error
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self._reader = _Reader(ours_in)
        self._writer = _Writer(ours_out)
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


def _sent(value: Any) -> Any:
    if isinstance(value, Classifier):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.safetensors"
            value.save(path)
            return wire.Network(path.read_bytes())
    return value


def _answer(frame: wire.Frame) -> Any:
    """Return the value of a worker's answer, or raise why there is none."""
    header = frame.header
    if header["kind"] == "missing":
        raise Stopped("missing", "There is no function to check.")
    if header["kind"] == "returned":
        return wire.unpack(header.get("value"), frame.arrays, network=_no_network)
    if header["kind"] != "raised":
        raise wire.WireError(f"an answer of kind {header['kind'][:40]!a}")
    if header.get("blank") is True:
        raise Stopped("blank", "It is not filled in yet.")
    message, where = (wire.plain_text(header.get(name), 600) for name in ("message", "where"))
    if message.startswith("WireError: "):
        raise Stopped("wrong", f"It returned {message.removeprefix('WireError: ')}.")
    raise Stopped("raised", f"It raised {message}{' ' if where else ''}{where}.")


def _no_network(_: bytes) -> Any:
    raise wire.WireError("a network for an answer")
