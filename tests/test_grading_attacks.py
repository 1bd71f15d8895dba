"""A class of cheats and accidents, graded as any class is: nobody gains, nobody else loses."""

import dataclasses
import shutil
import textwrap

import nbformat
import pytest

from practical.grading import classroom, sandbox
from practical.grading.exercises import EXERCISES
from practical.grading.handed_in import students
from tests.attacks.zoo import (
    CELLS,
    FILES,
    FUNCTIONS,
    HONEST,
    IMPORTS,
    PROMISES,
    STYLES,
    function,
)

pytestmark = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bubblewrap is not installed: apt install bubblewrap"
)
LIMITS = dataclasses.replace(
    sandbox.Limits(),
    cell=6.0,
    call=15.0,
    submission=240.0,
    memory=1 << 30,
    disk=64 << 20,
    processes=200,
)
FIRST = [one for one in EXERCISES.values() if one.id[0] == "1"]
# Cheat -> the notebook that it is in, and the exercise whose answer it is.
PLACED = {
    name: (f"functions-{number // len(FIRST)}", FIRST[number % len(FIRST)].id)
    for number, name in enumerate(FUNCTIONS)
}


def notebook(cells: list[str]) -> str:
    found = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    return nbformat.writes(found)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Return everybody's report, by student."""
    folder = tmp_path_factory.mktemp("class")
    cheats: dict[str, list[str]] = {}
    for name, (student, exercise) in PLACED.items():
        cell = function(EXERCISES[exercise].name, FUNCTIONS[name])
        cell += f"\npractical.check({exercise!r}, {EXERCISES[exercise].name})"
        cheats.setdefault(student, [IMPORTS]).append(cell)
    for student, cells in cheats.items():
        (folder / f"{student}.ipynb").write_text(notebook(cells))
    for number, (cell, _) in enumerate(CELLS.values()):
        (folder / f"cells-{number}.ipynb").write_text(notebook([IMPORTS, cell, HONEST]))
    for number, content in enumerate(FILES.values()):
        (folder / f"files-{number}.ipynb").write_bytes(content)
    for number, promise in enumerate(PROMISES.values()):
        # Answers right only if nothing was raised.
        cell = f"broken = 'it was not looked'\n{IMPORTS}\n{promise}\nbroken = ''\n"
        cell = "try:\n" + textwrap.indent(cell, "    ") + "except BaseException as error:\n"
        cell += "    broken = repr(error)"
        honest = HONEST.replace("    return", "    assert not broken, broken\n    return")
        (folder / f"promises-{number}.ipynb").write_text(notebook([cell, honest]))
    (folder / "styles.ipynb").write_text(notebook([IMPORTS, *STYLES.values()]))
    (folder / "honest.ipynb").write_text(notebook([IMPORTS, HONEST]))
    (folder / "link.ipynb").symlink_to(folder / "honest.ipynb")
    graded = classroom.grade_all(
        students(folder), tmp_path_factory.mktemp("out"), secret="of this test",
        limits=LIMITS, again=False, progress=False,
    )  # fmt: skip
    return {one.student.id: one.reports for one in graded}


@pytest.mark.slow
def test_the_honest_ones_marks_are_untouched(reports):
    (report,) = reports["honest"]
    assert report.verdicts["1.9"].status == "passed"
    assert report.points == {one.id: 2 if one.id == "1.9" else 0 for one in FIRST}
    assert not report.notes


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_cheating_function_gains_nothing(reports, name):
    student, exercise = PLACED[name]
    (report,) = reports[student]
    assert report.verdicts[exercise].status in ("wrong", "raised", "crashed", "timed out"), (
        report.verdicts[exercise]
    )
    assert sum(report.points.values()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_breaks_nothing_but_itself(reports, name):
    number = list(CELLS).index(name)
    (report,) = reports[f"cells-{number}"]
    statuses = {one: verdict.status for one, verdict in report.verdicts.items()}
    assert "infrastructure" not in statuses.values(), report.verdicts
    if CELLS[name][1]:
        assert statuses["1.9"] == "passed", report
    assert sum(report.points.values()) <= EXERCISES["1.9"].points


@pytest.mark.slow
@pytest.mark.parametrize("name", PROMISES)
def test_the_sandbox_is_what_it_is_said_to_be(reports, name):
    (report,) = reports[f"promises-{list(PROMISES).index(name)}"]
    assert report.verdicts["1.9"].status == "passed", report


@pytest.mark.slow
@pytest.mark.parametrize("exercise", STYLES)
def test_a_right_answer_is_right_in_whatever_style(reports, exercise):
    (report,) = reports["styles"]
    assert report.verdicts[exercise].status == "passed", report.verdicts[exercise]


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_notebook_gets_nothing_and_is_told_why(reports, name):
    (report,) = reports[f"files-{list(FILES).index(name)}"]
    assert not report.verdicts
    assert report.notes[0].startswith(("It is not", "The file is empty", "It cannot"))


@pytest.mark.slow
def test_a_link_is_not_followed(reports):
    (report,) = reports["link"]
    assert report.notes == ["It is a link, and not a file."]
