"""pytest's way to grade a submission: `pytest --submission alice/ExplanationMethods.ipynb`.

Each exercise becomes a test, whose report is the verdict. Nothing of the submission runs here.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from practical.grading.verdicts import Verdict

_COPY = pytest.StashKey[Path]()
_NOTES = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the grader's options."""
    group = parser.getgroup("grading", "grading a submission of the practical")
    group.addoption("--submission", type=Path, metavar="NOTEBOOK", help="grade this notebook")
    group.addoption("--student", metavar="ID", help="whose it is; by default its folder's name")
    group.addoption(
        "--secret-file", type=Path, default=Path("grading-secret.txt"), metavar="FILE",
        help="the assignment's secret; drawn when the file is not there",
    )  # fmt: skip
    group.addoption(
        "--sandbox", default="bwrap", choices=("bwrap", "none"),
        help="none: the submission's code runs as you",
    )  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Read no conftest.py: a student's would be run here, and not in the sandbox."""
    if early_config.known_args_namespace.submission is not None:
        early_config.known_args_namespace.noconftest = True


def pytest_configure(config: pytest.Config) -> None:
    """Collect the submission, and nothing else."""
    path: Any = config.getoption("--submission", None)
    if path is None:
        return
    if not path.is_file() or path.is_symlink():
        raise pytest.UsageError(f"--submission must be a notebook, a file, got {path}")
    # Of the folder that pytest collects from it imports what may be a package. So it gets one that
    # has nothing else in it.
    folder = tempfile.TemporaryDirectory(prefix="submission-")
    config.add_cleanup(folder.cleanup)
    config.stash[_COPY] = copy = Path(folder.name).resolve() / "submission.ipynb"
    shutil.copyfile(path, copy)
    config.args = [str(copy)]


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what protects the grader."""
    if config.getoption("--submission", None) is None:
        return None
    from practical.grading.sandbox import describe

    return f"sandbox: {describe(str(config.getoption('--sandbox')))}"


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """Say what happened to the notebook as a whole."""
    for note in config.stash.get(_NOTES, []):
        terminalreporter.write_line(note)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Return the submission as what has a test for each exercise."""
    if file_path != parent.config.stash.get(_COPY, None):
        return None
    return SubmissionFile.from_parent(parent, path=file_path)


class SubmissionFile(pytest.File):
    """A notebook that was handed in."""

    def collect(self) -> Iterator[pytest.Item]:
        """Grade it, and yield a test for each exercise."""
        from practical.grading.classroom import load_secret
        from practical.grading.sandbox import SandboxError
        from practical.grading.staging import staging
        from practical.grading.submission import grade

        option: Any = self.config.getoption
        student = option("--student") or option("--submission").resolve().parent.name
        try:
            with staging(option("--sandbox")) as staged:
                report = grade(
                    self.path, student=student, secret=load_secret(option("--secret-file")),
                    staged=staged, level=option("--sandbox"),
                )  # fmt: skip
        except (SandboxError, ValueError) as error:
            raise pytest.UsageError(str(error)) from error
        if not report.verdicts:
            raise self.CollectError(" ".join(report.notes))
        self.config.stash.setdefault(_NOTES, []).extend(report.notes)
        for exercise, verdict in report.verdicts.items():
            item = ExerciseItem.from_parent(self, name=exercise)
            item.verdict = verdict
            yield item


class ExerciseItem(pytest.Item):
    """An exercise's verdict."""

    verdict: "Verdict"

    def setup(self) -> None:
        """Have the grader's own failure reported as an error, and not as the submission's."""
        if self.verdict.status == "infrastructure":
            self._end("the grader failed here, and not the answer: ")

    def runtest(self) -> None:
        """Fail unless it passed."""
        if self.verdict.status != "passed":
            self._end()

    def _end(self, why: str = "") -> None:
        # Without a traceback, which would be through the grader.
        pytest.fail(f"{self.verdict.status}: {why}{self.verdict.message}", pytrace=False)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return what the report calls it."""
        from practical.grading.exercises import EXERCISES

        place: Any = self.config.getoption("--submission")
        return place, None, f"{self.name} {EXERCISES[self.name].name}"
