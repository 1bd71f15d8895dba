"""Grading a class: all that was handed in, stopped and gone on with, and nothing twice."""

import hashlib
import json
import os
import queue
import secrets
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from joblib import cpu_count
from tqdm import tqdm

from practical._files import atomic_path
from practical.grading import sandbox
from practical.grading.exercises import EXERCISES
from practical.grading.handed_in import Student, Submission, shown
from practical.grading.staging import code_version, staging
from practical.grading.submission import Report, UnreadableError, grade, read
from practical.grading.verdicts import InfrastructureError, Verdict

_SLOW = ("timed out", "crashed")  # or killed: somebody else may have taken the machine


class Graded(NamedTuple):
    """A student's reports, at most one for each of the practical's notebooks."""

    student: Student
    reports: list[Report]


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
        everybody: Of `handed_in.students`.
        out: Where results are kept, `cache/`.
        secret: The assignment's.
        level: Of the sandbox.
        jobs: Workers at once; by default one for each core that this process may use.
        limits: What a worker may use.
        again: Grade once more, alone, who was too slow or was killed beside others.
        progress: Show a bar.
    """
    cache = out / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    code = code_version()
    jobs = jobs or cpu_count()
    again = again and jobs > 1
    slots: queue.Queue[int] = queue.Queue()
    for slot in range(jobs):
        slots.put(slot)
    reports: dict[str, list[Report]] = defaultdict(list)
    parts = _Parts(cache / "parts.json", code)
    work = [(student, one) for student in everybody for one in _newest(student, parts)]
    parts.keep()

    with staging(level) as staged, ThreadPoolExecutor(jobs) as pool:

        def run(student: Student, submission: Submission, *, alone: bool = not again) -> Report:
            slot = slots.get()
            try:
                content = parts.checksums[submission.path]
                known = cache / f"{_key(content, student.id, secret, code, level)}.json"
                if content and known.exists():
                    return _load(known)
                try:
                    report = grade(
                        submission.path, student=student.id, secret=secret, staged=staged,
                        level=level, slot=slot, limits=limits,
                    )  # fmt: skip
                except Exception as error:  # the grader's own: the others are graded all the same
                    failed = Verdict("infrastructure", f"{type(error).__name__}: {error}")
                    report = Report(verdicts=dict.fromkeys(EXERCISES, failed))
                # What failed here may work the next time, and what was too slow, alone.
                kept = content and not _has(report, "infrastructure")
                if kept and (alone or not _has(report, *_SLOW)):
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
        # What could not be read comes last and wins: whichever notebook it is, none is graded.
        Graded(student, sorted(reports[student.id], key=lambda one: one.part or "none"))
        for student in everybody
    ]


class _Parts:
    """Which of the practical's notebooks each file is, kept by what is in the file.

    With nothing changed, to parse 300 notebooks with their figures takes longer than all the rest.
    """

    def __init__(self, path: Path, code: str):
        self._path, self._code = path, code
        kept = json.loads(path.read_text()) if path.exists() else {}
        self._kept: dict[str, str | None] = kept.get(code, {})
        self.checksums: dict[Path, str] = {}  # "" of what could not be read

    def of(self, path: Path) -> str | None:
        """Return "1", "2", "" for a notebook that is neither; None for what is none, or unread."""
        content, part = _checksum(path), None
        if content in self._kept:
            part = self._kept[content]
        else:
            try:
                part = read(path).part
            except UnreadableError:
                pass
            except InfrastructureError:
                content = ""
            if content:
                self._kept[content] = part
        self.checksums[path] = content
        return part

    def keep(self) -> None:
        with atomic_path(self._path) as temporary:  # of this code: its rules say which it is
            temporary.write_text(json.dumps({self._code: self._kept}))


def _newest(student: Student, parts: _Parts) -> list[Submission]:
    """Return the newest file of each of the practical's notebooks, and all that is no notebook.

    A notebook without any exercise counts only where there is nothing else.
    """
    newest: dict[str, Submission] = {}
    broken = []
    student.choices = []
    for one in sorted(student.submissions, key=lambda one: one.order):
        part = parts.of(one.path)
        if part is None:
            broken.append(one)
            continue
        before = newest.get(part)
        if part and before and before.order == one.order:
            if parts.checksums[before.path] != parts.checksums[one.path]:
                student.choices.append(
                    f"two files hold notebook {part}: {shown(one.path)} is graded, and "
                    f"{shown(before.path)} is not"
                )
        newest[part] = one
    other = newest.pop("", None)
    found = [*newest.values(), *broken]
    return found if found or other is None else [other]


def _has(report: Report, *statuses: str) -> bool:
    return any(verdict.status in statuses for verdict in report.verdicts.values())


def _checksum(path: Path) -> str:
    """Return a checksum of what is in a file, "" if that cannot be read now."""
    try:
        if path.is_symlink() or not path.is_file():
            return "no file"  # a pipe would have us wait
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _key(*about: str) -> str:
    return hashlib.sha256("\0".join(about).encode()).hexdigest()[:32]


def _store(path: Path, report: Report) -> None:
    verdicts = {one: list(verdict) for one, verdict in report.verdicts.items()}
    about = vars(report) | {"verdicts": verdicts}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(about))


def _load(path: Path) -> Report:
    about = json.loads(path.read_text())
    verdicts = {one: Verdict(*fields) for one, fields in about.pop("verdicts").items()}
    return Report(**about, verdicts=verdicts)
