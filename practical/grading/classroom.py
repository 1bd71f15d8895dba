"""A folder of submissions: who handed in what, and grading all of it, stopped and gone on with."""

import hashlib
import json
import os
import queue
import re
import secrets
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from practical._files import atomic_path
from practical.grading import sandbox
from practical.grading.staging import code_version, staging
from practical.grading.submission import Report, UnreadableError, grade, read
from practical.grading.verdicts import Verdict

# What Canvas makes of a file: name, "LATE" if it is, user, submission, the file's own name with a
# number for each time that it was handed in again. doe_jane is doejane there.
_CANVAS = re.compile(
    r"(?P<name>[^_]+)_(?P<late>LATE_)?(?P<user>\d+)_(?P<submission>\d+)_(?P<file>.+)\.ipynb"
)
_SLOW = ("timed out", "crashed")  # or killed: somebody else may have taken the machine
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
    submissions: list[Submission] = field(default_factory=list)

    @property
    def late(self) -> bool:
        """Whether any of the files is late."""
        return any(one.late for one in self.submissions)


class Graded(NamedTuple):
    """A student's reports, at most one for each of the practical's notebooks."""

    student: Student
    reports: list[Report]


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

    def add(identity: str, name: str, submission: Submission | None) -> None:
        # Names need not be UTF-8 on a disk, but have to be in a table.
        identity, name = (os.fsencode(text).decode("utf-8", "replace") for text in (identity, name))
        student = found.setdefault(identity, Student(identity, name))
        if submission is not None:
            student.submissions.append(submission)

    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            add(path.name, path.name, None)  # also who handed in nothing
            for notebook in sorted(path.rglob("*.ipynb")):
                if ".ipynb_checkpoints" not in notebook.parts:
                    add(path.name, path.name, Submission(notebook, _again(notebook)))
        elif match := _CANVAS.fullmatch(path.name):
            order = (int(match["submission"]), *_again(path))
            add(match["user"], match["name"], Submission(path, order, bool(match["late"])))
        elif path.suffix == ".ipynb":
            add(path.stem, path.stem, Submission(path))
    if not any(student.submissions for student in found.values()):
        raise ValueError(f"SUBMISSIONS must have notebooks (.ipynb), got none in {folder}")
    return sorted(found.values(), key=lambda one: one.id)


def load_secret(path: Path) -> str:
    """Return the assignment's secret; the first time, it is drawn and written for its owner alone.

    Raises:
        ValueError: If the file is empty.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as file:
            file.write(secrets.token_hex(16) + "\n")
    secret = path.read_text().strip()
    if not secret:
        raise ValueError(
            f"the secret's file must not be empty, got {path}; delete it for a new one"
        )
    return secret


def grade_all(
    everybody: list[Student],
    out: Path,
    *,
    secret: str,
    level: str = "bwrap",
    jobs: int | None = None,
    limits: sandbox.Limits | None = None,
    again: bool = True,
    progress: bool = True,
) -> list[Graded]:
    """Grade everybody's newest notebooks; what was graded before and has not changed is kept.

    Args:
        everybody: Of `students`.
        out: Where results are kept, `cache/`.
        secret: The assignment's.
        level: Of the sandbox.
        jobs: Workers at once; by default one for each core.
        limits: What a worker may use.
        again: Grade once more, alone, who was too slow or was killed beside others.
        progress: Show a bar.
    """
    cache = out / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    code = code_version()
    jobs = jobs or len(os.sched_getaffinity(0))
    again = again and jobs > 1
    slots: queue.Queue[int] = queue.Queue()
    for slot in range(jobs):
        slots.put(slot)
    reports: dict[str, list[Report]] = defaultdict(list)
    work = [(student, one) for student in everybody for one in _newest(student)]

    with staging(level) as staged, ThreadPoolExecutor(jobs) as pool:

        def run(student: Student, submission: Submission, *, alone: bool = not again) -> Report:
            slot = slots.get()
            try:
                known = cache / f"{_key(submission.path, student.id, secret, code, level)}.json"
                if known.exists():
                    return _load(known)
                report = grade(
                    submission.path, student=student.id, secret=secret, staged=staged, level=level,
                    slot=slot, limits=limits,
                )  # fmt: skip
                # What failed here may work the next time, and what was too slow, alone.
                if not _has(report, "infrastructure") and (alone or not _has(report, *_SLOW)):
                    _store(known, report)
                return report
            finally:
                slots.put(slot)

        running = {pool.submit(run, *one): one for one in work}
        bar = tqdm(as_completed(running), total=len(running), unit="notebook", disable=not progress)
        slow = []
        try:
            for done in bar:
                student, submission = running[done]
                report = done.result()
                if again and _has(report, *_SLOW):
                    slow.append((student, submission))
                else:
                    reports[student.id].append(report)
        except BaseException:  # Ctrl-C, too: finish what is being graded, and begin nothing
            pool.shutdown(cancel_futures=True)
            raise
        for student, submission in tqdm(
            slow, unit="notebook", desc="again, alone", disable=not (progress and slow)
        ):
            reports[student.id].append(run(student, submission, alone=True))
    return [
        Graded(student, sorted(reports[student.id], key=lambda report: report.part))
        for student in everybody
    ]


def _newest(student: Student) -> list[Submission]:
    """Return the newest file of each of the practical's notebooks, and all that is no notebook.

    A notebook without any exercise counts only where there is nothing else.
    """
    newest: dict[str, Submission] = {}
    broken = []
    for one in sorted(student.submissions, key=lambda one: one.order):
        try:
            newest[read(one.path).part] = one
        except UnreadableError:
            broken.append(one)
    other = newest.pop("", None)
    found = [*newest.values(), *broken]
    return found if found or other is None else [other]


def _has(report: Report, *statuses: str) -> bool:
    return any(verdict.status in statuses for verdict in report.verdicts.values())


def _again(path: Path) -> tuple[int, ...]:
    match = _AGAIN.search(path.stem)
    return (int(match[1]) if match else 0,)


def _key(path: Path, *about: str) -> str:
    try:
        regular = path.is_file() and not path.is_symlink()  # a pipe would have us wait
        content = path.read_bytes() if regular else b"no file"
    except OSError as error:
        content = str(error).encode()
    digest = hashlib.sha256(content)
    for text in about:
        digest.update(b"\0" + text.encode())
    return digest.hexdigest()[:32]


def _store(path: Path, report: Report) -> None:
    about = {
        "part": report.part,
        "verdicts": {one: list(verdict) for one, verdict in report.verdicts.items()},
        "answers": report.answers,
        "notes": report.notes,
        "flags": report.flags,
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(about))


def _load(path: Path) -> Report:
    about = json.loads(path.read_text())
    verdicts = {one: Verdict(*fields) for one, fields in about.pop("verdicts").items()}
    return Report(**about, verdicts=verdicts)
