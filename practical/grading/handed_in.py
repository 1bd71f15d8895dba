"""Who handed in what: a folder as Canvas exports it, one for each student, or Gradescope's."""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from practical.grading.wire import plain_text

# What Canvas makes of a file: name, "LATE" if it is, user, submission, the file's own name with a
# number for each time that it was handed in again. doe_jane is doejane there.
_CANVAS = re.compile(
    r"(?P<name>[^_]+)_(?P<late>LATE_)?(?P<user>\d+)_(?P<submission>\d+)_(?P<file>.+)", re.DOTALL
)
_AGAIN = re.compile(r"-(\d+)$")


class Submission(NamedTuple):
    """One file of a student."""

    path: Path
    order: tuple[int, ...] = ()  # the larger, the later it was handed in
    late: bool = False


@dataclass
class Student:
    """A student and what they handed in."""

    id: str
    name: str
    submissions: list[Submission] = field(default_factory=list)  # the notebooks
    others: list[Submission] = field(default_factory=list)  # what is none by its name

    @property
    def late(self) -> bool:
        """Whether any of the files is late."""
        return any(one.late for one in (*self.submissions, *self.others))

    @property
    def without_notebook(self) -> str:
        """What to say of who handed in no notebook, or nothing."""
        if self.submissions:
            return ""
        names = ", ".join(plain_text(_text(one.path.name)) for one in self.others)
        return f"no notebook (.ipynb), but {names}" if names else "nothing was handed in"


def students(folder: Path) -> list[Student]:
    """Return who handed in what, by id.

    A folder holds what Canvas exports (`doejane_LATE_123_456_ExplanationMethods-1.ipynb`), a folder
    for each student, or a notebook for each student.

    Raises:
        ValueError: If there is no such folder, or no notebook in it.
    """
    if not folder.is_dir():
        raise ValueError(f"SUBMISSIONS must be a folder, got {folder}")
    found: dict[str, Student] = {}

    def add(identity: str, name: str, files: Iterable[Submission]) -> None:
        identity, name = _text(identity), _text(name)
        _sort_in(found.setdefault(identity, Student(identity, name)), files)

    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            add(path.name, path.name, _files(path))  # also who handed in nothing
        elif match := _CANVAS.fullmatch(path.name):
            order = (int(match["submission"]), *_again(path))
            add(match["user"], match["name"], [Submission(path, order, bool(match["late"]))])
        elif path.suffix == ".ipynb":
            add(path.stem, path.stem, [Submission(path)])
    if not any(student.submissions for student in found.values()):
        raise ValueError(f"SUBMISSIONS must have notebooks (.ipynb), got none in {folder}")
    return sorted(found.values(), key=lambda one: one.id)


def gradescope_student(folder: Path) -> Student:
    """Return whose submission Gradescope's autograder was given, and what it is.

    Args:
        folder: Gradescope's, /autograder.

    Raises:
        ValueError: If its metadata name nobody. Under a name that all have in common all would get
            the same hidden cases, which one of them could pass on.
    """
    path = folder / "submission_metadata.json"
    users: Any = None
    try:
        users = json.loads(path.read_text(encoding="utf-8")).get("users")
        ids = sorted(str(user.get("id") or user["email"]) for user in users)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        users, ids = users or f"{type(error).__name__}: {error}", []
    if not ids:
        raise ValueError(
            f"{path} must have the submission's users, each with an id or an email, got {users}: "
            "the hidden cases depend on who it is. Grade where Gradescope writes that file"
        )
    student = Student("+".join(ids), "+".join(ids))  # a group hands in together
    _sort_in(student, _files(folder / "submission"))
    return student


def _sort_in(student: Student, files: Iterable[Submission]) -> None:
    for one in files:
        kind = student.submissions if one.path.suffix == ".ipynb" else student.others
        kind.append(one)


def _files(folder: Path) -> Iterable[Submission]:
    """Return the notebooks in a folder, wherever they are, and what else lies directly in it."""
    for path in sorted(folder.rglob("*.ipynb")):
        if ".ipynb_checkpoints" not in path.parts:
            yield Submission(path, _again(path))
    for path in sorted(folder.iterdir()):
        if path.suffix != ".ipynb" and not path.name.startswith(".") and path.is_file():
            yield Submission(path)


def _again(path: Path) -> tuple[int, ...]:
    match = _AGAIN.search(path.stem)
    return (int(match[1]) if match else 0,)


def _text(name: str) -> str:
    """Return a file's name, which need not be UTF-8 on a disk, but has to be in a table."""
    return os.fsencode(name).decode("utf-8", "replace")
