"""Runs a student's cells and calls their functions, inside the sandbox.

    python -m practical.grading.worker READ WRITE

READ and WRITE are file descriptors of the wire. Whoever reads the answers trusts nothing that this
process says: a student's code lives in it, and may do with it what it likes.

    grader                              worker
    run     sources, skip, given, seconds
                                        cell      number, state, error
                                        ran       the exercises that have a function
    call    exercise, function, values
                                        returned  value
                                        raised    type, message, where, blank
                                        missing
"""

import ast
import codeop
import contextlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from practical.grading import wire
from practical.grading.asking import ask, is_blank
from practical.grading.stand_ins import CHECKED, Absent
from practical.grading.unused import Names, names, unused

_MOST_TEXT = 2000  # characters of an error that are passed on


class CellTimeout(BaseException):  # not an Exception, so that `except Exception` lets it pass
    """A cell took longer than it may."""


def main() -> int:
    """Answer the grader until it hangs up."""
    reading = open(int(sys.argv[1]), "rb", buffering=0)
    writing = open(int(sys.argv[2]), "wb")
    # What cells print goes nowhere: nobody reads 100 MB.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(nowhere, stream.fileno())
    notebook = _Notebook()

    def tell(header: dict[str, Any], arrays: list | None = None) -> None:
        wire.send(writing, header, arrays)
        writing.flush()

    tell({"kind": "ready"})
    while True:
        try:
            frame = wire.receive(reading)
        except EOFError:
            return 0
        if frame.header["kind"] == "run":
            notebook.run(frame.header, tell)
        else:
            tell(*notebook.call(frame))


class _Notebook:
    """The namespace of a student's cells."""

    def __init__(self) -> None:
        from IPython.core.interactiveshell import InteractiveShell

        # The magics, `display` and `get_ipython` of a kernel, without a kernel's sockets.
        self._shell = InteractiveShell.instance()
        self._compile = codeop.Compile()  # which remembers a `from __future__ import`
        self._answers: dict[str, Callable] = {}  # by exercise
        self._seen: dict[str, tuple[Any, Any]] = {}

    def run(self, order: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
        """Run the cells, and say what came of each."""
        functions, seconds = order["functions"], order["seconds"]
        cells = {
            number: source
            for number, source in enumerate(order["sources"])
            if number not in order["skip"]
        }
        known: dict[int, Names] = {}
        for number, source in cells.items():  # which may end the process, too
            tell({"kind": "cell", "number": number, "state": "started"})
            known[number] = self._names(source, seconds)
        idle = unused(known, [number for number in order["given"] if number in cells])
        for number, source in cells.items():
            if number in idle:
                continue
            tell({"kind": "cell", "number": number, "state": "started"})
            error = self._cell(source, seconds, functions)
            tell({"kind": "cell", "number": number, "state": "done", "error": error})
        tell({"kind": "ran", "there": [one for one in functions if one in self._answers]})

    def call(self, frame: wire.Frame) -> tuple[dict[str, Any], list]:
        """Call a function, and return what the wire carries of its answer."""
        order, arrays = frame.header, []
        function = self._answers.get(order["exercise"])
        if function is None:
            return {"kind": "missing"}, []
        values = wire.unpack(order["values"], frame.arrays, network=_network)
        try:
            answer = _numbers(ask(function, values))
            return {"kind": "returned", "value": wire.pack(answer, arrays)}, arrays
        except BaseException as error:
            return {"kind": "raised", **_described(error)}, []

    def _look(self, exercise: str, name: str) -> None:
        """Note an exercise's answer: what was given to its check, or got its name, last."""
        seen = CHECKED.get(exercise), self._shell.user_ns.get(name)
        before = self._seen.get(exercise, (None, None))
        self._seen[exercise] = seen
        for now, then in zip(seen, before, strict=True):
            if now is not then and callable(now) and not isinstance(now, Absent):
                self._answers[exercise] = now
                return

    def _names(self, source: str, seconds: float) -> Names:
        try:
            with _deadline(seconds):
                return names(self._shell.transform_cell(source))
        except BaseException:  # it will be told when the cell is run
            return Names(frozenset(), None)

    def _cell(self, source: str, seconds: float, functions: dict[str, str]) -> str:
        """Run a cell statement by statement, and return the first error.

        What follows a statement that raised is run all the same: in the sandbox some functions
        are absent, and a cell may call one before it defines what is to be graded.
        """
        first = ""
        try:
            with _deadline(seconds):
                for statement in ast.parse(self._shell.transform_cell(source)).body:
                    try:
                        code = self._compile(ast.Module([statement], []), "<cell>", "exec")  # pyright: ignore[reportArgumentType]
                        exec(code, self._shell.user_ns)
                    except CellTimeout:
                        raise
                    except BaseException as error:  # SystemExit and KeyboardInterrupt, too
                        first = first or _words(error)
                    for exercise, name in functions.items():
                        self._look(exercise, name)
        except BaseException as error:
            first = first or _words(error)
        _close_figures()
        return first


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise `CellTimeout` in the student's code. Who catches it meets the grader's own clock."""

    def end(*_: Any) -> None:
        raise CellTimeout(f"it ran for more than {seconds:g} seconds")

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _numbers(answer: Any) -> Any:
    """Return a list of numbers, or what else is none of the wire's arrays, as one that is."""
    dtype = getattr(answer, "dtype", None)
    if isinstance(answer, list | tuple) or dtype in (np.dtype(object), np.dtype(np.longdouble)):
        with contextlib.suppress(Exception):
            return np.asarray(answer, np.float64)
    return answer


def _network(weights: bytes) -> Any:
    from practical.models import Classifier

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.safetensors"
        path.write_bytes(weights)
        return Classifier.load(path)


def _described(error: BaseException) -> dict[str, Any]:
    """Return an error for the student: what, and in which of their lines."""
    where = ""
    for entry in traceback.extract_tb(error.__traceback__)[-20:]:
        if entry.filename == "<cell>":
            where = f"in line {entry.lineno} of its cell, in {entry.name}"
    return {
        "message": _words(error),
        "where": where[:200],
        "blank": is_blank(error),
    }


def _words(error: BaseException) -> str:
    try:
        text = f"{type(error).__name__}: {error}"
    except BaseException:
        text = "an error that cannot be printed"
    return text[:_MOST_TEXT]


def _close_figures() -> None:
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        with contextlib.suppress(BaseException):
            pyplot.close("all")


if __name__ == "__main__":
    sys.exit(main())
