"""Runs a student's cells and calls their functions, inside the sandbox.

    python -m practical.grading.worker READ WRITE

READ and WRITE are file descriptors of the wire. Whoever reads the answers trusts nothing that this
process says: a student's code lives in it, and may do with it what it likes.

    grader                              worker
    run     sources, skip, given, ...
                                        cell      number, state, raised
                                        checked   exercise: its last `check` line was run
    call    exercise, function, values
                                        returned  value
                                        raised    message, where, blank
                                        missing
    continue
                                        ran       the exercises that have a function
    call    ...
"""

import ast
import asyncio
import codeop
import contextlib
import dis
import inspect
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import IO, Any, TypeGuard

import numpy as np
from IPython.core.interactiveshell import InteractiveShell

from practical.grading import wire
from practical.grading.asking import Weighted, ask, is_blank
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
    _import_from_the_working_folder()
    notebook = _Notebook(reading, writing)
    notebook.tell({"kind": "ready"})
    notebook.run(notebook.hear().header)
    notebook.answer()
    return 0


class _Notebook:
    """The namespace of a student's cells, and the wire to the grader."""

    def __init__(self, reading: wire.Readable, writing: IO[bytes]) -> None:
        self._reading, self._writing = reading, writing
        self._shell = _Shell.instance()
        self._compile = codeop.Compile()  # which remembers a `from __future__ import`
        self._compile.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # as in a notebook
        self._loop = asyncio.Runner()
        self._functions: dict[str, str] = {}  # exercise -> the name of its function
        self._answers: dict[str, Callable] = {}  # exercise -> its newest function
        self._seen: dict[str, tuple[Any, Any]] = {}
        self._last_checks: dict[str, tuple[int, int]] = {}  # exercise -> cell, statement

    def tell(self, header: dict[str, Any], arrays: list | None = None) -> None:
        """Send the grader a frame."""
        wire.send(self._writing, header, arrays)
        self._writing.flush()

    def hear(self) -> wire.Frame:
        """Return the grader's next frame; end the process if there is none."""
        try:
            return wire.receive(self._reading)
        except EOFError:
            os._exit(0)

    def run(self, order: dict[str, Any]) -> None:
        """Run the cells, and say what came of each."""
        seconds, self._functions = order["seconds"], order["functions"]
        cells = {
            number: source
            for number, source in enumerate(order["sources"])
            if number not in order["skip"]
        }
        known: dict[int, Names] = {}
        last: dict[str, tuple[int, int]] = {}
        for number, source in cells.items():  # which may end the process, too
            self.tell({"kind": "cell", "number": number, "state": "started"})
            known[number], checks = self._look_ahead(source, seconds)
            last |= {exercise: (number, place) for exercise, place in checks.items()}
        self._last_checks = {
            exercise: place for exercise, place in last.items() if exercise in order["unchecked"]
        }
        idle = unused(known, [number for number in order["given"] if number in cells])
        for number, source in cells.items():
            if number in idle:
                continue
            self.tell({"kind": "cell", "number": number, "state": "started"})
            raised = self._cell(number, source, seconds)
            self.tell({"kind": "cell", "number": number, "state": "done", "raised": raised})
        there = [exercise for exercise in self._functions if exercise in self._answers]
        self.tell({"kind": "ran", "there": there})

    def answer(self) -> None:
        """Answer calls until the grader says to continue."""
        while (frame := self.hear()).header["kind"] == "call":
            self.tell(*self._call(frame))

    def _call(self, frame: wire.Frame) -> tuple[dict[str, Any], list]:
        """Call a function, and return what the wire carries of its answer."""
        order, arrays = frame.header, []
        function = self._answers.get(order["exercise"])
        if function is None:
            return {"kind": "missing"}, []
        try:
            values = wire.unpack(order["values"], frame.arrays, network=_network)
            for name, value in values.items():
                if isinstance(value, dict):
                    values[name] = Weighted(value["network"], value["weights"])
            answer = _numbers(ask(function, values))
            return {"kind": "returned", "value": wire.pack(answer, arrays)}, arrays
        except BaseException as error:
            return {"kind": "raised", **_described(error)}, []

    def _note(self, exercise: str, name: str) -> bool:
        """Note an exercise's newest function: the last one that was checked, or got its name.

        Returns:
            Whether the statement before has checked it.
        """
        seen = CHECKED.get(exercise), self._shell.user_ns.get(name)
        (checked, bound), before = seen, self._seen.get(exercise, (None, None))
        self._seen[exercise] = seen
        if checked is not None and checked is not before[0] and _is_answer(checked[0]):
            self._keep(exercise, checked[0])
            return True
        if bound is not before[1] and _is_answer(bound):
            self._keep(exercise, bound)
        return False

    def _keep(self, exercise: str, function: Callable) -> None:
        """Keep an exercise's function; a blank one, pasted again, replaces no other."""
        if exercise not in self._answers or not _never_returns(function):
            self._answers[exercise] = function

    def _look_ahead(self, source: str, seconds: float) -> tuple[Names, dict[str, int]]:
        """Return a cell's names, and the statements with its checks, by exercise."""
        try:
            with _deadline(seconds):
                code = self._plain(source)
                return names(code), _checks(code)
        except BaseException:  # it will be told when the cell is run
            return Names(frozenset(), None), {}

    def _plain(self, source: str) -> str:
        """Return a cell in plain Python."""
        first, _, rest = source.lstrip().partition("\n")
        # To the magic, all below is a text; it is run as any cell is.
        return self._shell.transform_cell(rest if first.strip() == "%%time" else source)

    def _cell(self, number: int, source: str, seconds: float) -> bool:
        """Run a cell statement by statement, and return whether one raised an error.

        The statements after one that raised are run all the same: in the sandbox some functions
        are absent, and a cell may call one before it defines what is to be graded.
        """
        raised = False
        try:
            with _deadline(seconds) as restart:
                for place, statement in enumerate(ast.parse(self._plain(source)).body):
                    try:
                        code = self._compile(ast.Module([statement], []), "<cell>", "exec")  # pyright: ignore[reportArgumentType]
                        awaited = eval(code, self._shell.user_ns)
                        if inspect.iscoroutine(awaited):  # of an `await` outside of functions
                            self._loop.run(awaited)
                    except CellTimeout:
                        raise
                    except BaseException:  # SystemExit and KeyboardInterrupt, too
                        raised = True
                    _keep_to_the_cpu()
                    for exercise, name in self._functions.items():
                        checked = self._note(exercise, name)
                        if checked and self._last_checks.get(exercise) == (number, place):
                            signal.setitimer(signal.ITIMER_REAL, 0)
                            self.tell({"kind": "checked", "exercise": exercise})
                            self.answer()
                            restart()
        except BaseException:
            raised = True
        _close_figures()
        return raised


