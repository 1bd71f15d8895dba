"""Runs a student's cells and calls their functions, inside the sandbox.

    python -m practical.grading.worker READ WRITE

READ and WRITE are file descriptors of the wire. Whoever reads the answers trusts nothing that this
process says: a student's code lives in it, and may do with it what it likes.

    grader                              worker
    run     sources, skip, seconds
                                        cell      number, state, error
                                        ran       the exercises that have a function
    call    exercise, function, values
                                        returned  value
                                        raised    type, message, where, blank
                                        missing
"""

import ast
import contextlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from practical.grading import wire
from practical.grading.asking import ask
from practical.grading.stand_ins import CHECKED, Absent

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

    def run(self, order: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
        """Run the cells, and say what came of each."""
        for number, source in enumerate(order["sources"]):
            if number in order["skip"]:
                continue
            tell({"kind": "cell", "number": number, "state": "started"})
            error = self._cell(source, order["seconds"])
            tell({"kind": "cell", "number": number, "state": "done", "error": error})
        there = [one for one, name in order["functions"].items() if self._function(one, name)]
        tell({"kind": "ran", "there": there})

    def call(self, frame: wire.Frame) -> tuple[dict[str, Any], list]:
        """Call a function, and return what the wire carries of its answer."""
        order, arrays = frame.header, []
        function = self._function(order["exercise"], order["function"])
        if function is None:
            return {"kind": "missing"}, []
        values = wire.unpack(order["values"], frame.arrays, network=_network)
        try:
            answer = ask(function, values)
            return {"kind": "returned", "value": wire.pack(answer, arrays)}, arrays
        except BaseException as error:
            return {"kind": "raised", **_described(error)}, []

    def _function(self, exercise: str, name: str) -> Callable | None:
        """Return the function that was given to the check; without a check, the one of its name."""
        for found in (CHECKED.get(exercise), self._shell.user_ns.get(name)):
            if callable(found) and not isinstance(found, Absent):
                return found
        return None

    def _cell(self, source: str, seconds: float) -> str:
        """Run a cell statement by statement, and return the first error.

        What follows a statement that raised is run all the same: in the sandbox some functions
        are absent, and a cell may call one before it defines what is to be graded.
        """
        first = ""
        try:
            with _deadline(seconds):
                for statement in ast.parse(self._shell.transform_cell(source)).body:
                    try:
                        code = compile(ast.Module([statement], []), "<cell>", "exec")
                        exec(code, self._shell.user_ns)
                    except CellTimeout:
                        raise
                    except BaseException as error:  # SystemExit and KeyboardInterrupt, too
                        first = first or _words(error)
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
        "blank": isinstance(error, NotImplementedError),
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
