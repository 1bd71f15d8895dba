"""Reading what is handed in, a class's folder, and what is written about it."""

import csv
import errno
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest

from practical.grading import classroom, reports, sandbox
from practical.grading.__main__ import main
from practical.grading.classroom import Graded
from practical.grading.exercises import EXERCISES, QUESTIONS
from practical.grading.handed_in import Student, Submission, students
from practical.grading.process import Process
from practical.grading.release import find_solutions, hidden_lines, release, strip, uncommitted
from practical.grading.session import Session
from practical.grading.staging import staging
from practical.grading.submission import Report, UnreadableError, answers, grade, read, seed
from practical.grading.verdicts import Verdict
from tests.conftest import ROOT
from tests.oracles import refuses

AREA = "def area(fractions, scores):\n    return 0\n"


def write(path, cells, kind="code"):
    new = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    found = nbformat.v4.new_notebook(cells=[new(cell) for cell in cells])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(found))
    return path


def test_a_notebook_of_version_3_is_read(tmp_path):
    old = nbformat.v3.new_notebook(
        worksheets=[
            nbformat.v3.new_worksheet(
                cells=[nbformat.v3.new_code_cell(AREA), nbformat.v3.new_text_cell("html", "words")]
            )
        ]
    )
    path = tmp_path / "old.ipynb"
    path.write_text(nbformat.v3.writes_json(old))
    found = read(path)
    assert found.sources == [AREA]
    assert found.part == "1"


def test_the_notebook_is_known_by_its_exercises(tmp_path):
    second = write(tmp_path / "ExplanationMethods.ipynb", ["def convict(a, b, c):\n    pass"])
    assert read(second).part == "2"
    assert read(write(tmp_path / "x.ipynb", ["<!-- answer 2.A -->"], "markdown")).part == "2"


def test_outputs_are_not_looked_at(tmp_path):
    path = write(tmp_path / "a.ipynb", [AREA])
    content = json.loads(path.read_text())
    content["cells"][0]["outputs"] = [{"output_type": "no such thing", "data": 3}]
    path.write_text(json.dumps(content))
    assert read(path).sources == [AREA]


def test_what_cannot_be_read_is_said(tmp_path):
    (tmp_path / "folder.ipynb").mkdir()
    os.mkfifo(tmp_path / "pipe.ipynb")
    for name in ("folder", "pipe"):
        with pytest.raises(UnreadableError, match="It is not a file"):
            read(tmp_path / f"{name}.ipynb")
    write(tmp_path / "much.ipynb", ["x = 1\n" * 3000] * 30)
    with pytest.raises(UnreadableError, match="540,000 characters of code, and at most 400,000"):
        read(tmp_path / "much.ipynb")
    (tmp_path / "many.ipynb").write_text(json.dumps({"cells": [{}] * 5000}))
    with pytest.raises(UnreadableError, match="It has 5,000 cells, and at most 3,000 are allowed"):
        read(tmp_path / "many.ipynb")


def test_a_huge_cell_is_left_out_and_a_person_told_to_look(tmp_path):
    found = read(write(tmp_path / "a.ipynb", [AREA, f"import zlib\npackage = {'x' * 30000!r}"]))
    assert found.sources == [AREA, ""]
    assert found.notes == [
        "Code cell 2 was left out: it has 30,024 characters, and at most 20,000 are allowed."
    ]
    assert found.flags == ["a huge cell"]
    found = read(write(tmp_path / "a.ipynb", [AREA, "practical.__path__.insert(0, 'mine')"]))
    assert found.flags == ["__path__"]


def test_halves_of_characters_and_pasted_pictures(tmp_path):
    path = write(tmp_path / "a.ipynb", [r"raise ValueError('\ud800')" + "\n" + AREA])
    content = json.loads(path.read_text())
    content["cells"].append(
        {"cell_type": "markdown", "source": "<!-- answer 1.A --> \ud800" + "x" * 30000}
    )
    content["cells"].append({"cell_type": "\ud800", "id": "\ud800", "source": ""})
    path.write_text(json.dumps(content))
    words = answers(read(path), "1")["1.A"]
    assert words.startswith("?xxx")
    assert words.endswith("x [... and 10,001 more]")
    one = graded("ann", words=words)
    for _ in range(2):
        reports.write([one], tmp_path)