class _Shell(InteractiveShell):
    """The magics, `display` and `get_ipython` of a kernel, without a kernel's sockets."""

    def enable_gui(self, gui: Any = None) -> None:
        """Do nothing: `%matplotlib` asks for an event loop."""

    def ask_exit(self) -> None:
        """Do nothing: `exit` ends a kernel after the cell."""


def _import_from_the_working_folder() -> None:
    """Let cells import what `%%writefile` wrote: behind the standard library, as a kernel does."""
    packages = [place for place, path in enumerate(sys.path) if path.endswith("-packages")]
    sys.path.insert(packages[0] if packages else len(sys.path), "")


def _checks(code: str) -> dict[str, int]:
    """Return exercise -> the last statement of a cell that calls `check` with it.

    Functions and classes are no such statements: what is in them is called later, if at all.
    """
    found = {}
    for place, statement in enumerate(ast.parse(code).body):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for call in ast.walk(statement):
            if isinstance(call, ast.Call) and "check" in (
                getattr(call.func, "id", ""), getattr(call.func, "attr", ""),
            ):  # fmt: skip
                for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
                    if isinstance(argument, ast.Constant):
                        found[str(argument.value)] = place
    return found


def _is_answer(value: Any) -> TypeGuard[Callable]:
    return callable(value) and not isinstance(value, Absent)


def _never_returns(function: Callable) -> bool:
    """Return whether a function can do nothing but raise an error, as a blank exercise does."""
    code = getattr(function, "__code__", None)
    return isinstance(code, CodeType) and not any(
        step.opname.startswith("RETURN") for step in dis.get_instructions(code)
    )


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[Callable[[], None]]:
    """Raise `CellTimeout` in the student's code; yield what begins to count again.

    Code that catches it meets the grader's own clock.
    """

    def end(*_: Any) -> None:
        raise CellTimeout(f"it ran for more than {seconds:g} seconds")

    def restart() -> None:
        signal.signal(signal.SIGALRM, end)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    restart()
    try:
        yield restart
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _numbers(answer: Any) -> Any:
    """Return a list of numbers, or what else is none of the wire's arrays, as one that is."""
    dtype = getattr(answer, "dtype", None)
    if isinstance(answer, list | tuple) or dtype in (np.dtype(object), np.dtype(np.longdouble)):
        with contextlib.suppress(Exception):
            return np.asarray(answer, np.float64)
    return answer


def _keep_to_the_cpu() -> None:
    """Undo a notebook's choice of a GPU, which the sandbox does not have."""
    jax = sys.modules.get("jax")
    for name in ("jax_platforms", "jax_platform_name"):
        with contextlib.suppress(Exception):  # the notebook may have changed JAX
            if jax is not None and jax.config.values.get(name) != "cpu":
                jax.config.update(name, "cpu")


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
