"""What workers find: the package without its answers, and what they will need of it compiled.

To compile a network's gradient takes a worker longer than all else that it does. So the project's
own solutions are graded first, once for each version of it and each kind of processor, in a sandbox
that may keep what it compiles. That also shows that a right answer passes on this machine.
"""

import ast
import functools
import hashlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import jupytext
import numpy as np

from practical._compiled import machine
from practical._files import cache_folder
from practical.grading import sandbox
from practical.grading.exercises import EXERCISES
from practical.grading.session import Session

_PACKAGE = Path(__file__).resolve().parents[1]
SOURCES = {
    part: _PACKAGE.parent / "notebooks" / f"{name}.py"
    for part, name in (("1", "ExplanationMethods"), ("2", "ModelBias"))
}


@contextmanager
def staging(level: str) -> Iterator[Path]:
    """Yield the folder that workers see as the package.

    Raises:
        SandboxError: If the sandbox cannot be had, or the solutions do not pass in it.
    """
    with tempfile.TemporaryDirectory(prefix="practical-") as folder:
        Path(folder).chmod(0o755)
        staged = Path(folder) / "staged"
        staged.mkdir()
        sandbox.stage(staged)
        if problem := sandbox.problem(level, staged):
            raise sandbox.SandboxError(
                f"There is no sandbox: {problem}. --sandbox=none grades without one, and then "
                "every submission's code runs as you: only for code that you trust"
            )
        if level == "bwrap":
            kept = cache_folder("grading") / _machine_and_version()
            kept.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(kept.with_suffix(".lock")):  # of two graders, one compiles
                if not kept.is_dir():
                    print("The solutions are graded first: a minute, once.", file=sys.stderr)
                    _keep(_compiled(staged), kept)
            shutil.copytree(kept, staged / sandbox.COMPILED, dirs_exist_ok=True)
        yield staged


def code_version() -> str:
    """Return a checksum of all that decides a grade, but for the submission."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(str(path.relative_to(_PACKAGE)).encode() + path.read_bytes())
    for part in SOURCES:  # not their words: who mends a sentence has not to grade again
        digest.update("\0".join(solved(part)).encode())
    return digest.hexdigest()


@functools.cache
def solved(part: str) -> list[str]:
    """Return the code cells of one of the practical's notebooks, with the solutions in them."""
    notebook = jupytext.read(SOURCES[part], fmt="py:percent")
    return [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]


def given(part: str) -> list[str]:
    """Return the code cells that students find as they are in the solutions."""
    return [cell for cell in solved(part) if "### BEGIN SOLUTION" not in cell]


def _compiled(staged: Path) -> Path:
    """Grade the solutions, and return the folder with what was compiled for them."""
    folder = staged / sandbox.COMPILED
    folder.chmod(0o777)  # the worker is somebody else
    for part in SOURCES:
        cells = solved(part)
        exercises = {one.id: one for one in EXERCISES.values() if one.id[0] == part}
        with Session(cells, exercises, staged=staged, keep_compiled=True) as session:
            for exercise, found in session.judge(lambda _: np.random.default_rng(0)).items():
                if found.status != "passed":
                    raise sandbox.SandboxError(
                        "On this machine the grader finds the project's own solution of "
                        f"{exercise} wrong, so it grades nobody: {found.status}. {found.message}"
                    )
        own = {
            node.name
            for node in ast.walk(ast.parse("\n".join(cells)))
            if isinstance(node, ast.FunctionDef)
        }
        # The network's parts and JAX's own operations are kept, and no piece of a solution.
        for entry in folder.iterdir():
            name = re.sub(r"-[0-9a-f]+-\w+$", "", entry.name).removeprefix("jit_")
            if name in own or "lambda" in name or not name:
                entry.unlink()
    folder.chmod(0o755)
    return folder


def _keep(folder: Path, kept: Path) -> None:
    """Copy a folder so that nobody ever sees half of it."""
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".") as beside:
        copy = Path(beside) / "copy"
        shutil.copytree(folder, copy, copy_function=shutil.copyfile)
        copy.chmod(0o755)
        copy.rename(kept)


def _machine_and_version() -> str:
    """Return what compiled code depends on, as a name."""
    return hashlib.sha256(f"{code_version()}\0{machine()}".encode()).hexdigest()[:16]
