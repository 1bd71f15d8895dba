"""Who handed in what: a folder as Canvas exports it, one for each student, or Gradescope's."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from practical.grading.unpacking import ZipError, is_copy, is_notebook, unpack
from practical.grading.wire import plain_text

# Canvas (content_zipper.rb) names a file NAME[_LATE]_USER_ATTACHMENT_FILE, anonymously
# [LATE_]anon_ID_ATTACHMENT_FILE, and a text or a link NAME[_LATE]_USER_text.html or _link.html.
# NAME is the student's, in lower case and without spaces, or the group's, which may end in _1.
# Of what was handed in again, FILE ends in a number.
_ANONYMOUS = re.compile(
    r"(?P<early>LATE_)?(?P<user>anon_[^\W_]+)(?P<late>_LATE)?_(?P<attachment>\d+)_.", re.DOTALL
)
_NUMBERS = re.compile(r"(?=_(?P<user>\d+)_(?P<attachment>\d+)_.)", re.DOTALL)
_NO_FILE = re.compile(r"_(?P<user>\d+)_(text|link)\.html$")
_AGAIN = re.compile(r"-(\d+)$")


class Submission(NamedTuple):
    """One file of a student."""

    path: Path
    order: tuple[int, ...] = ()  # the larger, the later it was handed in
    late: bool = False
    problem: str = ""  # why a zip could not be opened


@dataclass
class Student:
    """A student and what they handed in."""

    id: str
    name: str
    submissions: list[Submission] = field(default_factory=list)  # the notebooks
    others: list[Submission] = field(default_factory=list)  # all other files
    choices: list[str] = field(default_factory=list)  # which of several files was graded, and why

    @property
    def late(self) -> bool:
        """Whether any of the files is late."""
        return any(one.late for one in (*self.submissions, *self.others))

    @property
    def problems(self) -> list[str]:
        """What a teacher has to know about the files: no notebook, or a zip that does not open."""
        names = [shown(one.path) for one in self.others]
        if not self.submissions:
            listed = ", ".join(names)
            return [
                f"no notebook (.ipynb), but {listed}" if names else "nothing was handed in",
                *self._unopened(),
            ]
        return [*self._unopened(), *self.choices]

    def _unopened(self) -> list[str]:
        return [
            f"{shown(one.path)} cannot be used: {one.problem}" for one in self.others if one.problem
        ]


def students(folder: Path, *, unpacked: Path | None = None) -> list[Student]:
    """Return who handed in what, by id.

    Args:
        folder: Holds what Canvas exports (`doejane_LATE_123_456_ExplanationMethods-1.ipynb`), a
            folder for each student, or a notebook for each student. A zip counts as the notebooks
            in it.
        unpacked: Where zips are unpacked; without it they count as files that are not notebooks.

    Raises:
        ValueError: If there is no such folder, or no notebook in it.
    """
    if not folder.is_dir():
        raise ValueError(f"SUBMISSIONS must be a folder, got {folder}")
    found: dict[str, Student] = {}

    def add(identity: str, name: str, files: Iterable[Submission]) -> None:
        identity, name = _text(identity), _text(name)
        _sort_in(found.setdefault(identity, Student(identity, name)), files, unpacked)

    names = _canvas_names(folder)
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            add(path.name, path.name, _files(path))  # an empty folder, too
        elif known := names.get(path.name):
            order = (known.attachment, *_again(path))
            add(known.user, known.name, [Submission(path, order, known.late)])
        elif path.suffix.lower() in (".ipynb", ".zip"):
            add(path.stem, path.stem, [Submission(path)])
    if not any(student.submissions for student in found.values()):
        raise ValueError(f"SUBMISSIONS must have notebooks (.ipynb), got none in {folder}")
    return sorted(found.values(), key=lambda one: one.id)


def left_out(folder: Path) -> list[str]:
    """Return the files that are nobody's: neither notebooks nor named as Canvas names files."""
    names = _canvas_names(folder)
    return [
        shown(path)
        for path in sorted(folder.iterdir())
        if (path.is_symlink() or not path.is_dir())
        and not path.name.startswith(".")
        and path.name not in names
        and path.suffix.lower() not in (".ipynb", ".zip")
    ]


class _Canvas(NamedTuple):
    """What Canvas says in a file's name."""

    user: str  # a number, or anon_ and letters
    name: str
    late: bool
    attachment: int  # grows with time; 0 for a text or a link