def test_cases_are_of_the_secret_the_student_and_the_exercise():
    draws = [
        seed(*given).random()
        for given in (("s", "ann", "1.1"), ("s", "bob", "1.1"), ("t", "ann", "1.1"))
    ]
    draws.append(seed("s", "ann", "1.2").random())
    assert len(set(draws)) == 4
    assert seed("s", "ann", "1.1").random() == draws[0]


def test_the_secret_is_drawn_once_and_is_its_owners(tmp_path):
    path = tmp_path / "new" / "secret.txt"
    secret = classroom.load_secret(path)
    assert len(secret) == 32
    assert classroom.load_secret(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("\n")
    with refuses("the secret's file must not be empty, got .*delete it for a new one"):
        classroom.load_secret(path)


def graded(student="=cmd()", verdicts=None, words="<script>alert(1)</script>"):
    verdicts = verdicts or {
        one: Verdict("passed", "All checks passed.") for one in EXERCISES if one[0] == "1"
    }
    report = Report("1", verdicts, {"1.A": words}, ["A note."])
    return Graded(Student(student, student, [Submission(ROOT, late=True)]), [report])


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_reports(tmp_path):
    broken = {one: Verdict("passed", "") for one in EXERCISES}
    broken["1.4"] = Verdict("infrastructure", "The disk is full.")
    reports.write([graded(), graded("ann", broken, "")], tmp_path)
    first, second = rows(tmp_path / "grades.csv")
    assert first["student"] == "'=cmd()"  # no formula
    assert first["late"] == "late"
    assert (first["1.4"], first["2.1"], first["total"]) == ("5", "0", "40")
    assert first["status"] == "answers to grade: 1.A"
    assert (second["1.4"], second["total"]) == ("", "45")
    assert second["status"] == "not graded: 1.4"
    empty = Graded(Student("bob", "bob", [Submission(ROOT)]), [Report(notes=["It is empty."])])
    reports.write([empty], tmp_path / "other")
    assert rows(tmp_path / "other" / "grades.csv")[0]["status"] == "It is empty."
    assert rows(tmp_path / "statuses.csv")[0]["2.1"] == "missing"
    page = (tmp_path / "feedback" / f"{reports.file_name('=cmd()')}.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "40 of 67 points" in page
    assert "The disk is full" not in (tmp_path / "feedback" / "ann.html").read_text()


def test_points_given_by_hand_are_kept_and_counted(tmp_path):
    reports.write([graded()], tmp_path)
    sheet = rows(tmp_path / "answers.csv")
    assert [row["question"] for row in sheet] == sorted(QUESTIONS)
    by_hand(tmp_path / "answers.csv", "points", "1.5")
    by_hand(tmp_path / "answers.csv", "comment", "=good")
    for _ in range(2):
        reports.write([graded()], tmp_path)
        (row,) = rows(tmp_path / "grades.csv")
        assert (row["1.A"], row["total"], row["status"]) == ("1.5", "41.5", "complete")
        assert rows(tmp_path / "answers.csv")[0]["comment"] == "'=good"
    text = (tmp_path / "answers.csv").read_text().replace("1.5", "2.5")
    (tmp_path / "answers.csv").write_text(text)
    with refuses("points must be a number from 0 to 2 for question 1.A, got '2.5' in row 2"):
        reports.write([graded()], tmp_path)


def by_hand(path, column, value):
    """Write into the sheet's first row, as a person does; 1.A of the first student."""
    sheet = rows(path)
    sheet[0][column] = value
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(sheet[0]))
        writer.writeheader()
        writer.writerows(sheet)


@pytest.mark.parametrize(
    ("before", "after"), [("Because.", "=Since."), ("", "Because."), ("A  word", "")]
)
def test_points_for_another_answer_are_kept_and_a_person_told_to_look(tmp_path, before, after):
    sheet = tmp_path / "answers.csv"

    def written(words):
        reports.write([graded("ann", words=words)], tmp_path)
        (grade,) = rows(tmp_path / "grades.csv")
        row = rows(sheet)[0]
        assert (row["points"], grade["1.A"], grade["total"]) == ("2", "2", "42")
        return row["answer"], row["points are for"], grade["status"]

    reports.write([graded("ann", words=before)], tmp_path)
    by_hand(sheet, "points", "2")
    changed = "answers that changed since they were graded: 1.A"
    shown = after.replace("=", "'=")
    for _ in range(2):
        assert written(after) == (shown, before or "(no answer)", changed)
    assert written(before) == (before, "", "complete")  # a folder of before, by mistake
    assert written(f"{after}\n ") == (f"{shown}\n ", before or "(no answer)", changed)
    by_hand(sheet, "points are for", "")  # somebody looked
    assert written(after) == (shown, "", "complete")


def test_a_sheet_of_before_is_read(tmp_path):
    reports.write([graded("ann")], tmp_path)
    by_hand(tmp_path / "answers.csv", "points", "2")
    sheet = rows(tmp_path / "answers.csv")
    with (tmp_path / "answers.csv").open("w", newline="") as file:
        columns = ["question", "student", "answer", "points", "comment"]
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(sheet)
    reports.write([graded("ann")], tmp_path)
    assert rows(tmp_path / "grades.csv")[0]["status"] == "complete"


def test_no_spreadsheet_loses_points(tmp_path):
    everybody = [graded("007"), graded("ann", words="fine;=HYPERLINK(1);\n=1+1\n- a list")]
    reports.write(everybody, tmp_path)
    sheet = tmp_path / "answers.csv"
    ours = rows(sheet)
    assert ours[1]["answer"] == "fine;'=HYPERLINK(1);\n'=1+1\n- a list"
    ours[0] |= {"points": "2", "comment": "a;b"}
    with sheet.open("w", newline="", encoding="utf-8-sig") as file:  # as Excel does in Sweden
        writer = csv.DictWriter(file, list(ours[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(ours)
    reports.write(everybody, tmp_path)
    assert rows(sheet)[0]["points"] == "2"
    assert rows(tmp_path / "grades.csv")[0]["1.A"] == "2"
    before = sheet.read_text().replace("007", "7")
    sheet.write_text(before)
    with refuses(r"row 2 of .* is about the student '7', who is not among .* turn 007 into 7"):
        reports.write(everybody, tmp_path)
    assert sheet.read_text() == before
    sheet.write_text("student,mark\nann,3\n")
    with refuses(
        "answers.csv must have each of the columns .* got 0 of question. Save it as CSV UTF-8"
    ):
        reports.write(everybody, tmp_path)


def test_gradescope_gets_what_it_wants():
    failed = {"1.1": Verdict("infrastructure", "/home/grader is full")}
    (first, *_) = reports.gradescope(graded(verdicts=failed))["tests"]
    assert "score" not in first
    assert first["output"] == "The grader failed here; this will be graded again."
    found = reports.gradescope(graded(verdicts={"1.2": Verdict("passed", "")} | failed))
    assert found["score"] == 3
    assert "The grader failed at 1.1: the score is of the rest alone" in found["output"]
    found = reports.gradescope(graded())
    assert found["score"] == sum(one["score"] for one in found["tests"]) == 40
    assert {one["status"] for one in found["tests"]} == {"passed"}
    assert {one["number"][0] for one in found["tests"]} == {"1"}
    assert found["output"] == "A note."


@pytest.mark.parametrize(
    ("student", "name"),
    [
        ("ann", "ann"),
        ("../../x", r"_\.\._x-\w{8}"),
        ("a b/c", r"a_b_c-\w{8}"),
        ("..", r"-\w{8}"),
        ("é@kth.se", "é@kth.se"),
        ("x" * 250, r"x{80}-\w{8}"),
    ],
)
def test_a_page_stays_in_its_folder_and_is_one_students(student, name):
    assert re.fullmatch(name, reports.file_name(student))
    assert reports.file_name("Anna Berg") != reports.file_name("Anna_Berg")


def test_strip():
    text = "a\n### BEGIN HIDDEN TESTS\nb\n### END HIDDEN TESTS\nc\n"
    text += "# BEGIN INSTRUCTOR\nd\n# END INSTRUCTOR"
    assert strip(text) == "a\nc\n"
    for wrong in ("# BEGIN INSTRUCTOR\n", "# END INSTRUCTOR\n", text.replace("# END INSTR", "")):
        with refuses("page must have an end for each begin of"):
            strip(wrong, name="page")


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    if not (ROOT / ".git").exists():
        pytest.skip("a release is made of what git knows, and this is no clone")
    out = tmp_path_factory.mktemp("release") / "practical"
    return release(out), out


def test_students_get_nothing_that_they_must_not_see(released):
    archive, folder = released
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"ExplanationMethods.ipynb", "practical/grading/checks.py", "Makefile"} < names
    assert not [name for name in names if name.startswith("notebooks/") and "build" not in name]
    for word in ("attacks", "secret", "instructor", "sandbox", "worker", "test_grading"):
        assert not [name for name in names if word in name], word
    assert len(set(hidden_lines(ROOT))) > 100
    assert not find_solutions(archive)
    with zipfile.ZipFile(archive) as packed:
        inside = {name.removeprefix("practical/") for name in packed.namelist()}
    assert inside == names - {".release"}


@pytest.fixture
def clone(tmp_path):
    """A checkout of the files that git knows, as they lie in this one."""
    if not (ROOT / ".git").exists():
        pytest.skip("a release is made of what git knows, and this is no clone")
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    folder = tmp_path / "checkout"
    for name in names.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def test_a_release_holds_no_work_of_an_instructor(clone, tmp_path, monkeypatch):
    out = tmp_path / "practical"
    notebook = clone / "ExplanationMethods.ipynb"
    blank = notebook.read_bytes()
    solved = jupytext.read(clone / "notebooks" / "ExplanationMethods.py", fmt="py:percent")
    nbformat.write(solved, notebook)  # as an instructor leaves it who tried the exercises
    with refuses("got ExplanationMethods.ipynb with changes. .* restore them: make notebooks"):
        release(out, root=clone)
    assert not out.exists()
    # With a copy elsewhere, and work that was committed by mistake beside files that are released.
    notebook.rename(clone / "docs" / "mine.ipynb")
    for name in ("docs/answers.csv", "tests/ann.ipynb", "practical/.ipynb_checkpoints/a.ipynb"):
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).write_text("somebody's")
    subprocess.run(["git", "add", "-A", "-f"], cwd=clone, check=True)
    (clone / "practical" / "new.py").write_text("")
    archive = release(out, root=clone)
    with zipfile.ZipFile(archive) as packed:
        assert packed.read("practical/ExplanationMethods.ipynb") == blank
        names = " ".join(packed.namelist())
    for word in ("mine.ipynb", "answers.csv", "ann.ipynb", "checkpoints"):
        assert word not in names
    assert uncommitted(clone)[1] == ["practical/new.py"]
    # A line of a solution ends it, wherever it is, also behind JSON's escapes.
    line = next(line for line in hidden_lines(clone) if '"' in line and len(line) > 30)
    before = archive.read_bytes()
    (clone / "docs" / "hint.md").write_text(f"Try `{line}`.")
    subprocess.run(["git", "add", "-A"], cwd=clone, check=True)
    with refuses("must not have a line of a solution, got\n  practical/docs/hint.md: "):
        release(out, root=clone)
    assert archive.read_bytes() == before
    leaky = tmp_path / "leaky.zip"
    with zipfile.ZipFile(leaky, "w") as packed:
        packed.writestr("a.ipynb", json.dumps({"cells": [{"source": ["x\n", f"  {line}\n"]}]}))
    assert find_solutions(leaky, root=clone) == [("a.ipynb", line)]


def test_a_release_is_the_same_each_time_and_removes_nobodys_files(released, tmp_path):
    archive, _ = released
    out = tmp_path / "practical"
    assert release(out).read_bytes() == archive.read_bytes()
    assert release(out).read_bytes() == archive.read_bytes()
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    with refuses("out must be empty, or a release of before, got .*mine"):
        release(other)
    assert (other / "thesis.tex").exists()


def test_the_released_package_works_without_the_rest(released):
    _, folder = released
    code = (
        "import practical, numpy as np\n"
        "def area(fractions, scores):\n    raise NotImplementedError\n"
        "area = practical.check('1.9', area)\n"
        "print(area(np.array([0, 1.0]), np.ones((1, 2))))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.stdout.endswith("[1.]\n"), done.stderr
    assert "the cells below use the package's area" in done.stdout


def test_the_release_executes_its_notebooks_without_their_sources(released, monkeypatch, tmp_path):
    _, folder = released
    spec = importlib.util.spec_from_file_location("released", folder / "notebooks" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    executed = []
    monkeypatch.setattr(build, "_execute", lambda path, *_: executed.append(path) or True)
    assert build.run(None, tmp_path) == 0
    assert executed == [folder / "ExplanationMethods.ipynb", folder / "ModelBias.ipynb"]


needs_bwrap = pytest.mark.usefixtures("sandboxed")
GOOD = (
    "import numpy as np\ndef area(fractions, scores):\n"
    "    return ((scores[:, 1:] + scores[:, :-1]) / 2) @ np.diff(fractions)\n"
)


BLANK = "def area(fractions, scores):\n    raise NotImplementedError\n"
CHECK = "import practical\narea = practical.check('1.9', area)"
ARRANGED = {
    "as it was": [GOOD, CHECK],
    "without its check": [GOOD],
    "with its check before it": [CHECK, GOOD],
    "in one cell with all else": [f"1 / 0\n{BLANK}{CHECK}\n{GOOD}{CHECK}"],
    "in another cell, beside the blank one": [BLANK, CHECK, "x = 1", GOOD, CHECK],
    "twice, the last one right": [GOOD.replace("/ 2", "/ 3"), CHECK, GOOD, CHECK],
    "by another name": [BLANK, GOOD.replace("area", "mine"), CHECK.replace("area)", "mine)")],
    "twice in the notebook, with all else": [GOOD, CHECK, GOOD, CHECK],
}


@pytest.fixture(scope="module")
def staged():
    with staging("none") as folder:
        yield folder


@pytest.mark.parametrize("how", ARRANGED)
def test_a_right_answer_is_found_wherever_it_is(tmp_path, staged, how):
    path = write(tmp_path / "another name.ipynb", ARRANGED[how])
    found = grade(path, student="ann", secret="s", staged=staged, level="none")
    assert found.points["1.9"] == 2, found.verdicts["1.9"]


@needs_bwrap
def test_the_command_grades_a_class_and_does_not_do_so_twice(tmp_path, capsys, monkeypatch):
    write(tmp_path / "class" / "ann" / "a.ipynb", [GOOD])
    write(tmp_path / "class" / "bob" / "b.ipynb", [GOOD.replace("/ 2", "/ 3")])
    arguments = [
        "grade", str(tmp_path / "class"), "--out", str(tmp_path / "out"), "--jobs", "2",
        "--secret-file", str(tmp_path / "secret.txt"), "--gradescope",
    ]  # fmt: skip
    assert main(arguments) == 0
    assert "sandbox: bubblewrap: no network" in capsys.readouterr().out
    ann, bob = rows(tmp_path / "out" / "grades.csv")
    assert (ann["1.9"], bob["1.9"]) == ("2", "0")
    found = json.loads((tmp_path / "out/gradescope/ann/results.json").read_text())
    assert sum(test["score"] for test in found["tests"]) == 2
    before = (tmp_path / "out" / "grades.csv").read_bytes()
    monkeypatch.setattr(classroom, "grade", None)  # nothing is graded again
    assert main(arguments) == 0
    assert (tmp_path / "out" / "grades.csv").read_bytes() == before


def test_stopped_it_begins_nothing_more_and_goes_on_later(tmp_path, monkeypatch):
    for number in range(6):
        write(tmp_path / "class" / f"s{number}" / "a.ipynb", [GOOD])
    everybody = students(tmp_path / "class")
    options = {"secret": "s", "level": "none", "jobs": 1, "progress": False}
    begun = []

    def stops(path, *, student, **_):
        begun.append(student)
        if len(begun) == 3:
            raise KeyboardInterrupt
        time.sleep(0.5)
        return Report("1", {"1.9": Verdict("passed", "")})

    monkeypatch.setattr(classroom, "grade", stops)
    with pytest.raises(KeyboardInterrupt):
        classroom.grade_all(everybody, tmp_path / "out", **options)
    assert len(begun) < 6
    again = classroom.grade_all(everybody, tmp_path / "out", **options)
    assert all(one.reports[0].points == {"1.9": 2} for one in again)
    assert len(begun) == 7  # the third's again, and nobody else's


def test_without_a_sandbox_nothing_is_graded_and_the_way_out_is_said(tmp_path, monkeypatch, capsys):
    write(tmp_path / "class" / "ann" / "a.ipynb", [GOOD])
    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = ["grade", str(tmp_path / "class"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--secret-file", str(tmp_path / "secret.txt")]) == 1
    error = capsys.readouterr().err
    assert "There is no sandbox: bwrap and prlimit" in error
    assert "sudo apt install bubblewrap" in error
    assert "--sandbox=none" in error


@needs_bwrap
@pytest.mark.slow
def test_the_solutions_have_all_points_and_the_blank_notebooks_none(tmp_path):
    for source in ROOT.glob("notebooks/[A-Z]*.py"):
        for student in ("blank", "solved"):
            (tmp_path / "class" / student).mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / f"{source.stem}.ipynb", tmp_path / "class" / "blank")
        solved = jupytext.read(source, fmt="py:percent")
        nbformat.write(solved, tmp_path / "class" / "solved" / f"{source.stem}.ipynb")
    graded = classroom.grade_all(
        students(tmp_path / "class"), tmp_path / "out", secret="s", progress=False
    )
    reports.write(graded, tmp_path / "out")
    points = {one.id: str(one.points) for one in EXERCISES.values()}
    blank, solved = rows(tmp_path / "out" / "grades.csv")
    assert {one: blank[one] for one in points} == dict.fromkeys(points, "0")
    assert {one: solved[one] for one in points} == points
    assert (blank["total"], solved["total"]) == ("0", str(sum(map(int, points.values()))))
    blank, solved = rows(tmp_path / "out" / "statuses.csv")
    assert {blank[one] for one in points} == {"blank"}
    assert {solved[one] for one in points} == {"passed"}
    assert {report.part for one in graded for report in one.reports} == {"1", "2"}


@needs_bwrap
def test_pytest_grades_one(tmp_path):
    path = write(tmp_path / "ann" / "a.ipynb", [GOOD, "import os\nos._exit(0)"])
    for name in ("conftest.py", "__init__.py"):  # which pytest would run, here and not there
        (path.parent / name).write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--submission", str(path),
            "--secret-file", str(tmp_path / "secret.txt"),
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "sandbox: bubblewrap" in done.stdout
    assert "11 failed, 1 passed" in done.stdout
    assert "missing: There is no function `occlusion`" in done.stdout
    assert "Code cell 2 was left out: it ended its process." in done.stdout
    assert "Traceback" not in done.stdout
    assert not (tmp_path / "run").exists()
    none = subprocess.run(
        [sys.executable, "-m", "pytest", "--submission", str(tmp_path / "none.ipynb")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert none.returncode == 4
    assert "--submission must be a notebook, a file, got" in none.stderr


def test_pytest_reports_the_graders_own_failure_as_an_error(tmp_path):
    path = write(tmp_path / "a.ipynb", [GOOD])
    (tmp_path / "fails.py").write_text(
        "from practical.grading import submission\n"
        "from practical.grading.verdicts import Verdict\n"
        "found = {'1.7': Verdict('infrastructure', 'The disk is full.'),\n"
        "    '1.8': Verdict('wrong', ''), '1.9': Verdict('passed', '')}\n"
        "submission.grade = lambda *_, **__: submission.Report('1', found)\n"
    )
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-p", "fails", "-p", "no:cacheprovider", "--submission",
            str(path), "--secret-file", str(tmp_path / "secret.txt"), "--sandbox", "none",
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert "1 failed, 1 passed, 1 error" in done.stdout, done.stderr
    words = "infrastructure: the grader failed here, and not the answer: The disk is full."
    assert words in done.stdout


def test_who_was_too_slow_beside_others_is_graded_again_alone(tmp_path, monkeypatch):
    for student in ("ann", "bob"):
        write(tmp_path / "class" / student / "a.ipynb", [GOOD])
    calls = []

    def slow(path, *, student, **_):
        calls.append(student)
        late = student == "ann" and calls.count("ann") == 1
        return Report("1", {"1.9": Verdict("timed out" if late else "passed", "")})

    monkeypatch.setattr(classroom, "grade", slow)
    everybody = students(tmp_path / "class")
    options = {"secret": "s", "level": "none", "jobs": 2, "progress": False}
    for _ in range(2):
        found = classroom.grade_all(everybody, tmp_path / "out", **options)
        assert [one.reports[0].points for one in found] == [{"1.9": 2}] * 2
    assert sorted(calls) == ["ann", "ann", "bob"]


def test_there_is_a_worker_for_each_core_that_may_be_used(monkeypatch, capsys):
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    with pytest.raises(SystemExit):
        main(["grade", "--help"])
    assert "workers at once (default: 1)" in " ".join(capsys.readouterr().out.split())


def test_one_notebook_never_stops_the_class(tmp_path, monkeypatch):
    for student in ("ann", "eve"):
        write(tmp_path / "class" / student / "a.ipynb", [GOOD])

    def fails(path, *, student, **_):
        if student == "eve":
            raise KeyError("of the grader's own")
        return Report("1", {"1.9": Verdict("passed", "")})

    monkeypatch.setattr(classroom, "grade", fails)
    everybody = students(tmp_path / "class")
    found = classroom.grade_all(everybody, tmp_path, secret="s", level="none", progress=False)
    assert [one.reports[0].points for one in found] == [{"1.9": 2}, {}]
    assert {one.status for one in found[1].reports[0].verdicts.values()} == {"infrastructure"}


def test_a_grade_is_of_the_graders_own_failure_when_it_is(tmp_path, monkeypatch):
    from practical.grading import submission

    def fails(*_, **__):
        raise OSError("the disk is full")

    monkeypatch.setattr(submission.Session, "exercises", fails)
    path = write(tmp_path / "a.ipynb", [GOOD])
    found = submission.grade(path, student="ann", secret="s", staged=tmp_path)
    assert {one.status for one in found.verdicts.values()} == {"infrastructure"}
    assert found.points == {}


def test_a_file_that_the_grader_cannot_read_is_graded_when_it_can(tmp_path, monkeypatch):
    bad = write(tmp_path / "class" / "ann" / "b-2.ipynb", [GOOD])
    write(tmp_path / "class" / "ann" / "a-1.ipynb", [GOOD])  # an older one does not count for it
    everybody = students(tmp_path / "class")
    options = {"secret": "s", "level": "none", "jobs": 1, "progress": False}
    opened, broken = Path.open, [bad]

    def fails(path, *arguments, **named):
        if path in broken:
            raise OSError(errno.EIO, "Input/output error")
        return opened(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", fails)
    for _ in range(2):
        (found,) = classroom.grade_all(everybody, tmp_path / "out", **options)
        reports.write([found], tmp_path / "out")
        (row,) = rows(tmp_path / "out" / "grades.csv")
        assert {row[one] for one in EXERCISES} == {""}
        assert row["status"] == f"not graded: {' '.join(EXERCISES)}"
    broken.clear()
    (found,) = classroom.grade_all(everybody, tmp_path / "out", **options)
    assert found.reports[0].points["1.9"] == 2


def test_a_worker_that_dies_before_the_first_cell_is_the_graders_failure(staged, monkeypatch):
    send = Process.send

    def dies(process, *arguments):
        process._process.kill()  # as the host does when its memory is short
        process._process.wait()
        send(process, *arguments)

    def status(**limits):
        given = replace(sandbox.Limits(), **limits)
        exercises = {"1.9": EXERCISES["1.9"]}
        with Session([GOOD], exercises, staged=staged, level="none", limits=given) as session:
            return session.judge(lambda _: np.random.default_rng(0))["1.9"]

    assert status().status == "passed"
    monkeypatch.setattr(Process, "send", dies)
    found = status()
    assert found.status == "infrastructure"
    assert "The worker did not begin" in found.message
    found = status(submission=-1.0)  # no time is left, and that is told first
    assert found == ("timed out", "The whole submission took more than -1 seconds.", "")


def test_with_nothing_changed_no_notebook_is_parsed(tmp_path, monkeypatch):
    for student in ("ann", "bob"):
        write(tmp_path / "class" / student / "a.ipynb", [GOOD, f"# {student}"])
    (tmp_path / "class" / "ann" / "broken.ipynb").write_text("{")
    monkeypatch.setattr(classroom, "grade", lambda *_, **__: Report("1", {}))
    everybody = students(tmp_path / "class")
    options = {"secret": "s", "level": "none", "jobs": 1, "progress": False}
    first = classroom.grade_all(everybody, tmp_path / "out", **options)
    monkeypatch.setattr(classroom, "read", None)
    monkeypatch.setattr(classroom, "grade", None)
    assert classroom.grade_all(everybody, tmp_path / "out", **options) == first
    write(tmp_path / "class" / "bob" / "a.ipynb", [GOOD, "# another"])
    with pytest.raises(TypeError, match="not callable"):  # what changed is
        classroom.grade_all(everybody, tmp_path / "out", **options)
