"""A submission's worker, seen from the grader: cells that are run, functions that are called.

Whatever happens to the worker happens to this submission alone, and is told apart: the cell or call
that hung, raised, took too much memory or ended the process is left out when the worker is started
again, and only the grader's own failure is called that.
"""

import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from practical.grading import sandbox, wire
from practical.grading.asking import Weighted, advice
from practical.grading.exercise import Exercise
from practical.grading.process import Process
from practical.grading.verdicts import InfrastructureError, Stopped, Verdict, judge
from practical.models import Classifier

_STARTS = 24  # of one submission's worker, at most
_AGAIN = ("wrong", "raised", "blank")  # at the check line: the state after all cells may be right


class Session:
    """A worker for one submission; use it in a `with` statement.

    Of the `given` cells, the practical's own, it runs only those that others need.

    Attributes:
        skipped: Cell -> why it was left out: it hung, or ended the worker.
        errors: The cells that raised an error.
        there: The exercises that have a function after the last cell.
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
        ours = {cell.strip() for cell in given}
        self._given = [number for number, cell in enumerate(sources) if cell.strip() in ours]
        self._limits = limits or sandbox.Limits()
        self._start = partial(
            Process, level, staged, self._limits, slot, keep_compiled=keep_compiled
        )
        self._process: Process | None = None
        self._starts, self._running = 0, -1
        self._ends = time.monotonic() + self._limits.submission
        self.skipped: dict[int, str] = {}
        self.errors: set[int] = set()
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

    def judge(self, rng: Callable[[str], np.random.Generator]) -> dict[str, Verdict]:
        """Return the verdict of each exercise: never an exception of the submission's making.

        An exercise counts if it passes at its `check` line or after the last cell (`exercises`).

        Args:
            rng: Returns the generator of an exercise's cases.
        """
        verdicts: dict[str, Verdict] = {}
        try:
            for exercise in self.exercises():
                before = verdicts.get(exercise.id)
                if before is not None and before.status not in _AGAIN:
                    continue
                verdict = judge(
                    exercise, partial(self.call, exercise), rng(exercise.id), hidden=True
                )
                if before is None or before.status == "blank" or verdict.status == "passed":
                    verdicts[exercise.id] = verdict
        except Stopped as stopped:
            rest = Verdict(stopped.status, stopped.message)
            return dict.fromkeys(self._exercises, rest) | verdicts
        except Exception as error:  # the grader's own: never a zero
            rest = Verdict("infrastructure", f"{type(error).__name__}: {error}")
            passed = {one: found for one, found in verdicts.items() if found.status == "passed"}
            return dict.fromkeys(self._exercises, rest) | passed
        why = ": a cell could not be run." if self.errors or self.skipped else "."
        return {
            one.id: Verdict("missing", f"There is no function `{one.name}`{why}")
            for one in self._exercises.values()
        } | verdicts

    def exercises(self) -> Iterator[Exercise]:
        """Run the cells, and yield each exercise whenever it is to be called.

        That is where the student checked it: after the statement with its last `check`, with the
        names that the cells above define. After the last cell, all that have a function follow.

        Raises:
            Stopped: If the submission cannot be run.
            InfrastructureError: If the worker does not start, or ends before it runs a cell.
        """
        yield from self._run(set(self._exercises))
        for exercise in self._exercises.values():
            yield from self._run(set())  # again, if a call has ended the worker
            if exercise.id in self.there:
                yield exercise

    def _run(self, unchecked: set[str]) -> Iterator[Exercise]:
        """Run the cells in a new worker unless there is one, and leave out what ends the worker."""
        while self._process is None:
            self._process = self._begin(unchecked)
            try:
                yield from self._run_cells(self._process, unchecked)
            except (Stopped, EOFError, wire.WireError, OSError) as error:
                self._leave_out(error)

    def _begin(self, unchecked: set[str]) -> Process:
        """Start a worker, and send it the cells."""
        if self._starts >= _STARTS:
            raise Stopped("crashed", "It ended its process too often to be started again.")
        self._check_time()
        self._starts, self._running, self.errors = self._starts + 1, -1, set()
        process = self._start()
        try:
            process.send(
                {"kind": "run", "sources": self._sources, "skip": sorted(self.skipped)}
                | {"given": self._given, "seconds": self._limits.cell}
                | {"functions": {one.id: one.name for one in self._exercises.values()}}
                | {"unchecked": sorted(unchecked)}
            )
        except (wire.WireError, EOFError, OSError) as error:
            process.close()
            if isinstance(error, wire.WireError):
                raise Stopped("refused", f"Its code cells cannot be run: {error}.") from error
            raise InfrastructureError(f"The worker did not begin: {error}") from error
        return process

    def _run_cells(self, process: Process, unchecked: set[str]) -> Iterator[Exercise]:
        """Follow the worker through the cells, and note which one is running."""
        while True:
            self._check_time()
            # The worker stops a cell that is too slow. The grader stops one that prevents that.
            header = process.receive(self._limits.cell + 10).header
            if header["kind"] == "ran":
                names = header.get("there")
                self.there = [
                    exercise
                    for exercise in self._exercises
                    if isinstance(names, list) and exercise in names
                ]
                return
            if header["kind"] == "checked":
                exercise = header.get("exercise")
                if not isinstance(exercise, str) or exercise not in unchecked:
                    raise wire.WireError("there is no such exercise to check, or no more")
                unchecked.remove(exercise)
                yield self._exercises[exercise]
                if self._process is None:  # a call has ended it
                    return
                process.send({"kind": "continue"})
                continue
            number = header.get("number")
            if type(number) is not int or not 0 <= number < len(self._sources):
                raise wire.WireError("there is no such cell")
            if header.get("raised") is True:
                self.errors.add(number)
            self._running = number

    def _leave_out(self, error: BaseException) -> None:
        """Note that the running cell has ended the worker."""
        why = self._why(error)
        self._stop()
        if self._running < 0:  # no line of the submission's was run: it is not to blame
            self._check_time()
            raise InfrastructureError(f"The worker did not begin: {why}") from error
        if self._running in self.skipped:
            raise Stopped("crashed", f"The notebook could not be run: {why}.") from error
        self.skipped[self._running] = why

    def call(self, exercise: Exercise, arguments: Mapping[str, Any]) -> Any:
        """Return what the submission's function returns, while `exercises` waits at it.

        Raises:
            Stopped: If it returns nothing that can be judged.
        """
        process = self._process
        assert process is not None, "a call comes after `exercises` has yielded"
        self._check_time()
        arrays: list = []
        ordered = exercise.in_order(arguments)
        values = wire.pack({name: _sent(value) for name, value in ordered.items()}, arrays)
        order = {"kind": "call", "exercise": exercise.id, "function": exercise.name}
        try:
            process.send({**order, "values": values}, arrays)
            return _answer(process.receive(self._limits.call), arguments)
        except (Stopped, EOFError, wire.WireError, OSError) as error:
            if isinstance(error, Stopped) and error.status not in ("timed out", "crashed"):
                raise
            why = self._why(error)
            self._stop()  # `exercises` runs the cells again
            if isinstance(error, Stopped):
                raise
            raise Stopped("crashed", f"The call ended its process: {why}.") from error

    def _stop(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None

    def _check_time(self) -> None:
        if time.monotonic() > self._ends:
            raise Stopped(
                "timed out",
                f"The whole submission took more than {self._limits.submission:.0f} seconds.",
            )

    def _why(self, error: BaseException) -> str:
        if self._process is not None and self._process.killed_for:
            return self._process.killed_for
        if isinstance(error, wire.WireError):
            # It may quote what the other end wrote.
            return wire.plain_text(f"it wrote what is no answer ({error})")
        if isinstance(error, Stopped):
            return error.message
        return "it ended its process"


def _sent(value: Any) -> Any:
    if isinstance(value, Weighted):
        return {"network": _sent(value.model), "weights": value.weights}
    if isinstance(value, Classifier):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.safetensors"
            value.save(path)
            return wire.Network(path.read_bytes())
    return value


def _answer(frame: wire.Frame, arguments: Mapping[str, Any]) -> Any:
    """Return the value of a worker's answer, or raise why there is none."""
    header = frame.header
    if header["kind"] == "missing":
        raise Stopped("missing", "There is no function to check.")
    if header["kind"] == "returned":
        return wire.unpack(header.get("value"), frame.arrays, network=_no_network)
    if header["kind"] != "raised":
        raise wire.WireError(f"an answer of kind {header['kind'][:40]!a}")
    if header.get("blank") is True:
        raise Stopped("blank", "It has not been written yet.")
    message, where = (wire.plain_text(header.get(name), 600) for name in ("message", "where"))
    if message.startswith("WireError: "):
        raise Stopped("wrong", f"It returned {message.removeprefix('WireError: ')}.")
    words = f"It raised {message}{' ' if where else ''}{where}. {advice(message, arguments)}"
    raise Stopped("raised", words.rstrip())


def _no_network(_: bytes) -> Any:
    raise wire.WireError("a network for an answer")