def _canvas_names(folder: Path) -> dict[str, _Canvas]:
    """Return what the names in an export say.

    A group's name may end in a number and a student's file may begin with one, so that the place of
    the user's number can be read in several ways. The first one holds, unless it gives one user two
    names, or one attachment two files: then the next.
    """
    readings = {path.name: _readings(path.name) for path in folder.iterdir() if not path.is_dir()}
    readings = {file: several for file, several in readings.items() if several}
    while True:
        names, files = defaultdict(set), defaultdict(set)
        for file, several in readings.items():
            names[several[0].user].add(several[0].name)
            if several[0].attachment:
                files[several[0].attachment].add(file)
        disputed = [
            {file for file, several in readings.items() if several[0].user == user}
            for user, different in names.items()
            if len(different) > 1
        ]
        disputed += [same for same in files.values() if len(same) > 1]
        again = {file for group in disputed for file in group if _all_have(group, readings)}
        if not again:
            return {file: several[0] for file, several in readings.items()}
        readings |= {file: readings[file][1:] for file in again}


def _all_have(group: set[str], readings: dict[str, list[_Canvas]]) -> bool:
    return all(len(readings[file]) > 1 for file in group)


def _readings(file: str) -> list[_Canvas]:
    """Return the ways to read a file's name as Canvas's, the likeliest first; none if it is not."""
    if match := _ANONYMOUS.match(file):
        late = bool(match["early"] or match["late"])
        return [_Canvas(match["user"], match["user"], late, int(match["attachment"]))]
    if match := _NO_FILE.search(file):
        return [_Canvas(match["user"], *_name(file[: match.start()]), 0)]
    found, end = [], 0
    for match in _NUMBERS.finditer(file):
        if match.start() and (not found or match.start() == end):  # in the same row of numbers
            name = _name(file[: match.start()])
            found.append(_Canvas(match["user"], *name, int(match["attachment"])))
            end = match.end("user")
    return found


def _name(text: str) -> tuple[str, bool]:
    """Return the student's or group's name, and whether it is late."""
    early, late = text.startswith("LATE_"), text.endswith("_LATE")
    return text.removeprefix("LATE_").removesuffix("_LATE"), early or late


def gradescope_student(folder: Path, *, unpacked: Path | None = None) -> Student:
    """Return whose submission Gradescope's autograder was given, and what it is.

    Args:
        folder: Gradescope's, /autograder.
        unpacked: Where zips are unpacked.

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
    _sort_in(student, _files(folder / "submission"), unpacked)
    return student


def _sort_in(student: Student, files: Iterable[Submission], unpacked: Path | None) -> None:
    """Add files to a student; a zip becomes the notebooks in it."""
    for one in files:
        if one.path.suffix.lower() == ".ipynb":
            student.submissions.append(one)
        elif one.path.suffix.lower() == ".zip" and unpacked is not None:
            try:
                inside = unpack(one.path, unpacked)
            except ZipError as error:
                student.others.append(one._replace(problem=str(error)))
                continue
            student.submissions += [
                Submission(path, (*one.order, *_again(path)), one.late) for path in inside
            ]
            if not inside:
                student.others.append(one._replace(problem="there is no notebook in it"))
        else:
            student.others.append(one)


def _files(folder: Path) -> Iterable[Submission]:
    """Return the notebooks and zips in a folder, at any depth, and other files directly in it.

    Of two files with the same notebook the last one counts: the one less deep, not a copy below it.
    """
    for path in sorted(folder.rglob("*"), key=lambda path: (-len(path.parts), path)):
        if is_copy(inside := PurePosixPath(path.relative_to(folder))):
            continue
        other = path.parent == folder and not path.name.startswith(".")
        if is_notebook(str(inside)) or (
            path.is_file() and (other or path.suffix.lower() == ".zip")
        ):
            yield Submission(path, _again(path))


def _again(path: Path) -> tuple[int, ...]:
    match = _AGAIN.search(path.stem)
    return (int(match[1]) if match else 0,)


def shown(path: Path) -> str:
    """Return a file's name for a person, without control characters."""
    return plain_text(_text(path.name))


def _text(name: str) -> str:
    r"""Return a file's name as text for a table; a byte that is not UTF-8 is written as \xf6."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
